"""Who may do what: destinations, allow rules, identities, the access log.

Glossary
    destination   what a channel leads to, e.g. ``tcp:HOST:PORT``
    rule          one ``--allow PATTERN``
    policy        all rules of an end; the only maker of a `Decision`
    special       an address that no rule admits by accident, e.g. loopback
    identity      an end's key, certificate, CA and rendezvous secret in one file
    authority     the private CA that issued the identities of a set of ends
    pin           SHA-256 of a public key that is trusted without a CA
    own listener  a port that this very process listens on
"""
