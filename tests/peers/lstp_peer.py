"""An LSTP end written a second time, from the protocol description alone.

It shares no line with the package under test, and checks every message that
it receives: a test that talks to it learns whether the other side speaks the
protocol, not whether two copies of one mistake agree. Blocking sockets with
time limits, standard library only; one thread per peer.
"""

from __future__ import annotations

import secrets
import select
import time
from collections import deque
from collections.abc import Callable, Collection
from pathlib import Path

from tests.peers.lstp_channel import Channel
from tests.peers.lstp_identity import certificate_name, load_identity, public_key
from tests.peers.lstp_messages import (
    MAX_WINDOW,
    Json,
    Message,
    PeerViolation,
    Type,
    encode,
    require,
)
from tests.peers.lstp_stream import ConnectionEnded, MessageStream

HOP_FIELDS = ("name", "role", "address", "nonce")
DEFAULT_WINDOW = 262_144


class SetupMismatch(Exception):
    """What the other end repeats inside TLS is not what came in clear."""


class RoleConflict(Exception):
    """Both ends drew the same nonce, or hold the same key."""


class LstpPeer(MessageStream):
    """One end of one tunnel connection.

    ``nonce`` is ``low`` (this end becomes master), ``high`` (the other does)
    or 32 hex digits. ``properties`` go out as the first PROPERTY_EXCHANGE.
    ``common`` replaces the rendezvous id, for further connections.
    Every wait ends after ``timeout`` seconds with TimeoutError.
    """

    def __init__(
        self,
        identity: Path,
        *,
        tunnel: str = "",
        name: str,
        peers: Collection[str],
        role: str = "client-end",
        nonce: str = "low",
        properties: Json | None = None,
        common: str | None = None,
        admission: str | None = None,
        address: str = "independent",
        timeout: float = 10.0,
    ) -> None:
        super().__init__(timeout)
        self.identity = load_identity(identity)
        self.peers = frozenset(peers)
        self.properties: Json = dict(properties or {})
        self.own_keepalive = _seconds(self.properties, self.own_keepalive)
        self.compression = "none"
        self.admission = admission
        self.own_common = common or self.identity.common(tunnel)
        if nonce in ("low", "high"):
            nonce = ("0" if nonce == "low" else "f") * 8 + secrets.token_hex(12)
        self.hop: Json = {"name": name, "role": role, "address": address, "nonce": nonce}
        self.common_message = encode(
            Type.COMMON_UNIQUE_INFO,
            body={"version": 1, "common": self.own_common, "unique": name, "role": role},
        )
        self.partner_common = b""
        self.partner: Json = {}
        self.path: list[Json] = []
        self.master = False
        self.peer_name = ""
        self.peer_properties: Json = {}
        self.peer_shutdown: Json | None = None
        self.waiting_signs = 0
        self.channels: dict[int, Channel] = {}
        self.incoming: deque[Channel] = deque()
        self.errors: list[tuple[str, str]] = []
        self._ignored: set[int] = set()
        self._next_number = 0

    # -- the way up ------------------------------------------------------------------------

    def run_up(self, host: str, port: int) -> None:
        """Everything from dialling to the tunnel that is UP."""
        self.connect(host, port)
        self.send_setup()
        self.wait_for_partner()
        self.elect()
        self.start_tls()
        self.repeat_setup()
        self.exchange_properties()

    def send_setup(self) -> None:
        """Send COMMON_UNIQUE_INFO and TOPOLOGY_EXCHANGE in clear."""
        topology: Json = {"hops": [self.hop]}
        if self.admission is not None:
            topology["admission"] = self.admission
        self.send_bytes(self.common_message + encode(Type.TOPOLOGY_EXCHANGE, body=topology))

    def wait_for_partner(self, timeout: float | None = None) -> None:
        """Read the partner's setup; counts the signs of life that a waiting middle sends."""
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        while True:
            message = self.next_message(deadline - time.monotonic())
            if message.type is not Type.PROPERTY_EXCHANGE:
                break
            require(not message.fields, "a waiting middle's PROPERTY_EXCHANGE is empty")
            self.waiting_signs += 1
        self._expect(message, Type.COMMON_UNIQUE_INFO)
        self.partner_common, self.partner = message.body, message.fields
        message = self._expect(self.next_message(), Type.TOPOLOGY_EXCHANGE)
        require("admission" not in message.fields, "the middle passed an admission token on")
        hops = _hops(message)
        require(len(hops) >= 2, "a path without a middle")
        roles = [hop["role"] for hop in hops]
        require(roles[0] != "middle", "the partner's own hop has the role of a middle")
        require(set(roles[1:]) == {"middle"}, f"hops behind the partner's with roles {roles[1:]}")
        self.path = [{field: self.hop[field] for field in HOP_FIELDS}, *reversed(hops)]

    def elect(self) -> bool:
        """Compare nonces: the smaller is master. Returns whether this end is."""
        own, other = str(self.hop["nonce"]), str(self.path[-1]["nonce"])
        if own == other:
            self._fail("role-conflict", "equal nonces")
            raise RoleConflict("equal nonces")
        self.master = own < other
        self._next_number = 1 if self.master else 2
        return self.master

    def start_tls(self) -> None:
        """The handshake, as TLS client if master."""
        self.secure(self.identity, client=self.master)

    def repeat_setup(self) -> None:
        """Send the setup inside TLS and compare the other's with what came in clear."""
        self.send_bytes(self.repeated_setup())
        certificate = self.tls.getpeercert(binary_form=True) or b""
        if public_key(certificate) == public_key(self.identity.certificate):
            self._fail("role-conflict", "own key at the other end")
            raise RoleConflict("own key at the other end")
        common = self._expect(self.next_message(), Type.COMMON_UNIQUE_INFO)
        topology = self._expect(self.next_message(), Type.TOPOLOGY_EXCHANGE)
        self.peer_name = certificate_name(self.tls)
        own_role, role = self.hop["role"], common.fields["role"]
        hops = _hops(topology)
        faults = {
            "COMMON_UNIQUE_INFO differs from the one in clear": common.body != self.partner_common,
            "another rendezvous id": common.fields["common"] != self.own_common,
            "not the name in the certificate": common.fields["unique"] != self.peer_name,
            "not an allowed peer": self.peer_name not in self.peers,
            "roles do not complement each other": own_role == role and role != "both",
            "own hop under another name": hops[0]["name"] != common.fields["unique"],
            "own hop with another role": hops[0]["role"] != role,
            "the path differs": hops != self.path[::-1],
        }
        wrong = [text for text, applies in faults.items() if applies]
        if wrong:
            self._fail("setup-mismatch", wrong[0])
            raise SetupMismatch(", ".join(wrong))

    def repeated_setup(self) -> bytes:
        """The two messages that this end sends first inside TLS."""
        return self.common_message + encode(Type.TOPOLOGY_EXCHANGE, body={"hops": self.path})

    def exchange_properties(self) -> None:
        """Send the first PROPERTY_EXCHANGE and wait for the other's: the tunnel is UP."""
        self.send(Type.PROPERTY_EXCHANGE, 0, self.properties)
        self._properties(self._expect(self.next_message(), Type.PROPERTY_EXCHANGE))
        own = _texts(self.properties.get("compression", ["none"]))
        other = _texts(self.peer_properties.get("compression", ["none"]))
        first, second = (own, other) if self.master else (other, own)
        self.compression = next((way for way in first if way in second), "none")
        require(self.compression in ("none", "zlib"), f"compression {self.compression!r} chosen")
        self.up = True

    # -- channels --------------------------------------------------------------------------

    def open(
        self, destination: str = "", *, pipelined: bool = True, request: Json | None = None
    ) -> Channel:
        """Ask for a channel; unless ``pipelined``, waits for each answer before going on."""
        channel = self.request(request or {"destination": destination})
        if pipelined:
            channel.begin()
            return channel
        while not channel.accepted:
            if channel.failure:
                raise channel.failure
            self.pump()
        channel.begin()
        channel.wait_open()
        return channel

    def request(self, body: Json) -> Channel:
        """Send CONNECTION_REQUEST only, with the next free id of this end's parity."""
        while self._next_number in self.channels:
            self._next_number += 2
        number = self._next_number
        channel = Channel(self, number, True, body, self._peer_window(), self._own_window())
        self.channels[number] = channel
        self._next_number += 2
        self.send(Type.CONNECTION_REQUEST, number, body)
        return channel

    def next_request(self) -> Channel:
        """The next channel that the other end asks for; nothing is answered yet."""
        self.pump_until(lambda: bool(self.incoming))
        return self.incoming.popleft()

    def accept(self, bound: str = "tcp:192.0.2.1:1") -> Channel:
        """Accept the next channel and say that its application has started."""
        channel = self.next_request()
        channel.accept()
        channel.wait_begin()
        channel.started(bound)
        return channel

    def forget(self, channel: Channel, ignore: bool = False) -> None:
        """A channel is gone; ``ignore``: what is on its way for it is not an error."""
        self.channels.pop(channel.number, None)
        if ignore:
            self._ignored.add(channel.number)

    def shutdown(self, grace: float = 5.0, reason: str = "") -> None:
        """Say that the tunnel ends once its channels have."""
        self.send(Type.SHUTDOWN, 0, {"grace": grace, "reason": reason})

    def wait_closed(self) -> bool:
        """Read to the end of the connection; returns whether it ended with close_notify."""
        try:
            while True:
                self.pump()
        except ConnectionEnded as end:
            return end.clean

    # -- messages --------------------------------------------------------------------------

    def pump_until(self, condition: Callable[[], bool]) -> None:
        """Handle messages until ``condition`` holds."""
        while not condition():
            self.pump()

    def pump(self) -> None:
        """Wait for one message and handle it."""
        self.handle(self.next_message())

    def poll(self) -> bool:
        """Handle one message that is here already; returns whether there was one."""
        while True:
            message = self._parse()
            if message is not None:
                self.handle(message)
                return True
            if self._decrypt():
                continue
            if not self._lost and not select.select([self.sock], [], [], 0)[0]:
                return False
            self._wait_for_bytes(0.0)

    def handle(self, message: Message) -> None:
        """Check ``message`` against the state of the tunnel, and apply it."""
        kind, number = message.type, message.channel
        require(self.up, f"{kind.name} before PROPERTY_EXCHANGE")
        if kind is Type.PROPERTY_EXCHANGE:
            self._properties(message)
        elif kind is Type.SHUTDOWN:
            require(self.peer_shutdown is None, "a second SHUTDOWN")
            self.peer_shutdown = message.fields
        elif kind is Type.CONNECTION_REQUEST:
            self._requested(message)
        elif number in self.channels:
            self.channels[number].received(message)
        elif kind is Type.ERROR and number == 0:
            self.errors.append((str(message.fields["code"]), str(message.fields["reason"])))
        else:
            require(number != 0, f"{kind.name} once the tunnel is up")
            require(number in self._ignored, f"{kind.name} on channel {number}, which is not open")

    def _requested(self, message: Message) -> None:
        number, fields = message.channel, message.fields
        require(self.peer_shutdown is None, "CONNECTION_REQUEST after the sender's own SHUTDOWN")
        odd = not self.master
        require(number % 2 == odd, f"CONNECTION_REQUEST with id {number} of the wrong parity")
        require(number not in self.channels, f"CONNECTION_REQUEST with the live id {number}")
        if "listener" in fields:
            listener = self.channels.get(int(str(fields["listener"])))
            require(
                listener is not None
                and listener.opener
                and listener.begun
                and str(listener.request.get("destination")).startswith("listen:"),
                f"CONNECTION_REQUEST from {fields['listener']}, which is no listener",
            )
        self._ignored.discard(number)
        channel = Channel(self, number, False, fields, self._peer_window(), self._own_window())
        self.channels[number] = channel
        self.incoming.append(channel)

    def _properties(self, message: Message) -> None:
        fields = message.fields
        if self.up:
            # Both are settled by the first one.
            fields = {k: v for k, v in fields.items() if k not in ("window", "compression")}
        self.peer_properties.update(fields)
        self.peer_keepalive = _seconds(fields, self.peer_keepalive)
        require(self._peer_window() <= MAX_WINDOW, f"window of {self._peer_window()}")

    def _peer_window(self) -> int:
        return int(str(self.peer_properties.get("window", DEFAULT_WINDOW)))

    def _own_window(self) -> int:
        return int(str(self.properties.get("window", DEFAULT_WINDOW)))

    def _expect(self, message: Message, kind: Type) -> Message:
        require(message.type is kind, f"{message.type.name} where {kind.name} is due")
        return message

    def _fail(self, code: str, reason: str) -> None:
        """Tell the other end why, and tear the connection down."""
        try:
            self.send(Type.ERROR, 0, {"code": code, "reason": reason, "fatal": True})
        except ConnectionEnded:
            pass
        self.close()


def _hops(message: Message) -> list[Json]:
    """The hops with just the four fields that count."""
    hops = message.fields["hops"]
    if not isinstance(hops, list) or not hops:
        raise PeerViolation("TOPOLOGY_EXCHANGE without hops")
    return [{name: hop[name] for name in HOP_FIELDS} for hop in hops]


def _texts(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else []


def _seconds(properties: Json, otherwise: float) -> float:
    return float(str(properties.get("keepalive", otherwise)))
