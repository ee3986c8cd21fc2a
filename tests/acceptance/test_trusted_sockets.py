"""Trusted sockets (rows T1 to T4): a service of the inside appears outside, is used, and ends.

Nothing but what is published now leads inside, whichever side is asked.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.acceptance.applications import Application, echo, receive
from tests.acceptance.processes import Identities, Processes, Role, free_port
from tests.acceptance.tunnels import meeting, start_client_end
from tests.peers.lstp_channel import ChannelFailed
from tests.peers.lstp_messages import Type
from tests.peers.lstp_peer import LstpPeer

pytestmark = pytest.mark.timeout(90)

Dial = Callable[[int], socket.socket]


@pytest.fixture
def inside() -> Iterator[Application]:
    """The application that is published; it counts who reaches it."""
    with Application(echo) as running:
        yield running


@pytest.fixture
def dial() -> Iterator[Dial]:
    """Connects to a port of this machine. The connection may be reset already."""
    made: list[socket.socket] = []

    def connect(port: int) -> socket.socket:
        sock = socket.socket()
        sock.settimeout(20)
        made.append(sock)
        with contextlib.suppress(ConnectionResetError):
            sock.connect(("127.0.0.1", port))
        return sock

    yield connect
    for sock in made:
        sock.close()


class Inside:
    """A server end that publishes what its configuration file says."""

    def __init__(
        self, processes: Processes, identities: Identities, middle: Role, directory: Path
    ) -> None:
        self._file = directory / "inside.toml"
        self._processes = processes
        self._options = (
            *meeting(middle), "--identity", identities("server"), "--peer", "client",
            "--config", self._file,
        )  # fmt: skip
        self._role: Role | None = None

    def publish(self, *services: str) -> None:
        """Publish these and nothing else from now on; starts the end when first called."""
        text = f"allow = []\npublish = {json.dumps(list(services))}\n"
        new = self._file.with_suffix(".new")
        new.write_text(text)
        os.replace(new, self._file)
        if self._role is None:
            self._role = self._processes.role("lstp-server-end", *self._options)
        else:
            since = len(self.role.process.lines)
            self.role.process.child.send_signal(signal.SIGHUP)
            self.role.wait_for("Reloaded: .*service", since=since)

    @property
    def role(self) -> Role:
        """The running end."""
        assert self._role is not None
        return self._role


@pytest.fixture
def publisher(processes: Processes, identities: Identities, middle: Role, tmp_path: Path) -> Inside:
    return Inside(processes, identities, middle, tmp_path)


Independent = Callable[[str, str], LstpPeer]


@pytest.fixture
def independent(identities: Identities, middle: Role) -> Iterator[Independent]:
    """Makes an independent client end (``"client", "server"``) or server end (the other way
    round), whose tunnel is up."""
    made: list[LstpPeer] = []

    def make(name: str, other: str) -> LstpPeer:
        role = f"{name}-end"
        peer = LstpPeer(identities(name), tunnel="test", name=name, peers={other}, role=role)
        made.append(peer)
        peer.run_up("127.0.0.1", middle.port("listening on"))
        return peer

    yield make
    for peer in made:
        peer.cut()


def echoes(sock: socket.socket) -> bool:
    """Whether what is sent comes back; False for a connection that is reset or ended."""
    try:
        sock.sendall(b"are you there?")
        return receive(sock, 14) == b"are you there?"
    except (AssertionError, ConnectionError):
        return False


def is_open(port: int) -> bool:
    """Whether anybody listens there."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=20).close()
    except ConnectionRefusedError:
        return False
    return True


def is_reset(sock: socket.socket) -> bool:
    """Whether the connection ends early, and not cleanly, as it waits for data."""
    try:
        return sock.recv(1) == b"?"
    except ConnectionResetError:
        return True


def answer_to(peer: LstpPeer, service: str) -> str:
    """How the far side answers a request for a service: ``open``, or the code of its refusal."""
    channel = peer.request({"service": service})
    channel.begin()
    try:
        channel.wait_open()
    except ChannelFailed as refused:
        code = refused.code
    else:
        code = "open"
        channel.finish()
        channel.receive_all()
    channel.free()
    return code


def test_a_published_service_is_used_by_name_and_nothing_else_is_asked_of_the_inside(
    processes: Processes,
    identities: Identities,
    middle: Role,
    publisher: Inside,
    inside: Application,
    dial: Dial,
) -> None:
    publisher.publish(f"web=127.0.0.1:{inside.port}")
    outside = start_client_end(
        processes, identities, middle, "--forward", "0=service:web",
        "--forward", "0=service:secret", "--forward", f"0={inside.destination}",
    )  # fmt: skip
    assert echoes(dial(outside.port("forward")))
    assert inside.accepted == 1
    # Published, and yet no rule: only by its name.
    assert not echoes(dial(outside.port("forward", 2)))
    publisher.role.wait_for("(?i)not.allowed")
    assert not echoes(dial(outside.port("forward", 1)))
    outside.wait_for("service:secret.*does not publish")
    assert "secret" not in publisher.role.process.log
    assert inside.accepted == 1


def test_a_port_is_open_outside_while_its_service_is_published(
    processes: Processes,
    identities: Identities,
    middle: Role,
    publisher: Inside,
    inside: Application,
    dial: Dial,
) -> None:
    port, later = free_port(), free_port()
    publisher.publish(f"web=tcp:127.0.0.1:{inside.port},listen={port}")
    outside = start_client_end(
        processes, identities, middle, "--forward", "0=service:web",
        "--allow", f"listen:127.0.0.1:{port},{later}",
    )  # fmt: skip
    outside.wait_for(f"Listening on 127.0.0.1:{port} for service web of server")
    entered, forwarded = dial(port), dial(outside.port("forward"))
    assert echoes(entered)
    assert echoes(forwarded)

    publisher.publish(f"git=127.0.0.1:{inside.port},listen={later}")
    began = time.monotonic()
    assert is_reset(entered)
    outside.wait_for(f"Closed 127.0.0.1:{port} for service web")
    assert not is_open(port)
    assert time.monotonic() - began < 1
    assert not echoes(dial(outside.port("forward")))
    outside.wait_for(f"Listening on 127.0.0.1:{later} for service git of server")
    assert echoes(dial(later))
    # What has not come in over a port that was closed is not touched.
    assert echoes(forwarded)

    since = len(outside.process.lines)
    publisher.publish(f"web=127.0.0.1:{inside.port},listen={port}")
    outside.wait_for(f"Listening on 127.0.0.1:{port} for service web", since=since)
    assert echoes(dial(port))
    assert not is_open(later)


def test_the_last_service_can_be_withdrawn_though_nothing_is_allowed_then(
    processes: Processes,
    identities: Identities,
    middle: Role,
    publisher: Inside,
    inside: Application,
    dial: Dial,
) -> None:
    publisher.publish(f"web=127.0.0.1:{inside.port}")
    outside = start_client_end(processes, identities, middle, "--forward", "0=service:web")
    assert echoes(dial(outside.port("forward")))
    publisher.publish()
    assert not echoes(dial(outside.port("forward")))
    outside.wait_for("service:web.*does not publish")
    assert inside.accepted == 1


def test_a_service_expires_with_its_port_and_what_came_in_over_it(
    processes: Processes,
    identities: Identities,
    middle: Role,
    publisher: Inside,
    inside: Application,
    dial: Dial,
) -> None:
    port = free_port()
    publisher.publish(f"other=127.0.0.1:{inside.port}")
    outside = start_client_end(
        processes, identities, middle, "--forward", "0=service:web",
        "--allow", f"listen:127.0.0.1:{port}",
    )  # fmt: skip
    publisher.publish(f"web=127.0.0.1:{inside.port},until=+2,listen={port}")
    published = time.monotonic()
    outside.wait_for(f"Listening on 127.0.0.1:{port}")
    entered = dial(port)
    assert echoes(entered)
    assert is_reset(entered)
    assert 1 < time.monotonic() - published < 3
    assert not is_open(port)
    accepted = inside.accepted
    assert not echoes(dial(outside.port("forward")))
    assert inside.accepted == accepted


def test_ports_close_with_the_control_session_and_come_back_with_it(
    processes: Processes,
    identities: Identities,
    middle: Role,
    publisher: Inside,
    inside: Application,
    dial: Dial,
) -> None:
    port = free_port()
    service = f"web=127.0.0.1:{inside.port},listen={port}"
    publisher.publish(service)
    outside = start_client_end(processes, identities, middle, "--allow", f"listen:127.0.0.1:{port}")
    outside.wait_for(f"Listening on 127.0.0.1:{port}")
    entered = dial(port)
    assert echoes(entered)
    publisher.role.process.kill()
    began = time.monotonic()
    assert is_reset(entered)
    outside.wait_for(f"Closed 127.0.0.1:{port} .*control session has ended")
    assert not is_open(port)
    assert time.monotonic() - began < 1
    since = len(outside.process.lines)
    processes.role(
        "lstp-server-end", *meeting(middle), "--identity", identities("server"),
        "--peer", "client", "--publish", service,
    )  # fmt: skip
    outside.wait_for(f"Listening on 127.0.0.1:{port}", since=since)
    assert echoes(dial(port))


def test_no_port_is_opened_outside_without_a_rule_for_it_there(
    processes: Processes,
    identities: Identities,
    middle: Role,
    publisher: Inside,
    inside: Application,
    dial: Dial,
) -> None:
    port = free_port()
    publisher.publish(f"web=127.0.0.1:{inside.port},listen={port}")
    outside = start_client_end(
        processes, identities, middle, "--forward", "0=service:web", "--allow", "tcp:*:*"
    )
    outside.wait_for(f"No port {port} for service web of server: no rule allows")
    assert not is_open(port)
    assert echoes(dial(outside.port("forward")))


def test_only_the_names_that_are_expected_can_publish(
    processes: Processes, identities: Identities, middle: Role, inside: Application
) -> None:
    port = free_port()
    outside = start_client_end(
        processes, identities, middle, "--allow", f"listen:127.0.0.1:{port}", wait=False
    )
    # A certificate of the same authority, and the secret of the rendezvous.
    processes.role(
        "lstp-server-end", *meeting(middle), "--identity", identities("mallory"),
        "--peer", "client", "--publish", f"web=127.0.0.1:{inside.port},listen={port}",
    )  # fmt: skip
    outside.wait_for('No tunnel test with who calls itself "mallory"')
    assert not is_open(port)
    assert not any("Listening" in line for line in outside.process.lines)


def test_the_inside_refuses_again_what_an_outside_should_not_ask(
    publisher: Inside, inside: Application, independent: Independent
) -> None:
    address = f"127.0.0.1:{inside.port}"
    publisher.publish(f"web={address},listen=8080")
    peer = independent("client", "server")
    assert peer.peer_properties["services"] == [{"name": "web", "ttl": None, "listen": 8080}]
    assert answer_to(peer, "web") == "open"
    assert answer_to(peer, "never") == "no-such-service"
    assert answer_to(peer, f"web={address}") == "protocol"
    with pytest.raises(ChannelFailed, match="not-allowed"):
        peer.open(f"tcp:{address}", pipelined=False)

    publisher.publish(f"git={address}")
    peer.pump_until(lambda: "git" in json.dumps(peer.peer_properties["services"]))
    assert peer.peer_properties["services"] == [{"name": "git", "ttl": None, "listen": None}]
    assert answer_to(peer, "web") == "no-such-service"
    assert answer_to(peer, "git") == "open"

    publisher.publish(f"short={address},until=+1")
    peer.pump_until(lambda: "short" in json.dumps(peer.peer_properties["services"]))
    said = json.dumps(peer.peer_properties["services"])
    assert 0 < json.loads(said)[0]["ttl"] <= 1
    assert answer_to(peer, "short") == "open"
    # The end of an entry is announced, too.
    peer.pump_until(lambda: peer.peer_properties["services"] == [])
    assert answer_to(peer, "short") == "no-such-service"
    assert inside.accepted == 3


def test_an_outside_asks_for_nothing_that_an_independent_inside_does_not_publish_now(
    processes: Processes,
    identities: Identities,
    middle: Role,
    independent: Independent,
    dial: Dial,
) -> None:
    port = free_port()
    process = start_client_end(
        processes, identities, middle, "--forward", "0=service:web",
        "--allow", f"listen:127.0.0.1:{port}", wait=False,
    ).process  # fmt: skip
    peer = independent("server", "client")
    outside = Role(process)
    web = {"name": "web", "ttl": None, "listen": port, "colour": "blue"}

    def publish(pattern: str, *services: object) -> None:
        since = len(process.lines)
        peer.send(Type.PROPERTY_EXCHANGE, 0, {"services": list(services)})
        process.wait_for(pattern, since=since)

    def is_refused_without_asking() -> bool:
        since = len(process.lines)
        try:
            refused = not echoes(dial(outside.port("forward")))
        except ConnectionResetError:
            refused = True  # so fast that it comes before the connection is made
        process.wait_for("the far side does not publish it", since=since)
        while peer.poll():
            pass
        return refused and not peer.incoming

    assert is_refused_without_asking()
    publish("Listening on", web)
    far = dial(outside.port("forward"))
    channel = peer.next_request()
    assert channel.request["service"] == "web"
    channel.refuse("refused", "not today")
    assert is_reset(far)
    # The outside takes the time by its own clock: nobody needs to tell it.
    publish("Closed", {**web, "ttl": 0.3})
    assert is_refused_without_asking()
    publish("Listening on", web)
    publish("Closed")
    assert is_refused_without_asking()
