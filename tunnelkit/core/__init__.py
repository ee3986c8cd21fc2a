"""Sans-IO protocol cores: events in, commands out; no sockets, clock, logging or callbacks.

Glossary
    event       what a core reports after ``receive`` or a verb
    verb        what the local side wishes: open, send, finish, abort
    deadline    the time at which a core wants to be called again
    credit      how many bytes may be sent before the receiver grants more
    path        what lies between two ends, as seen from acknowledgements
"""
