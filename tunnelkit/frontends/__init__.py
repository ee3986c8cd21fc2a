"""What applications talk to at one end of a tunnel.

Glossary
    front end     a port or socket here whose clients get channels through the tunnel
    opener        the tunnel as front ends see it: ``open(destination, side)``
"""

__all__: list[str] = []
