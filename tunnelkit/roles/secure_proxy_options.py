"""The options of the Secure Proxy's server and client, see `tunnelkit.roles.options`."""

from __future__ import annotations

from tunnelkit.core.secureproxy.limits import Limits
from tunnelkit.policy.settings import Option
from tunnelkit.roles.options import CRL, DIALLING, END, NO_CRL, TERMS, WAY_OUT

SECURE_PROXY_LIMITS = (
    ("max-clients", "clients", 1_000_000, "clients that are present or only ask"),
    ("max-sessions", "sessions", 65_535, "sessions of one client, as initiator and as target"),
    ("max-incoming", "incoming", 65_535, "sessions that one client has not answered yet"),
    ("max-connecting", "connecting", 65_535, "sessions that one client waits for"),
    ("max-groups", "groups", 4096, "groups of one client"),
    ("max-failed-logins", "logins", 1000, "failed logins a minute, by name and by address"),
    ("max-browsers-per-second", "dial_rate", 100_000, "browsers a second from one address"),
    ("max-browser-burst", "dial_burst", 100_000, "browsers at once from one address"),
    ("max-browsers-pending", "dial_pending", 65_535, "browsers of one address that wait"),
    ("max-browsers-pending-per-host", "host_pending", 65_535, "browsers of one host that wait"),
    ("max-browser-wait", "patience", 600, "seconds that a browser waits for its turn"),
    ("min-publish-interval", "publish", 3600, "seconds between two tables of one client"),
)
"""Option, field of the server's `Limits`, the most that it may be, and what it counts."""

SECURE_PROXY_SERVER = (
    Option("listen", "[HOST:]PORT", "on which everybody is awaited", repeatable=True),
    Option("identity", "FILE.pem", "that `tunnelkit keys issue` made for it", files="*.pem"),
    *TERMS,
    Option("policy", "FILE.toml", "that says who may do what", live=True, files="*.toml"),
    Option(
        "certificate",
        "FILE.pem",
        "with key and certificates for browsers (default: the identity's)",
        repeatable=True,
        live=True,
        files="*.pem",
    ),
    Option(
        "proxy-protocol",
        "NETWORK",
        "whose connections begin with a PROXY header that says where they come from",
        repeatable=True,
        live=True,
    ),
    Option("log", "FILE", "to which decisions and sessions are written, as JSON lines", files="*"),
    CRL,
    NO_CRL,
    Option(
        "login-file",
        "FILE",
        "of NAME:SECRET lines, for clients that log in instead of showing a certificate",
        live=True,
        files="*",
    ),
    *(
        Option(name, "N", f"{what} (default: {getattr(Limits(), field):g})")
        for name, field, _, what in SECURE_PROXY_LIMITS
    ),
)

_SERVER = (
    Option("server", "HOST:PORT", "of the Communication Server"),
    Option("server-name", "NAME", "that its certificate must have (default: HOST)"),
    Option(
        "server-ca",
        "FILE|system",
        "with the CAs that may have issued it (default: the identity's)",
        files="*.pem",
    ),
    Option("login", "NAME", "to log in as, where the server does not know this certificate"),
    Option("login-file", "FILE", "with the password or token for it", files="*"),
    Option(
        "session-binding",
        "required|optional",
        "whether another client must show that nobody ends the TLS between the two; "
        "optional: it may leave that out (default: required)",
    ),
)
_TARGET = Option("target", "NAME|group:NAME", "of the client to which the ports here lead")

SECURE_PROXY_MEETING = (
    *_SERVER,
    *WAY_OUT,
    _TARGET,
    Option("resource", "NAME", "to ask the target for, or to be asked for (default: tunnel)"),
)
"""What it takes to be introduced by a Communication Server, whatever is spoken then."""

SECURE_PROXY_CLIENT = (
    *(option for option in END if not option.name.startswith("forwards-")),
    *DIALLING,
    *_SERVER,
    _TARGET,
    Option("resource", "NAME", "of the target's to ask for (default: tunnel)"),
    Option(
        "publish",
        "NAME|pass:HOST=tcp:HOST:PORT|web:HOST=http://HOST:PORT",
        ", what others may ask for; browsers that ask for HOST reach that web server, pass: "
        "unopened, web: read by the server (default with --allow: tunnel)",
        repeatable=True,
    ),
    Option(
        "spares",
        "N",
        "connections ahead for browsers of each pass:HOST, 0 to 4 (default: 2)",
    ),
    Option(
        "site-proxy-header",
        "",
        "begin what browsers send to web servers with a PROXY header",
    ),
    Option(
        "max-channels",
        "N",
        "channels that another client may have open at once (default: 10000)",
    ),
)
