"""The Secure Proxy without sockets: a server that introduces clients, and the clients' side of it.

server         the Communication Server; reception lets clients in, presence publishes and looks up,
               introductions bring two together, sessions go from there to their end
connection     one connection to it; session: one session; commands: what the server wants done
registry       who is present with what; strangers holds browsers back; accounts and limits count
policy         who may do what, and the rule that says so; names: hosts
client         a client's control connection; dialogue: its connections for sessions
prologue       what two clients say to each other first
"""

__all__: list[str] = []
