"""The parties of a tunnel, wired from the layers below; nothing here does any work itself.

Glossary
    role        one party of one protocol: one twistd subcommand, one process
    ready       the role's ports are open and it has begun to do what it is for
"""
