"""LSTP without sockets: the setup, the mux between two ends, and the middle.

setup          what an end says in clear, and compares again inside TLS
mux            channels over messages; tunnel, actions, channel and datagrams are its parts
middle         pairs ends that wait; cascade dials the next middle
events         what only LSTP reports
"""

__all__: list[str] = []
