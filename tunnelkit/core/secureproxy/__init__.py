"""The Secure Proxy without sockets: a server that introduces clients, and the clients' side of it::

    server         the Communication Server; reception lets clients in, presence publishes and
                   looks up, introductions bring two together, sessions go on to their end
    connection     one connection to it; session: one session; commands: what is to be done
    registry       who is present with what; strangers: holds browsers back; accounts and limits
    policy         who may do what, and the rule that says so; names: hosts
    client         a client's control connection; dialogue: its connections for sessions
    prologue       what two clients say to each other first

Begin with ``server``, or with ``client`` for the other side.
"""

__all__: list[str] = []
