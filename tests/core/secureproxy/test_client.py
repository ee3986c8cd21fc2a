"""A client's connections to a Communication Server, and what a lying server cannot do (S4, S15)."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import attrs
import pytest

from tunnelkit.core.prologue import Refused as PrologueRefused
from tunnelkit.core.prologue import Verified
from tunnelkit.core.secureproxy.client import (
    Asked,
    ControlDialogue,
    Draining,
    Ended,
    Event,
    Published,
    RequestRefused,
    Seen,
    SessionOff,
    Welcomed,
)
from tunnelkit.core.secureproxy.dialogue import Refused, SessionDialogue, Started, State
from tunnelkit.core.secureproxy.prologue import Binding, SessionPrologue
from tunnelkit.errors import Code, LocalProtocolError, RemoteProtocolError
from tunnelkit.wire.buffer import FrameReader
from tunnelkit.wire.secureproxy import (
    Answer,
    Connect,
    Drain,
    Entry,
    Error,
    Hello,
    Incoming,
    Join,
    Keepalive,
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
    check_header,
    decode,
    encode,
)

RUN = "5" * 32
SESSION = "6" * 32
TOKEN = "7" * 64
WELCOME = Welcome("relay.example", "192.0.2.1:4", "8" * 32, 100, 10)
INCOMING = Incoming(SESSION, "laptop", "office", "tunnel", TOKEN, 10, 100, "192.0.2.1:5")
PASS = attrs.evolve(INCOMING, origin="", resource="pass:a.example", host="a.example")
WEB = attrs.evolve(INCOMING, origin="", resource="web:a.example", host="a.example")
NOW = 1000.0


def said(dialogue: Any) -> list[Message]:
    """What goes out."""
    reader = FrameReader(check_header, None, None)
    reader.feed(dialogue.data_to_send())
    return list(map(decode, iter(reader.next_frame, None)))


def control(purpose: str = "present") -> ControlDialogue:
    """One that is welcome."""
    dialogue = ControlDialogue(Hello(purpose, RUN), NOW)
    assert said(dialogue) == [Hello(purpose, RUN)]
    assert dialogue.receive(encode(WELCOME), NOW) == [Welcomed(WELCOME)]
    return dialogue


def hear(dialogue: ControlDialogue, *messages: Message, now: float = NOW) -> list[Event]:
    return dialogue.receive(b"".join(map(encode, messages)), now)


# -- control connection -----------------------------------------------------


def test_requests_wait_for_the_welcome_and_are_answered_in_order() -> None:
    dialogue = ControlDialogue(Hello("present", RUN), NOW)
    dialogue.look_up("office", NOW, watch=True)
    dialogue.publish((Resource("tunnel"),), NOW)
    dialogue.look_up("group:servers", NOW)
    assert said(dialogue) == [Hello("present", RUN)]
    hear(dialogue, WELCOME)
    assert said(dialogue) == [
        Lookup("office", True),
        Lookup("group:servers"),
        Publish((Resource("tunnel"),)),
    ]
    seen = Presence("office", (Entry("office", True),))
    assert hear(
        dialogue,
        seen,
        Error(Code.NOT_ALLOWED, "no", about=10),
        seen,
        Error(Code.LIMIT, "often", about=3),
        Ok(),
    ) == [
        Seen(seen),
        RequestRefused(Code.NOT_ALLOWED, "no", "group:servers"),
        Seen(seen),
        RequestRefused(Code.LIMIT, "often"),
        Published(),
    ]


def test_a_table_waits_until_the_server_may_take_it_and_only_the_last_one_goes_out() -> None:
    dialogue = control()
    dialogue.publish((), NOW)
    assert said(dialogue) == [Publish(())]
    for number in range(3):
        dialogue.publish((Resource(f"r{number}"),), NOW + 0.5)
    assert said(dialogue) == []
    due = dialogue.next_deadline()
    assert due is not None
    assert NOW + 1 < due < NOW + 1.5
    assert dialogue.deadline_passed(due) == []
    assert said(dialogue) == [Publish((Resource("r2"),))]


def test_who_only_asks_publishes_nothing() -> None:
    with pytest.raises(LocalProtocolError):
        control("ask").publish((), NOW)


def test_what_the_server_says_is_told() -> None:
    dialogue = control()
    assert hear(
        dialogue,
        INCOMING,
        Error(Code.RESET, "gone", session=SESSION),
        Keepalive(),
        Drain(30, ("a:443",)),
        Error(Code.NOT_ALLOWED, "withdrawn", about=3),
        Error(Code.REPLACED, "elsewhere", True),
    ) == [
        Asked(INCOMING),
        SessionOff(SESSION, Code.RESET, "gone"),
        Draining(30, ("a:443",)),
        RequestRefused(Code.NOT_ALLOWED, "withdrawn"),
        Ended(Code.REPLACED, "elsewhere"),
    ]
    assert dialogue.next_deadline() is None
    assert hear(dialogue, Keepalive()) == []


def test_a_stale_generation_is_refused() -> None:
    dialogue = control()
    assert hear(dialogue, attrs.evolve(INCOMING, generation=99)) == []
    (answer,) = said(dialogue)
    assert isinstance(answer, Answer)
    assert (answer.session, answer.accept, answer.code) == (SESSION, False, Code.SETUP_MISMATCH)
    assert hear(dialogue, INCOMING) == [Asked(INCOMING)]


def test_refusing_and_leaving() -> None:
    dialogue = control()
    dialogue.refuse(SESSION, Code.UNREACHABLE, "dead", NOW)
    dialogue.leave("bye", NOW)
    assert said(dialogue) == [
        Answer(SESSION, code=Code.UNREACHABLE, reason="dead"),
        Error(Code.SHUTDOWN, "bye", True),
    ]
    dialogue.refuse(SESSION, Code.LIMIT, "", NOW)
    dialogue.leave("bye", NOW)
    dialogue.look_up("a", NOW)
    assert said(dialogue) == []


def test_keepalive_and_silence() -> None:
    dialogue = control()
    assert dialogue.next_deadline() == NOW + 10
    assert dialogue.deadline_passed(NOW + 10) == []
    assert said(dialogue) == [Keepalive()]
    assert dialogue.deadline_passed(NOW + 15) == []
    assert said(dialogue) == []
    hear(dialogue, Keepalive(), now=NOW + 29)
    dialogue.deadline_passed(NOW + 58)
    (ended,) = dialogue.deadline_passed(NOW + 59)
    assert isinstance(ended, Ended)
    assert ended.code is Code.TIMED_OUT
    assert dialogue.deadline_passed(NOW + 99) == []


def test_a_server_that_does_not_greet() -> None:
    dialogue = ControlDialogue(Hello("ask", RUN), NOW)
    assert dialogue.next_deadline() == NOW + 10
    assert isinstance(dialogue.deadline_passed(NOW + 10)[0], Ended)


@pytest.mark.parametrize(
    "message", [Ok(), INCOMING, Hello("ask", RUN), Publish(()), Keepalive(), Lookup("a")]
)
def test_what_a_server_may_not_say_first(message: Message) -> None:
    dialogue = ControlDialogue(Hello("present", RUN), NOW)
    with pytest.raises(RemoteProtocolError):
        hear(dialogue, message)
    assert isinstance(said(dialogue)[-1], Error)
    assert dialogue.next_deadline() is None


@pytest.mark.parametrize(
    "message", [WELCOME, Join(SESSION, TOKEN), Connect("a", "b"), Spare("pass:a.example")]
)
def test_what_a_server_may_not_say_later(message: Message) -> None:
    with pytest.raises(RemoteProtocolError, match="READY"):
        hear(control(), message)


# -- connections for sessions -------------------------------------------------

START = StartSecure(SESSION, "tls-client", "office", "tunnel", "relay.example")
TARGET = StartSecure(SESSION, "tls-server", "laptop", "tunnel", "relay.example")


@pytest.mark.parametrize(
    ("purpose", "first", "start"),
    [
        (Connect("office", "tunnel"), Connect("office", "tunnel"), START),
        (Connect("group:servers", "tunnel"), Connect("group:servers", "tunnel"), START),
        (INCOMING, Join(SESSION, TOKEN), TARGET),
        (PASS, Join(SESSION, TOKEN), StartPass(SESSION, "a.example", "x")),
        (WEB, Join(SESSION, TOKEN), StartWeb(SESSION, "a.example", "x")),
        (Spare("pass:a.example"), Spare("pass:a.example"), StartPass(SESSION, "a.example", "x")),
        (Spare("pass:*.example"), Spare("pass:*.example"), StartPass(SESSION, "a.example", "x")),
    ],
)
def test_what_is_asked_for_starts(purpose: Any, first: Message, start: Any) -> None:
    dialogue = SessionDialogue(Hello("session", RUN), purpose, NOW)
    assert said(dialogue) == [Hello("session", RUN), first]
    data = encode(Keepalive()) + encode(start)
    for at in range(len(data) - 1):
        assert dialogue.receive(data[at : at + 1], NOW) == []
    assert dialogue.receive(data[-1:], NOW) == [Started(start)]
    assert dialogue.next_deadline() is None


def evolve(message: Message, **fields: Any) -> Message:
    """One field is another."""
    changed: Message = attrs.evolve(message, **fields)
    return changed


@pytest.mark.parametrize(
    ("purpose", "start", "code", "words"),
    [
        (Connect("office", "tunnel"), evolve(START, role="tls-server"), "role-conflict", "role"),
        (Connect("office", "tunnel"), evolve(START, peer="depot"), "setup-mismatch", "'depot'"),
        (Connect("office", "tunnel"), evolve(START, resource="desk"), "setup-mismatch", "'desk'"),
        (
            Connect("office", "tunnel"),
            StartPass(SESSION, "a.example", ""),
            "setup-mismatch",
            "PASS",
        ),
        (Connect("office", "tunnel"), StartWeb(SESSION, "a.example", ""), "setup-mismatch", "WEB"),
        (INCOMING, evolve(TARGET, role="tls-client"), "role-conflict", "role"),
        (INCOMING, evolve(TARGET, peer="guest"), "setup-mismatch", "'guest'"),
        (INCOMING, evolve(TARGET, session="9" * 32), "setup-mismatch", "session"),
        (INCOMING, evolve(TARGET, resource="desk"), "setup-mismatch", "'desk'"),
        (INCOMING, StartPass(SESSION, "a.example", ""), "setup-mismatch", "PASS"),
        (PASS, TARGET, "setup-mismatch", "SECURE"),
        (PASS, StartWeb(SESSION, "a.example", ""), "setup-mismatch", "WEB"),
        (PASS, StartPass(SESSION, "b.example", ""), "setup-mismatch", "'b.example'"),
        (WEB, StartPass(SESSION, "a.example", ""), "setup-mismatch", "PASS"),
        (Spare("pass:a.example"), TARGET, "setup-mismatch", "SECURE"),
        (Spare("pass:a.example"), StartPass(SESSION, "b.example", ""), "setup-mismatch", "b.ex"),
        (Connect("office", "tunnel"), WELCOME, "protocol", "OTHER"),
    ],
)
def test_a_server_that_says_something_else_is_found_out(
    purpose: Any, start: Message, code: str, words: str
) -> None:
    dialogue = SessionDialogue(Hello("session", RUN), purpose, NOW)
    said(dialogue)
    with pytest.raises(RemoteProtocolError, match=words) as caught:
        dialogue.receive(encode(start), NOW)
    assert caught.value.code == code
    (error,) = said(dialogue)
    assert isinstance(error, Error)
    assert error.code == code
    assert dialogue.state is State.ENDED


def test_a_refusal() -> None:
    dialogue = SessionDialogue(Hello("session", RUN), Connect("office", "tunnel"), NOW)
    refusal = Error(Code.NOT_PRESENT, "nobody", True, about=4)
    assert dialogue.receive(encode(refusal), NOW) == [Refused(Code.NOT_PRESENT, "nobody")]
    assert dialogue.next_deadline() is None


@pytest.mark.parametrize("together", [True, False])
def test_nothing_comes_behind_start(together: bool) -> None:
    dialogue = SessionDialogue(Hello("session", RUN), INCOMING, NOW)
    data = encode(TARGET)
    if not together:
        dialogue.receive(data, NOW)
        data = b""
    with pytest.raises(RemoteProtocolError, match="behind START"):
        dialogue.receive(data + b"x", NOW)


def test_http_comes_behind_start_web() -> None:
    dialogue = SessionDialogue(Hello("session", RUN), WEB, NOW)
    dialogue.receive(encode(StartWeb(SESSION, "a.example", "x")) + b"GET /", NOW)
    assert dialogue.leftover == b"GET /"


def test_a_long_wait_needs_signs_of_life() -> None:
    dialogue = SessionDialogue(Hello("session", RUN), Connect("office", "tunnel"), NOW)
    said(dialogue)
    now = NOW
    for _ in range(50):
        now += 10
        assert dialogue.next_deadline() == now
        assert dialogue.deadline_passed(now) == []
        assert said(dialogue) == [Keepalive()]
        assert dialogue.receive(encode(Keepalive()), now) == []
    (refused,) = dialogue.deadline_passed(now + 30)
    assert isinstance(refused, Refused)
    assert refused.code is Code.TIMED_OUT
    assert dialogue.deadline_passed(now + 60) == []


# -- inside the TLS of the two --------------------------------------------------

OWN = Session(SESSION, "laptop", "office", "group:servers", "tunnel")


def prologue(initiator: bool, certificate: str, own: Session = OWN, **more: Any) -> SessionPrologue:
    return SessionPrologue(own, initiator, certificate, NOW, **more)


def test_two_that_know_the_same_agree() -> None:
    one, other = prologue(True, "office"), prologue(False, "laptop")
    first, second = one.data_to_send(), other.data_to_send()
    assert first == second == encode(OWN)
    for at in range(len(first) - 1):
        assert other.receive(first[at : at + 1], NOW) == []
    (verified,) = other.receive(first[-1:] + b"mux", NOW)
    assert isinstance(verified, Verified)
    assert (verified.peer, verified.leftover) == ("laptop", b"mux")
    (verified,) = one.receive(second, NOW)
    assert isinstance(verified, Verified)
    assert (verified.peer, verified.leftover) == ("office", b"")
    assert one.next_deadline() is None
    with pytest.raises(LocalProtocolError):
        one.receive(b"", NOW)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("session", "9" * 32),
        ("origin", "guest"),
        ("to", "depot"),
        ("target", "office"),
        ("resource", "desk"),
    ],
)
def test_any_difference_is_found_by_both(field: str, value: str) -> None:
    told = attrs.evolve(OWN, **{field: value})
    for initiator, own, other in ((True, OWN, told), (False, OWN, told), (True, told, OWN)):
        certificate = own.to if initiator else own.origin
        check = prologue(initiator, certificate, own)
        said(check)
        with pytest.raises(RemoteProtocolError) as caught:
            check.receive(encode(other), NOW)
        assert caught.value.code is Code.SETUP_MISMATCH
        assert repr(getattr(own, field)) in str(caught.value)
        assert repr(getattr(other, field)) in str(caught.value)
        (error,) = said(check)
        assert isinstance(error, Error)
        assert error.code is Code.SETUP_MISMATCH


@pytest.mark.parametrize("initiator", [True, False])
def test_another_valid_certificate_in_place_of_the_one_asked_for(initiator: bool) -> None:
    check = prologue(initiator, "depot")
    with pytest.raises(RemoteProtocolError, match="'depot'") as caught:
        check.receive(encode(OWN), NOW)
    assert caught.value.code is Code.SETUP_MISMATCH


def test_the_own_key_at_the_other_end() -> None:
    check = prologue(True, "office", same_key=True)
    with pytest.raises(RemoteProtocolError) as caught:
        check.receive(encode(OWN), NOW)
    assert caught.value.code is Code.ROLE_CONFLICT


class OneTls:
    """What two ends of one TLS can export."""

    def __init__(self, secret: bytes) -> None:
        self.secret = secret

    def __call__(self, label: bytes, context: bytes) -> bytes:
        return sha256(self.secret + label + context).digest()


def test_two_in_one_tls_say_what_the_other_expects() -> None:
    one, other = (
        prologue(first, name, binding=Binding.of(OneTls(b"a"), b"common", first))
        for first, name in ((True, "office"), (False, "laptop"))
    )
    first, second = one.data_to_send(), other.data_to_send()
    assert isinstance(other.receive(first, NOW)[0], Verified)
    assert isinstance(one.receive(second, NOW)[0], Verified)
    assert first != second


@pytest.mark.parametrize("initiator", [True, False])
@pytest.mark.parametrize("what", ["another TLS", "another secret", "sent back", "left out"])
def test_who_ends_tls_in_between_has_another_binding_on_each_side(
    what: str, initiator: bool
) -> None:
    own = Binding.of(OneTls(b"a"), b"common", initiator)
    other = {
        "another TLS": Binding.of(OneTls(b"b"), b"common", not initiator),
        "another secret": Binding.of(OneTls(b"a"), b"guessed", not initiator),
        "sent back": own,
        "left out": None,
    }[what]
    check = prologue(initiator, "office" if initiator else "laptop", binding=own)
    said(check)
    with pytest.raises(RemoteProtocolError, match=r"ends the TLS|does not say") as caught:
        check.receive(encode(attrs.evolve(OWN, binding=None if other is None else other.said)), NOW)
    assert caught.value.code is Code.SETUP_MISMATCH


def test_a_client_that_says_no_binding_is_taken_where_that_is_optional() -> None:
    own = Binding.of(OneTls(b"a"), b"common", True, required=False)
    assert isinstance(prologue(True, "office", binding=own).receive(encode(OWN), NOW)[0], Verified)
    other = Binding.of(OneTls(b"b"), b"common", False).said
    with pytest.raises(RemoteProtocolError, match="ends the TLS"):
        prologue(True, "office", binding=own).receive(encode(attrs.evolve(OWN, binding=other)), NOW)


def test_the_other_client_says_no_or_nothing_or_something_else() -> None:
    refusal = Error(Code.SETUP_MISMATCH, "another name", True)
    assert prologue(True, "office").receive(encode(refusal), NOW) == [
        PrologueRefused(Code.SETUP_MISMATCH, "another name")
    ]
    silent = prologue(True, "office")
    assert silent.deadline_passed(NOW + 9.9) == []
    (refused,) = silent.deadline_passed(NOW + 10)
    assert isinstance(refused, PrologueRefused)
    assert refused.code is Code.TIMED_OUT
    with pytest.raises(RemoteProtocolError, match="before SESSION"):
        prologue(True, "office").receive(encode(Keepalive()), NOW)
