"""TLS between two ends, driven by hand over whole batches.

context    whom to trust, and with which keys
engine     one TLS session, bytes in and bytes out; openssl_calls is the library below it
stream     a TLS session on a carrier
"""

__all__: list[str] = []
