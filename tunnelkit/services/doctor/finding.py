"""What `tunnelkit doctor` has found at one step, what it means, and what to do."""

from __future__ import annotations

import enum
import re

import attrs

from tunnelkit.policy.printable import printable


class State(enum.Enum):
    """How it is."""

    OK = "ok"
    WARNING = "warning"
    WRONG = "WRONG"


@attrs.frozen
class Finding:
    """One step."""

    step: str
    """What was tried, e.g. ``tcp``."""
    state: State
    found: str
    """What came back, in words."""
    seconds: float | None = None
    """How long it took; None: no time."""
    means: str = ""
    do: str = ""
    """The remedy."""


HERE = frozenset({"settings", "libraries", "identity", "revocation list", "ports"})
"""Steps that no other machine has to do with."""


def wrong(step: str, error: object, seconds: float | None = None) -> Finding:
    """What came back is an error: what is known of such ones is added."""
    text = printable(" ".join(str(error).split()), 1024).replace("\\\\", "\\")
    known = _OF_SETTINGS if step in HERE else _OF_OTHERS
    for pattern, means, do in (*_OF_CERTIFICATES, *known):
        if re.search(pattern, text):
            return Finding(step, State.WRONG, text, seconds, means, do)
    return Finding(step, State.WRONG, text, seconds)


_OF_CERTIFICATES = (
    (
        r"own key|that is this end's own",
        "both ends use the same identity",
        "issue one for each: tunnelkit keys issue NAME",
    ),
    (
        r"not yet valid|before its time|is not valid before",
        "the clock here is behind, or there it is ahead",
        "set the clocks: compare `date -u` on both machines",
    ),
    (
        r"expired",
        "the certificate has had its time, or a clock is wrong",
        "tunnelkit keys renew NAME; compare `date -u` on both machines",
    ),
    (
        r"revoked",
        "the certificate has been revoked",
        "tunnelkit keys issue a new identity; if it was revoked by mistake, under a new name",
    ),
)
_OF_SETTINGS = (
    (
        r"chmod 600|others can read|others may",
        "others could use the key",
        "do what is said; it is nobody else's",
    ),
    (r"in use", "another program has the port: this role itself, if it runs", "stop it first"),
    (
        r"[Nn]o such file|cannot be read|not there",
        "the file is not where it is said to be, or may not be read by this user",
        "correct the path or its owner",
    ),
    (
        r"is missing: expected",
        "something that this role needs is not said",
        "add what is expected",
    ),
    (r"[:;] expected ", "the setting cannot be used as it is", "give what is expected"),
)
_OF_OTHERS = (
    # Of who introduces.
    (
        r"ends the TLS between|does not say what this TLS",
        "somebody on the way, perhaps the server itself, can read what the two ends say",
        "do not use this way; ask who runs the server what ends TLS there",
    ),
    (
        r"not-present",
        "the one that is asked for is not there",
        "start it; compare name and resource: --target and --resource here, --publish there",
    ),
    (
        r"not-allowed: (no rule|the login)",
        "the server's policy does not allow it, or the login is wrong",
        "ask who runs the server: tunnelkit policy explain says which rule is missing",
    ),
    # On the way.
    (
        r"no such host|resolves to no address|not known|resolver",
        "this machine's resolver does not know the name",
        "look for a slip in the name; ask the resolver (getent hosts NAME); if only a proxy can "
        "resolve it, dial through the proxy: --via",
    ),
    (
        r"(proxy|hop|via|SOCKS|CONNECT).*(refused|not allowed|403|forbidden)",
        "the network proxy was reached, and does not let this through",
        "ask who runs the proxy to allow this host and port, or use port 443",
    ),
    (
        r"407|user name and password|authentication",
        "the network proxy wants to know who this is",
        "give --via URL with a user, and its password in --via-password-file",
    ),
    (
        r"connection refused|Connection refused",
        "the machine answers, and nobody listens at that port",
        "start the other party, or correct the port",
    ),
    (
        r"unreachable|No route",
        "no network leads there from here",
        "look at the routes of this machine, or dial through a proxy: --via",
    ),
    (
        r"timed out|no answer|in time|No answer",
        "nothing came back: a firewall drops it, or the machine is down",
        "try another port (443), or dial through the network's proxy: --via",
    ),
    # Who answers there.
    (
        r"SSH|1397966893",
        "an SSH server listens there, and no party of a tunnel",
        "correct host and port",
    ),
    (
        r"HTTP|1213486160|web server",
        "a web server listens there, and no party of a tunnel",
        "correct host and port",
    ),
    (
        r"does not speak TLS|wrong version number",
        "what listens there speaks something else",
        "correct host and port; a gate is dialled with --gate, a middle with --middle",
    ),
    (
        r"a message of type|TLS|setup.*expected|in setup",
        "what listens there speaks another protocol than is expected",
        "correct host and port; a gate is dialled with --gate, a middle with --middle",
    ),
    (
        r"middle says not-allowed|admission|token",
        "the middle admits only who has its token, or comes from certain networks",
        "give --admission-token-file with the token of the middle",
    ),
    (
        r"middle says limit|too many",
        "the other party has no room at the moment",
        "try again later; look at its limits",
    ),
    # Who the other end is.
    (
        r"the other end is .*, expected is|not an allowed peer",
        "the certificate is good, and belongs to somebody else",
        "give the name that the certificate has: --peer; or correct where this end dials",
    ),
    (
        r"perhaps because of the name or key in it",
        "the other end does not take this end in: it knows its CA, and not its name or key",
        "look at --peer and --peer-pin at the other end, and at its log",
    ),
    (
        r"it says 'unknown ca'|does not accept this end's certificate|bad certificate",
        "the other end trusts another CA than the one of this identity, or does not name this end",
        "issue both identities from one `keys init`; look at --peer at the other end",
    ),
    (
        r"not issued by this end|not trusted|unable to get|self.signed|unknown authority|issuer",
        "the other end's certificate is of another CA",
        "issue both identities from one `keys init`",
    ),
    (
        r"no_application_protocol|no application protocol|no common protocol|which no protocol",
        "the two ends have no channel protocol in common",
        "use an end of the same kind, or give --protocol at both",
    ),
    (
        r"setup-mismatch|not what came in clear",
        "somebody on the way has changed the setup",
        "do not use this way: what the middle says is not what the other end has said",
    ),
    (
        r"closed the connection|ended the connection",
        "the other side hung up without a word: it does not take this end in",
        "look at its log; look at --peer and the revocation list there",
    ),
)
"""(what the error looks like, what it means, what to do); the first that fits."""
