"""What applications talk to at either end of a tunnel.

Glossary
    front end     a port or socket here whose clients get channels through the tunnel
    opener        the tunnel as front ends see it: ``open(destination, side)``
    request       a channel that the far side asks for
    egress        what answers requests: it connects to what the policy allows
    dial          one request on its way to a connected socket
"""
