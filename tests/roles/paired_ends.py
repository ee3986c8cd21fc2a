"""Two paired ends in memory, with files on disk and a channel that can be cut anywhere."""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from cryptography import x509
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from tunnelkit.errors import ChannelRefused, Code
from tunnelkit.net.channels.connection import TunnelConnection
from tunnelkit.net.channels.contracts import END
from tunnelkit.net.channels.request import ChannelRequest
from tunnelkit.net.tls.context import certificate_name, spki_pin
from tunnelkit.policy.destination import parse_destination
from tunnelkit.policy.identity import Identity, identity_pem, load_identity
from tunnelkit.policy.keys import self_signed
from tunnelkit.roles.paired_end import PairedEnd

_PIN = re.compile(r'"([a-z]+)=sha256:([0-9a-f]{64})"')


def write(directory: Path, **peers: tuple[str, ...]) -> None:
    """Identities of all, and settings in which each pins those named."""
    made = {name: self_signed(name) for name in peers}
    for name, others in peers.items():
        file = directory / f"{name}.pem"
        file.write_bytes(identity_pem(made[name]))
        file.chmod(0o600)
        pins = "".join(f'    "{other}={made[other].fingerprint}",\n' for other in others)
        (directory / f"{name}.toml").write_text(f"paired = true\npeer-pin = [\n{pins}]\n")


class Watch:
    """The part of a `CredentialWatch` that an end's keys need."""

    def __init__(self, directory: Path, name: str) -> None:
        self.identity_file = str(directory / f"{name}.pem")
        self.config_file = directory / f"{name}.toml"
        self.identity: Identity = load_identity(self.identity_file)
        self.pins = self.pins_on_disk()
        self.followers: dict[object, bytes] = {}

    def pins_on_disk(self) -> dict[bytes, str]:
        found = _PIN.findall(self.config_file.read_text())
        return {bytes.fromhex(digits): name for name, digits in found}

    def key_of(self, connection: Any) -> bytes:
        return self.followers.get(connection) or spki_pin(connection.certificate)

    def succeed(self, connection: object, pin: bytes) -> None:
        self.followers[connection] = pin

    def use_pins(self, pins: Mapping[bytes, str]) -> bool:
        assert list(pins.items()) == list(self.pins_on_disk().items())
        self.pins = dict(pins)
        return True

    def look(self) -> None:
        self.identity = load_identity(self.identity_file)


class Link(TunnelConnection):
    """One end's half of a connection."""

    def __init__(self, wire: Wire, peer: str, certificate: x509.Certificate) -> None:
        self.wire = wire
        self.peer = peer
        self.up = True
        self.certificate = certificate
        self.far: Link
        self.answerers: dict[str, Callable[[Any, Any], object]] = {}
        engine: Any = SimpleNamespace(
            peer_certificate=certificate, peer_name=certificate_name(certificate)
        )
        stream: Any = SimpleNamespace(engine=engine)
        self.stream = stream
        self.side: Any = None
        self.refusal: ChannelRefused | None = None

    def lacks(self, destination: str) -> str:
        return ""

    def open(self, destination: str, side: Any, via: tuple[str, ...] = ()) -> Deferred[str]:
        far = self.far
        far.side = far.refusal = None
        request = ChannelRequest(far, 1, destination)
        far.answerers[destination](request, parse_destination(destination))
        if far.refusal is not None:
            side.reset(far.refusal.code, far.refusal.reason)
            return fail(far.refusal)
        Half.joined(self.wire, side, far.side)
        return succeed("")

    def accept(self, request: Any, side: Any, bound: str, rule: str = "") -> Any:
        self.side = side

    def refuse(self, request: Any, code: Code, reason: str) -> None:
        self.refusal = ChannelRefused(code, reason)


class Wire:
    """What is on the way between the two; it ends after ``most`` pieces."""

    def __init__(self, most: int = 1000) -> None:
        self.left = most
        self.passed = 0
        self.seen = bytearray()
        self.halves: deque[Half] = deque()

    def run(self) -> None:
        while self.halves and self.left:
            self.halves.popleft().move()

    @property
    def cut(self) -> bool:
        return not self.left


class Half:
    """What goes one way on a channel (a `ChannelHandle`)."""

    def __init__(self, wire: Wire, side: Any) -> None:
        self.wire = wire
        self.side = side
        self.far: Half
        self.over = False

    @classmethod
    def joined(cls, wire: Wire, one: Any, other: Any) -> None:
        near, far = cls(wire, one), cls(wire, other)
        near.far, far.far = far, near
        for half in (near, far):
            half.side.attach(half)

    def ready(self) -> None:
        if not self.over:
            self.wire.halves.append(self)

    def drained(self) -> None:
        self.ready()

    def resume(self) -> None:
        self.ready()

    def move(self) -> None:
        room = bytearray(65536)
        count = self.side.pull_into(memoryview(room))
        if count == END:
            self.over = True
            self.far.side.finish()
        elif count:
            self.wire.left -= 1
            self.wire.passed += 1
            self.wire.seen += room[:count]
            if self.wire.left:
                self.far.side.push(memoryview(room)[:count])
                self.ready()

    def abort(self, code: Code, reason: str) -> None:
        self.over = self.far.over = True
        self.side.reset(code, reason)
        self.far.side.reset(code, reason)


class Tunnel:
    """What an end's keys need of its tunnel."""

    last_error = "nobody is there"

    def __init__(self, end: End) -> None:
        self._end = end

    @property
    def connections(self) -> tuple[Link, ...]:
        return self._end.connections

    def watch(self, came: Any) -> None:
        self._end.came.append(came)

    def unwatch(self, came: Any) -> None:
        self._end.came.remove(came)


class End:
    """One end, from its files; ``counts``: its meetings are counted."""

    def __init__(self, directory: Path, name: str, counts: bool = False) -> None:
        self.name = name
        self.watch = Watch(directory, name)
        self.connections: tuple[Link, ...] = ()
        self.came: list[Any] = []
        self.answerers: dict[str, Any] = {}
        self.stays = ""
        egress: Any = SimpleNamespace(reactor=Clock(), answer_with=self.answerers.__setitem__)
        tunnel: Any = Tunnel(self)
        self.clock = egress.reactor
        watch: Any = self.watch
        file = str(self.watch.config_file)
        paired = PairedEnd(
            egress, tunnel, watch, None, paired=counts, pins_file=file, stays=lambda: self.stays
        )
        self.keys = paired.keys
        paired.start()


def connect(one: End, other: End, wire: Wire) -> None:
    """A connection of the two, each by the keys that it has now; they must know each other."""
    links = []
    for end, far in ((one, other), (other, one)):
        certificate = far.watch.identity.credentials.certificate
        assert end.watch.pins.get(spki_pin(certificate)) == far.name
        links.append(Link(wire, far.name, certificate))
    links[0].far, links[1].far = links[1], links[0]
    for end, link in zip((one, other), links, strict=True):
        link.answerers = end.answerers
        end.connections = (*end.connections, link)
    for end, link in zip((one, other), links, strict=True):
        for came in end.came:
            came(link)


def outcome(end: End, wire: Wire) -> dict[str, Any]:
    """What ``pair --again`` at ``end`` says, once all has passed that the wire lets pass."""
    found: list[Any] = []
    end.keys.renew().addBoth(found.append)
    wire.run()
    if not found:
        return {}
    answer = json.loads(json.dumps(found[0]))
    assert isinstance(answer, dict)
    return answer
