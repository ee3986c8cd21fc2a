"""Sockets, TLS, timers, channels and relays: where the sans-IO core meets the network.

poll      readiness of raw sockets, one nested epoll per reactor
sockets   listening, accepting and connecting, only with a `Decision`
carrier   the byte stream that carries a tunnel connection
tls       TLS between ends, driven by hand (tls_context: trust; tls_calls: the library)
splice    bytes from socket to socket without lifting them into Python
relay     two byte streams joined, as a middle does (carrier_relay: without sockets)
lstp_middle  the sockets of an LSTP middle around its lobby

A *handler* is told by a poller that its socket can be read or written; a
*sink* is told by a carrier what arrived. *Near* is this side, *far* the other.
"""
