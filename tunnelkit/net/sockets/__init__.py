"""Raw sockets: readiness, opening them by a `Decision`, carriers, and relays.

poll       readiness, one nested epoll for each reactor
tcp, udp   listening, accepting, connecting
carrier    the byte stream that carries a tunnel connection: its contract and its kinds
relay      two byte streams joined, as a middle does; splice moves them in the kernel
context    what everything in one process shares: poller, buffers, budget
"""

__all__: list[str] = []
