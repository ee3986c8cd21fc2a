"""A portal that was written from ``usher/1``'s description alone, against the real gate.

`tests.peers.usher_portal` shares no code with the package and checks every record it gets: if it
can work with the real gate, so can anybody else's; and what it does wrong must hurt nobody but
itself.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator

import pytest

from tests.acceptance.applications import Application, Received, echo, expected, pour, receive
from tests.acceptance.processes import Identities, Processes, Role
from tests.acceptance.tunnels import start_gate
from tests.peers.misbehaving_portal import MisbehavingPortal
from tests.peers.usher_records import MAX_DATA, MAX_ID, UDP, WINDOW, Kind
from tests.peers.usher_session import Refused, Session, SessionOver

pytestmark = pytest.mark.timeout(60)

MIB = 1 << 20
REFUSED_PORT = 1
"""Allowed, and nobody listens there."""

Portal = Callable[..., MisbehavingPortal]


def reset(sock: socket.socket) -> None:
    """Take four bytes, then reset the connection."""
    receive(sock, 4)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class Applications:
    """What the gate's rules let a portal reach."""

    def __init__(self) -> None:
        self.gone = threading.Event()
        """An application of `said` found its connection reset."""
        self.ended = threading.Event()
        """An application of `said` found the clean end of its connection."""
        self.read_on = threading.Event()
        """Lets `deaf` applications read."""
        self.echo = Application(echo)
        self.reset = Application(reset)
        self.source = Application(lambda sock: pour(sock, 3 * MIB))
        self.endless = Application(pour)
        self.said = Application(self._listen)
        self.deaf = Application(self._listen_later)
        self.all = [self.echo, self.reset, self.source, self.endless, self.said, self.deaf]

    def _listen(self, sock: socket.socket) -> None:
        sock.sendall(b"hello")
        end = {"clean": self.ended, "reset": self.gone}
        end[Received(sock).to_the_end()].set()

    def _listen_later(self, sock: socket.socket) -> None:
        self.read_on.wait(30)
        Received(sock).to_the_end()


@pytest.fixture
def applications() -> Iterator[Applications]:
    made = Applications()
    for application in made.all:
        application.__enter__()
    yield made
    made.read_on.set()
    for application in made.all:
        application.__exit__(None, None, None)


@pytest.fixture
def udp_echo() -> Iterator[int]:
    """The port of a program that answers each datagram with the same in capitals."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))

        def serve() -> None:
            while True:
                data, sender = sock.recvfrom(65_536)
                if data == b"over":
                    return
                sock.sendto(data.upper(), sender)

        thread = threading.Thread(target=serve)
        thread.start()
        port = int(sock.getsockname()[1])
        yield port
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"over", ("127.0.0.1", port))
        thread.join()


@pytest.fixture
def gate(
    processes: Processes, identities: Identities, applications: Applications, udp_echo: int
) -> Role:
    allowed = [application.destination for application in applications.all]
    allowed += [f"tcp:127.0.0.1:{REFUSED_PORT}", "tcp:nobody.invalid:80"]
    allowed.append(f"udp:127.0.0.1:{udp_echo}")
    return start_gate(
        processes, identities, allowed, "--forward", "0=tcp:inside.example:7@client",
        "--forward", "0=tcp:192.0.2.1:65535@client", peers=("client", "other"),
    )  # fmt: skip


@pytest.fixture
def portal(gate: Role, identities: Identities) -> Iterator[Portal]:
    """Makes independent portals whose tunnel to the real gate stands."""
    made: list[MisbehavingPortal] = []

    def make(name: str = "client", alpn: str | None = "usher/1") -> MisbehavingPortal:
        place = ("127.0.0.1", gate.port("listening on"))
        one = MisbehavingPortal(place, identities(name), alpn)
        made.append(one)
        return one

    yield make
    for one in made:
        one.cut()


def to(portal: MisbehavingPortal, application: Application) -> Session:
    """A session to the application."""
    return portal.open("127.0.0.1", application.port)


def still_works(session: Session) -> bool:
    """Whether a session to the echo carries a few bytes there and back."""
    session.send(b"still there?")
    found = b""
    while len(found) < 12:
        found += session.receive()
    return found == b"still there?"


def ended(sock: socket.socket) -> bool:
    """Whether the next thing is the end of the connection, in whatever way."""
    try:
        return not sock.recv(1)
    except ConnectionResetError:
        return True


# -- honest ----------------------------------------------------------------


@pytest.mark.parametrize("alpn", ["usher/1", None])
def test_sessions_carry_bytes_both_ways_and_end_in_order(
    portal: Portal, applications: Applications, alpn: str | None
) -> None:
    one = portal(alpn=alpn)
    sessions = [to(one, applications.echo) for _ in range(3)]
    for number, session in enumerate(sessions):
        text = b"".join(expected(at * 50_000, 50_000) for at in range(10 * (number + 1)))
        session.send(text)
        session.finish()
        assert session.receive_all() == text
        session.acknowledged()
    assert one.open_sessions == 0
    one.end("bye")


def test_a_half_close_leaves_the_answer(portal: Portal, applications: Applications) -> None:
    session = to(portal(), applications.source)
    session.finish()
    found = session.receive_all()
    assert len(found) == 3 * MIB
    assert found == b"".join(expected(at * MIB, MIB) for at in range(3))


def test_the_gate_keeps_within_the_window(portal: Portal, applications: Applications) -> None:
    one = portal()
    session = to(one, applications.endless)
    # The peer raises PeerViolation at the first byte too many.
    one.wait_until(lambda: session.owed == WINDOW)
    other = to(one, applications.echo)
    assert still_works(other)
    assert session.owed == WINDOW
    taken = 0
    while taken < 3 * MIB:
        data = session.receive()
        assert data == expected(taken, len(data))
        taken += len(data)
    session.break_off()
    assert still_works(other)


def test_acknowledgements_wait_for_the_application(
    portal: Portal, applications: Applications
) -> None:
    one = portal()
    session = to(one, applications.deaf)
    other = to(one, applications.echo)
    # What the application's socket takes is acknowledged while the other session is answered.
    while session.unacknowledged < WINDOW:
        session.send_unasked(bytes(min(MAX_DATA, WINDOW - session.unacknowledged)))
        assert still_works(other)
    applications.read_on.set()
    session.acknowledged()


def test_opens_are_refused_with_reasons(portal: Portal, applications: Applications) -> None:
    one = portal()
    reasons = {}
    for host, port in (
        ("127.0.0.1", REFUSED_PORT),
        ("127.0.0.1", 9),
        ("nobody.invalid", 80),
        ("10.0.0.1", 80),
    ):
        with pytest.raises(Refused) as refused:
            one.open(host, port)
        reasons[host, port] = refused.value.reason
    assert "refused" in reasons["127.0.0.1", REFUSED_PORT].lower()
    assert "allow" in reasons["127.0.0.1", 9]
    assert "allow" in reasons["10.0.0.1", 80]
    assert reasons["nobody.invalid", 80]
    with pytest.raises(Refused):
        one.open("127.0.0.1", applications.echo.port, protocol=1)
    assert still_works(to(one, applications.echo))


def test_a_reset_of_the_application_arrives_as_one(
    portal: Portal, applications: Applications
) -> None:
    one = portal()
    session = to(one, applications.reset)
    session.send(b"four")
    with pytest.raises(SessionOver) as over:
        session.receive()
    assert over.value.kind in (Kind.RST, Kind.CLOSE)
    assert still_works(to(one, applications.echo))


@pytest.mark.parametrize(
    "close",
    [
        lambda session: session.break_off(),
        lambda session: session.reset("out of order"),
        lambda session: session.reset("out of order", Kind.END),
    ],
    ids=["close-both", "rst", "end"],
)
def test_error_closes_of_the_portal_reset_the_application(
    portal: Portal, applications: Applications, close: Callable[[Session], None]
) -> None:
    one = portal()
    session = to(one, applications.said)
    assert session.receive() == b"hello"
    close(session)
    assert applications.gone.wait(10)
    assert not applications.ended.is_set()
    assert still_works(to(one, applications.echo))


def test_a_portal_that_wants_no_more_gets_no_more(
    portal: Portal, applications: Applications
) -> None:
    one = portal()
    session = to(one, applications.endless)
    session.receive()
    session.stop()
    one.wait_until(lambda: session.got_end)
    session.finish()
    assert still_works(to(one, applications.echo))


def test_a_cut_tunnel_resets_the_applications(portal: Portal, applications: Applications) -> None:
    one = portal()
    assert to(one, applications.said).receive() == b"hello"
    one.cut()
    assert applications.gone.wait(10)
    assert not applications.ended.is_set()


def test_the_portal_serves_the_gates_side(portal: Portal, gate: Role) -> None:
    one = portal()
    with socket.create_connection(("127.0.0.1", gate.port("forward")), 10) as user:
        user.settimeout(10)
        session, wanted = one.accept()
        assert (wanted.host, wanted.port) == ("inside.example", 7)
        session.send(b"here")
        assert receive(user, 4) == b"here"
        user.sendall(b"there")
        user.shutdown(socket.SHUT_WR)
        assert session.receive_all() == b"there"
        session.send(b"and the rest")
        session.finish()
        assert receive(user, 12) == b"and the rest"
        assert user.recv(1) == b""
    with socket.create_connection(("127.0.0.1", gate.port("forward", 1)), 10) as user:
        user.settimeout(10)
        wanted = one.refuse("not today")
        assert (wanted.host, wanted.port) == ("192.0.2.1", 65_535)
        assert ended(user)
    gate.wait_for("not today")
    assert one.open_sessions == 0


def test_the_last_id_works(portal: Portal, applications: Applications) -> None:
    one = portal()
    one.next_after(MAX_ID - 1)
    session = to(one, applications.echo)
    assert session.own == MAX_ID
    assert still_works(session)
    assert to(one, applications.echo).own == 1


def test_datagrams_come_back_to_their_sender(portal: Portal, udp_echo: int) -> None:
    one = portal()
    server = ("127.0.0.1", udp_echo)
    # SESSION is not looked at.
    for sender, data, session in (
        (("192.0.2.7", 4000), b"one", 0),
        (("192.0.2.7", 65_535), b"two", 5),
        (("192.0.2.8", 4000), bytes(65_507), -1),
    ):
        one.send_datagram(sender, server, data, session)
        answer = one.receive_datagram()
        assert (answer.sender, answer.receiver) == (server, sender)
        assert answer.data == data.upper()


def test_datagrams_may_name_a_session_that_was_opened_for_them(
    portal: Portal, udp_echo: int
) -> None:
    one = portal()
    client, server = ("192.0.2.9", 40000), ("127.0.0.1", udp_echo)
    session = one.open(*server, protocol=UDP)
    one.send_datagram(client, server, b"named", session.theirs)
    answer = one.receive_datagram()
    assert (answer.receiver, answer.data) == (client, b"NAMED")
    # CLOSE frees both ids at once, and a datagram that still names one is a datagram.
    theirs = session.theirs
    session.free_datagrams()
    one.next_after(session.own - 1)
    again = one.open(*server, protocol=UDP)
    assert again.own == session.own
    one.send_datagram(client, server, b"late", theirs)
    assert one.receive_datagram().data == b"LATE"
    again.reset("enough")
    third = one.open(*server, protocol=UDP)
    assert third.theirs not in (theirs, again.theirs)


def test_a_datagram_without_a_rule_goes_nowhere(portal: Portal, udp_echo: int) -> None:
    one = portal()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as canary:
        canary.bind(("127.0.0.1", 0))
        canary.setblocking(False)
        one.send_datagram(("192.0.2.7", 1), ("127.0.0.1", canary.getsockname()[1]), b"in?")
        one.send_datagram(("192.0.2.7", 1), ("127.0.0.1", udp_echo), b"allowed")
        assert one.receive_datagram().data == b"ALLOWED"
        with pytest.raises(BlockingIOError):
            canary.recv(100)


# -- misbehaving -----------------------------------------------------------

Wrong = Callable[[MisbehavingPortal, Session], None]

WRONG: dict[str, Wrong] = {
    "length bomb": lambda one, session: one.announce(0x7FFFFFFF),
    "negative length": lambda one, session: one.announce(-1),
    "data just too long": lambda one, session: one.announce(MAX_DATA + 1),
    "reason too long": lambda one, session: one.announce(1025, Kind.RST),
    "unknown type": lambda one, session: one.send_unknown_type(),
    "live id": lambda one, session: one.open_again(session, "127.0.0.1", REFUSED_PORT),
    "acknowledges too much": lambda one, session: one.acknowledge_unsent(session),
    "data for nobody": lambda one, session: one.send_to_nobody(),
    "close for nobody": lambda one, session: one.send_to_nobody(Kind.CLOSE),
    "ack for nobody": lambda one, session: one.send_to_nobody(Kind.ACK),
    "rst for nobody": lambda one, session: one.send_to_nobody(Kind.RST),
    "ack of nothing": lambda one, session: one.send(Kind.ACK, session.theirs, b"\0\0"),
    "no direction": lambda one, session: one.send(Kind.CLOSE, session.theirs, b"\0\3"),
    "reply to nothing": lambda one, session: one.send(Kind.OPEN_REPLY, session.theirs, b"\0\1"),
    "reply 0": lambda one, session: one.send(Kind.OPEN_REPLY, session.theirs, b"\0\0"),
    "reply -2": lambda one, session: one.send(Kind.OPEN_REPLY, session.theirs, b"\xff\xfe"),
}


@pytest.mark.parametrize("wrong", list(WRONG))
def test_a_portal_that_breaks_a_rule_is_thrown_out(
    portal: Portal, applications: Applications, wrong: str
) -> None:
    other = portal("other")
    untouched = to(other, applications.echo)
    one = portal()
    session = to(one, applications.said)
    assert session.receive() == b"hello"
    WRONG[wrong](one, session)
    over = one.thrown_out()
    assert over.reason, f"thrown out without a word: {over}"
    assert applications.gone.wait(10)
    assert still_works(untouched)
    assert still_works(to(portal(), applications.echo))


def test_a_portal_that_sends_after_its_end_is_thrown_out(
    portal: Portal, applications: Applications
) -> None:
    one = portal()
    session = to(one, applications.said)
    session.finish()
    one.send(Kind.SEND, session.theirs, b"!")
    assert one.thrown_out().reason
    assert still_works(to(portal(), applications.echo))


def test_impossible_bodies_end_the_tunnel(
    portal: Portal, applications: Applications, gate: Role
) -> None:
    other = portal("other")
    untouched = to(other, applications.echo)
    for body in portal().wrong_bodies():
        one = portal()
        one.send_bytes(body)
        over = one.thrown_out()
        assert over.reason, f"{body[:20]!r}: {over}"
        one.cut()
    assert still_works(untouched)


def test_data_beyond_the_window_resets_the_session(
    portal: Portal, applications: Applications
) -> None:
    one = portal()
    session = to(one, applications.deaf)
    untouched = to(one, applications.echo)
    while session.broken is None:
        session.send_unasked(bytes(MAX_DATA))
        one.take_what_came()
    with pytest.raises(SessionOver) as over:
        session.receive()
    assert over.value.kind is Kind.RST
    assert over.value.reason
    assert still_works(untouched)


def test_records_for_an_id_reset_just_now_are_ignored(
    portal: Portal, applications: Applications
) -> None:
    one = portal()
    session = to(one, applications.said)
    assert session.receive() == b"hello"
    session.reset("enough")
    for kind, body in ((Kind.SEND, b"late"), (Kind.CLOSE, b"\0\0"), (Kind.RST, b"again\0")):
        one.send(kind, session.theirs, body)
    assert still_works(to(one, applications.echo))
