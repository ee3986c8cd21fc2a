"""Codecs: bytes to frozen messages and back; no state machines, no sockets, no clock.

Glossary
    header      the fixed first bytes of every message
    body        what follows the header; its length stands in the header
    message     a decoded body: a frozen class whose fields have been checked
    leftover    bytes behind the last message that a codec was asked for
    vector      bytes written by hand beside the message they mean, in ``tests/vectors``
"""

__all__: list[str] = []
