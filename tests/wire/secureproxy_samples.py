"""The messages of ``tests/vectors/secureproxy.txt``, as objects and as bytes, by name."""

from __future__ import annotations

from tests.wire.vectors import read_vectors
from tunnelkit.errors import Code
from tunnelkit.wire.secureproxy import (
    ANY,
    Answer,
    Connect,
    Drain,
    Entry,
    Error,
    Hello,
    Incoming,
    Join,
    Keepalive,
    Login,
    Lookup,
    Message,
    Ok,
    Presence,
    Publish,
    Resource,
    Session,
    Spare,
    StartPass,
    StartSecure,
    StartWeb,
    Welcome,
)

RUN = "0123456789abcdef0123456789abcdef"
SESSION = "00112233445566778899aabbccddeeff"
TOKEN = SESSION * 2
GENERATION = 1795900000000
BROWSER = "198.51.100.3:60000"

MESSAGES: dict[str, Message] = {
    "hello": Hello("present", RUN, "tunnelkit", (("site", "berlin"),), ("10.0.0.5",)),
    "hello-with-password": Hello("ask", RUN, login=Login("laptop", password="sesame")),
    "hello-with-token": Hello("session", RUN, login=Login("laptop", token="t0ken")),
    "welcome": Welcome(
        "relay.example", "192.0.2.7:40000", RUN[::-1], GENERATION, 10, ("192.0.2.2:443",)
    ),
    "publish": Publish(
        (
            Resource("tunnel", groups=("servers",)),
            Resource("pass:site.example", "pass", "site.example"),
            Resource("web:app.example", "web", "app.example", 3600),
        )
    ),
    "publish-nothing": Publish(()),
    "connect": Connect("office", "tunnel"),
    "connect-any": Connect("group:servers", "tunnel", ANY),
    "incoming": Incoming(
        SESSION, "laptop", "office", "tunnel", TOKEN, 10, GENERATION, "192.0.2.9:51000"
    ),
    "incoming-pass": Incoming(
        SESSION, "", "office", "pass:site.example", TOKEN, 9.5, GENERATION, BROWSER, "site.example"
    ),
    "answer-accept": Answer(SESSION, True),
    "answer-refuse": Answer(
        SESSION, code=Code.UNREACHABLE, reason="the web server does not answer"
    ),
    "join": Join(SESSION, TOKEN),
    "start-secure-initiator": StartSecure(
        SESSION, "tls-client", "office", "tunnel", "relay.example", ("relay.example",)
    ),
    "start-secure-target": StartSecure(SESSION, "tls-server", "laptop", "tunnel", "relay.example"),
    "start-pass": StartPass(SESSION, "site.example", BROWSER),
    "lookup": Lookup("office"),
    "lookup-group": Lookup("group:servers", True),
    "presence": Presence("group:servers", (Entry("office", True, ("tunnel",)),)),
    "presence-more": Presence("office", (Entry("office", False),), True),
    "drain": Drain(30, ("192.0.2.2:443",)),
    "error": Error(Code.NOT_ALLOWED, "no rule", about=4),
    "error-session": Error(Code.RESET, "the initiator has gone", session=SESSION),
    "error-fatal": Error(Code.REPLACED, "registered from elsewhere", True),
    "ok": Ok(),
    "keepalive": Keepalive(),
    "session": Session(SESSION, "laptop", "office", "group:servers", "tunnel"),
    "session-bound": Session(SESSION, "laptop", "office", "office", "tunnel", TOKEN),
    "spare": Spare("pass:site.example"),
    "start-web": StartWeb(SESSION, "app.example", BROWSER),
}


VECTORS = read_vectors("secureproxy.txt")
