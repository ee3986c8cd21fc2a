"""The WTLS-style tunnel on sockets.

coap_association   a device's association, in which it asks a proxy (CoAP over DTLS)
device_port        a proxy's UDP port: DTLS with devices, and what else comes there
"""

__all__: list[str] = []
