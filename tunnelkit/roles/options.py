"""The options of the roles; what several of them have is declared once.

The options of front ends are not here: each brings its own, see `tunnelkit.frontends.registry`.
"""

from __future__ import annotations

from tunnelkit.net.sockets.context import HALF_CLOSED_LIMIT
from tunnelkit.policy.settings import Option

KEEPING = (
    Option(
        "state-dir",
        "DIR",
        "in which the numbers of revocation lists and of meetings are remembered (default: the "
        "identity's)",
    ),
    Option(
        "identity-mode",
        "private|any",
        ", any: the identity may be a file of another user, which others can read (default: "
        "private)",
    ),
)

TERMS = (
    *KEEPING,
    Option(
        "eku",
        "both|any",
        ", what certificates must be for, both: TLS clients and servers; any: whatever their CA "
        "says (default: both)",
    ),
)

CRL = Option(
    "crl",
    "FILE",
    "with revoked certificates (default: revoked.crl next to the identity, if it is there)",
    live=True,
    files="*.crl",
)
NO_CRL = Option("no-crl", "", "go by no revocation list, also if there is one", live=True)

END = (
    Option("identity", "FILE.pem", "that `tunnelkit keys issue` made for this end", files="*.pem"),
    *TERMS,
    Option(
        "peer",
        "NAME",
        "that the other end's certificate must have",
        repeatable=True,
        commas=True,
    ),
    Option(
        "peer-pin",
        "[NAME=]sha256:HEX",
        ", the fingerprint of the other end's key, instead of --peer and a CA, and what it is "
        "called in rules and logs",
        repeatable=True,
        commas=True,
        live=True,
    ),
    Option(
        "paired",
        "",
        "let both keys be renewed while the ends run (`tunnelkit pair --again`): in the files of "
        "--identity and --config; and count how often the two meet, so that a copied key shows",
    ),
    CRL,
    NO_CRL,
    Option(
        "protocol",
        "NAME",
        "of a channel protocol to speak, the best one first (default: that of the role)",
        repeatable=True,
        commas=True,
    ),
    Option(
        "allow",
        "PATTERN",
        "of what the other end may reach from here, e.g. tcp:127.0.0.1:9000",
        repeatable=True,
        live=True,
    ),
    Option(
        "from",
        "NETWORK",
        "whose programs may enter the ports opened here",
        repeatable=True,
        live=True,
    ),
    Option(
        "map",
        "HOST:PORTS=DESTINATION",
        ", what a request of the other end for that name and port means here, e.g. "
        "db.corp.example:5432=tcp:127.0.0.1:5432",
        repeatable=True,
        live=True,
    ),
    Option(
        "resolver",
        "own|system",
        ": own reads /etc/hosts and /etc/resolv.conf, system asks whatever /etc/nsswitch.conf "
        "names, in threads (default: own)",
    ),
    Option(
        "keepalive",
        "SECONDS",
        "after which this end says something through a tunnel that is silent (default: 10, and "
        "less by itself where the way cuts what is idle)",
    ),
    Option(
        "half-closed-limit",
        "SECONDS",
        "after which a channel is reset whose one direction is over and where nothing moves "
        f"(default: {HALF_CLOSED_LIMIT})",
    ),
    Option(
        "dns-server",
        "ADDRESS[:PORT]",
        "of a resolver that answers for service:@dns (default: those of /etc/resolv.conf)",
        repeatable=True,
    ),
    Option(
        "forwards-allow",
        "ADDRESS:PORTS",
        "on which ports may be opened from its page (default: loopback)",
        repeatable=True,
    ),
    Option(
        "forwards-file",
        "FILE",
        "in which ports that were opened from its page are kept",
        files="*",
    ),
)
"""What every end of every protocol has: who it is, and its policy."""

_VIA_PASSWORD_FILE = Option(
    "via-password-file", "FILE", "with the last proxy's password", files="*"
)

WAY_OUT = (
    Option(
        "via",
        "URL",
        "of a proxy on the way out, socks4://, socks4a://, socks5://, http:// or https://, several "
        "for a chain; or `pac:FILE` or `pac:URL` for what a PAC file says; or `none`, or `auto` "
        "for what the environment says (default: none)",
        repeatable=True,
    ),
    _VIA_PASSWORD_FILE,
)

_MANUAL = Option("manual", "", "connect only when `tunnelkit connect` says so; needs --control")

DIALLING = (*WAY_OUT, _MANUAL)
"""What an end has that dials."""

_ADMISSION_TOKEN_FILE = Option(
    "admission-token-file",
    "FILE",
    "with the token that the middle asks for",
    live=True,
    files="*",
)

TUNNEL_END = (
    *(option for option in END if option.name != "keepalive"),
    _MANUAL,
    Option("rendezvous", "NAME", "of the way in which the two ends meet"),
)
"""What an end has that meets others by any rendezvous, beside the options of that one."""

_MIDDLE = Option("middle", "HOST:PORT", "of the middle at which the two ends meet")
_TUNNEL = Option("tunnel", "NAME", "of the tunnel, the same at both ends")
_GATE = Option("gate", "HOST:PORT", "of the gate, or of a bastion that relays to it")

LSTP_MEETING = (
    _MIDDLE,
    _TUNNEL,
    *WAY_OUT,
    _ADMISSION_TOKEN_FILE,
    Option("serve", "", "wait at the middle for the others, as a server end does"),
)
"""What it takes to meet at a middle, whatever is spoken then."""

USHER_MEETING = (
    _GATE,
    Option("await", "[HOST:]PORT", "where the others come to, instead of --gate"),
    *WAY_OUT,
)
"""What it takes to dial a gate or to be one, whatever is spoken then."""

LSTP_END = (
    *END,
    *DIALLING,
    _MIDDLE,
    Option(
        "listen",
        "[HOST:]PORT",
        ", instead of --middle: be the middle too, where the other end dials",
        repeatable=True,
    ),
    Option(
        "admit",
        "NETWORK",
        "from which the other end may come then (default: all)",
        repeatable=True,
        live=True,
    ),
    _TUNNEL,
    _ADMISSION_TOKEN_FILE,
    Option(
        "publish",
        "NAME=HOST:PORT[,until=TIME][,listen=PORT]",
        ", a service here that the other end may use until then (ISO 8601 or +SECONDS), and the "
        "port there that it may open for it",
        repeatable=True,
        live=True,
    ),
    Option("both", "", "be client end and server end at once"),
    Option("connections", "N", "connections that carry the tunnel's channels (default: 1)"),
    Option("max-channels", "N", "channels open at once (default: 1024)"),
    Option(
        "compress",
        "",
        "compress what the channels carry, if the other end says --compress too",
    ),
)
"""What both ends of LSTP tunnels have in common."""

LSTP_MIDDLE = (
    Option(
        "listen",
        "[HOST:]PORT",
        "on which ends are awaited (PORT: all IPv4 addresses)",
        repeatable=True,
    ),
    Option("name", "NAME", "of this middle in topologies (default: the host's)"),
    Option(
        "next",
        "HOST:PORT",
        "of another middle, where partners are looked for that are not here",
    ),
    Option("via", "URL", "of a proxy on the way to the next middle, as for ends", repeatable=True),
    _VIA_PASSWORD_FILE,
    Option(
        "admit",
        "NETWORK",
        "from which ends are admitted (default: all)",
        repeatable=True,
        live=True,
    ),
    Option(
        "admission-token-file",
        "FILE",
        "with the token that ends have to show",
        live=True,
        files="*",
    ),
    Option("max-waiting", "N", "ends that may wait at once (default: 10000)"),
    Option("max-waiting-per-address", "N", "of those, from one address (default: 10000)"),
    Option("max-in-setup", "N", "connections at once whose setup is not complete (default: 200)"),
)

USHER_GATE = (
    *END,
    Option(
        "listen",
        "[HOST:]PORT",
        "on which portals are awaited (PORT: all IPv4 addresses)",
        repeatable=True,
    ),
    Option(
        "admit",
        "NETWORK",
        "from which portals are admitted (default: all)",
        repeatable=True,
        live=True,
    ),
    Option(
        "relay",
        "NAME=HOST:PORT",
        "of a gate further inside; portals that ask for NAME (--server-name) are passed on to "
        "it, unopened",
        repeatable=True,
    ),
    Option(
        "bastion",
        "NETWORK",
        "of bastions that relay to this gate: they limit who comes through them, by address",
        repeatable=True,
        live=True,
    ),
    Option(
        "onward",
        "HOST:PORT",
        "of another gate, which is asked for what --onward-for names",
    ),
    Option("onward-peer", "NAME", "that the certificate of that gate must have"),
    Option(
        "onward-for",
        "PATTERN",
        "of what portals get through that gate, as for --allow, e.g. 'tcp:*.b.example:22,443'",
        repeatable=True,
        live=True,
    ),
    Option(
        "via",
        "URL",
        "of a proxy on the way to that gate, as for portals",
        repeatable=True,
    ),
    _VIA_PASSWORD_FILE,
    Option("max-channels", "N", "sessions that one portal may have open at once (default: 10000)"),
)

USHER_PORTAL = (
    *END,
    *DIALLING,
    _GATE,
    Option(
        "server-name",
        "NAME",
        "under which a bastion relays to the gate; it is said in clear",
    ),
    Option(
        "max-channels",
        "N",
        "sessions that the gate's side may have open at once (default: 10000)",
    ),
)

_WTLS = (
    Option("listen", "[HOST:]PORT", "on which devices are awaited (UDP)", repeatable=True),
    Option(
        "identity",
        "FILE.pem",
        "that `tunnelkit keys issue` made for this proxy; devices trust its CA",
        files="*.pem",
    ),
    *KEEPING,
    Option(
        "crl",
        "FILE",
        "with revoked certificates of devices (default: revoked.crl next to the identity)",
        files="*.crl",
    ),
    Option("no-crl", "", "go by no revocation list, also if there is one"),
    Option(
        "from", "NETWORK", "that devices may come from (default: all)", repeatable=True, live=True
    ),
)

WTLS_PROXY = (
    *_WTLS,
    Option(
        "secure",
        "HOST=DOMAIN-PROXY:PORT",
        ", a server that devices talk to unread, and its domain proxy",
        repeatable=True,
        live=True,
    ),
    Option(
        "learn-from",
        "SUFFIX",
        "of hosts whose mirrors are asked for their domain proxy",
        repeatable=True,
        live=True,
    ),
    Option("ttl", "SECONDS", "that a device may stay in tunnel mode (default: 600)", live=True),
    Option(
        "map-key-file",
        "FILE",
        "of HOST:PORT KEY lines, a key for each domain proxy",
        live=True,
        files="*",
    ),
    Option(
        "match",
        "strict|auto",
        ", strict: tell devices by address and port always (default: auto)",
        live=True,
    ),
    Option(
        "allow",
        "PATTERN",
        "of what devices may reach, e.g. tcp:*.example:80",
        repeatable=True,
        live=True,
    ),
)

WTLS_DOMAIN_PROXY = (
    *_WTLS,
    Option(
        "origin",
        "HOST=URL",
        ", a host of this domain and where it is fetched from",
        repeatable=True,
        live=True,
    ),
    Option("map-key-file", "FILE", "with the key that the operator's proxy has too", files="*"),
)
