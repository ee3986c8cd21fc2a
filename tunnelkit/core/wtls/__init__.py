"""The WTLS-style tunnel without sockets: CoAP, the operator's proxy, the domain proxy.

========================  ======================================================
`mapping`                 one device on its way to a domain proxy: its states
`gateway`                 all mappings of an operator's proxy (W3, W4, W5, W7)
`domain`                  what a domain proxy knows of mappings (W7)
`mirror`                  learning from a non-secure mirror (W3)
`coap_server`             one association's CoAP, as the proxy has it (W2)
`coap_client`             the same as a device has it
`coap_blocks`             bodies in blocks (RFC 7959)
`http_mapping`            CoAP requests as HTTP, and back (RFC 7252, 10.1)
========================  ======================================================
"""
