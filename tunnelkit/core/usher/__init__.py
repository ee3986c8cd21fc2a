"""Usher without sockets: records in, events out.

mux        sessions over records; receiver and actions are its parts
session    the states of one session
ids        which session ids are free
texts      destinations and reasons as records carry them
"""

__all__: list[str] = []
