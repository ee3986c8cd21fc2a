"""Where the clients of Communication Servers are: what `IRegistry` promises, kept somewhere.

Glossary
    lease       one client's presence at one server, for so long as it is renewed
    generation  a fencing number: the lease of a name that has the highest is the one that counts
"""
