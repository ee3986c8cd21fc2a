"""A display here that is shown there: who gets in, what travels, what is told when it fails."""

from __future__ import annotations

import os
import socket
import struct
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import pytest
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    UNIXClientEndpoint,
    connectProtocol,
)
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from tests.frontends.fake_tunnel import FakeRequest, FakeTunnel
from tests.frontends.installed import configured
from tests.frontends.talk import Server, Talk, refused
from tunnelkit.egress import x11 as x11_connect
from tunnelkit.egress.dial import Egress
from tunnelkit.egress.requests import EgressRequest
from tunnelkit.egress.x11 import X11Connect
from tunnelkit.errors import Code, ConfigError
from tunnelkit.frontends.x11.display import DisplayClaim
from tunnelkit.frontends.x11.listen import X11Config, X11Display, parse_x11
from tunnelkit.net.channels.contracts import ChannelHandle
from tunnelkit.net.sockets.poll import Poller
from tunnelkit.policy.acl import PolicyHolder, parse_rule
from tunnelkit.policy.destination import parse_destination
from tunnelkit.policy.xauthority import AuthorityFile, local_places
from tunnelkit.wire.x11 import MIT_MAGIC_COOKIE, Setup, SetupReader, encode_setup

reactor: Any = global_reactor

REAL = b"the real cookie!"
REPLY = b"\x01\x00\x00\x0b\x00\x00\x00\x02" + b"welcome."


def free_display(above: int = 0) -> int:
    """A display that nobody has, its TCP port included."""
    for number in range(above + 1 if above else 100 + os.getpid() % 800, 5000):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", 6000 + number))
                DisplayClaim(number).release()
            except (OSError, ConfigError):
                continue
        return number
    raise AssertionError("there is no free display")


class XServer(Talk):
    """Answers a setup packet with `REPLY`, and keeps it."""

    def __init__(self) -> None:
        Talk.__init__(self)
        self.reader = SetupReader()

    def dataReceived(self, data: bytes) -> None:
        taken = self.reader.receive(data)
        if taken and self.reader.setup is not None:
            self.write(REPLY)
        Talk.dataReceived(self, data[taken:])

    def readConnectionLost(self) -> None:
        assert self.transport is not None
        self.transport.loseConnection()


class Peer:
    """The far application, sending ``data``; ``over`` fires with why its channel was reset."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.over: Deferred[str] = Deferred()

    def attach(self, channel: ChannelHandle) -> None:
        channel.ready()

    def pull_into(self, view: memoryview) -> int:
        size = len(self._data)
        view[:size] = self._data
        self._data = b""
        return size

    def push(self, view: memoryview) -> int:
        raise AssertionError("nothing comes back")

    def finish(self) -> None:
        raise AssertionError("nothing ends cleanly")

    close = finish

    def reset(self, code: Code, reason: str) -> None:
        self.over.callback(f"{code}: {reason}")


class X11Tests(TestCase):
    timeout = 20

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="x11-"))
        self.addCleanup(self._remove)
        self.holder = PolicyHolder()
        self.poller = Poller.of(reactor)
        self.number = free_display()
        self.near = {"XAUTHORITY": str(self.directory / "near")}
        self.far = {"XAUTHORITY": str(self.directory / "far")}

    def _remove(self) -> None:
        for file in self.directory.iterdir():
            file.unlink()
        self.directory.rmdir()

    # -- parts ------------------------------------------------------------

    def egress(self, *rules: str, clock: Any = reactor) -> Egress:
        self.holder.replace(map(parse_rule, rules))
        egress = Egress(clock, self.poller, self.holder)
        self.addCleanup(egress.close)
        X11Connect(egress, self.far)
        return egress

    def display(
        self, acceptor: Callable[[EgressRequest], object], clock: Any = reactor, more: str = ""
    ) -> X11Display:
        tunnel = FakeTunnel(acceptor)
        config = parse_x11(f"{self.number}{more}")
        display = X11Display(reactor, tunnel, self.holder, config, self.near)
        display.waiting._reactor = clock
        self.addCleanup(lambda: display.running and display.stopService())
        display.startService()
        return display

    def x_server(self, protocol: Callable[[], Talk] = XServer) -> tuple[Server, int]:
        """An X server that listens on TCP; its display."""
        server = Server(protocol)
        listening = reactor.listenTCP(0, server, interface="127.0.0.1")
        while listening.getHost().port < 6000:
            self.addCleanup(listening.stopListening)
            listening = reactor.listenTCP(0, server, interface="127.0.0.1")
        self.addCleanup(lambda: gatherResults([made.closed for made in server.made]))
        self.addCleanup(listening.stopListening)
        return server, listening.getHost().port - 6000

    def put_real_cookie(self, number: int) -> None:
        AuthorityFile(self.far["XAUTHORITY"]).put(local_places(), number, REAL)

    async def client(self, unix: bool = False) -> Talk:
        endpoint: Any = TCP4ClientEndpoint(reactor, "127.0.0.1", 6000 + self.number)
        if unix:
            endpoint = UNIXClientEndpoint(reactor, f"/tmp/.X11-unix/X{self.number}")
        return cast(Talk, await connectProtocol(endpoint, Talk()))

    def cookie(self) -> bytes:
        cookie = AuthorityFile(self.near["XAUTHORITY"]).cookie(local_places(), self.number)
        assert cookie is not None
        return cookie

    def setup_packet(self, cookie: bytes, big_endian: bool = False) -> bytes:
        return encode_setup(Setup(big_endian, 11, 0, MIT_MAGIC_COOKIE, cookie))

    async def refusal(self, talk: Talk, big_endian: bool = False) -> str:
        """What the X client is told, once the display has closed the connection."""
        data = await talk.end()
        order = ">" if big_endian else "<"
        failed, size, _, _, words = struct.unpack_from(f"{order}BBHHH", data)
        assert failed == 0
        assert len(data) == 8 + 4 * words
        talk.close()
        await talk.closed
        return data[8 : 8 + size].decode()

    # -- who gets in ------------------------------------------------------

    async def test_the_right_cookie_is_exchanged_for_the_real_one(self) -> None:
        server, number = self.x_server()
        self.put_real_cookie(number)
        self.display(self.egress(f"x11:127.0.0.1:{number}"), more=f"=127.0.0.1:{number}")
        for unix in (False, True):
            for big_endian in (False, True):
                talk = await self.client(unix)
                talk.write(self.setup_packet(self.cookie(), big_endian))
                assert await talk.received(len(REPLY)) == REPLY
                made = cast(XServer, server.made[-1])
                assert made.reader.setup == Setup(big_endian, 11, 0, MIT_MAGIC_COOKIE, REAL)
                talk.write(b"\x7f\0\1\0" if big_endian else b"\x7f\0\0\1")
                await made.received(4)
                await talk.close()
                await made.closed

    async def test_a_thousand_wrong_cookies_reach_nothing(self) -> None:
        asked: list[EgressRequest] = []
        display = self.display(asked.append)
        right = self.cookie()

        async def attempt(number: int) -> None:
            wrong = right[:12] + number.to_bytes(4, "big")
            talk = await self.client()
            talk.write(self.setup_packet(wrong))
            assert "wrong cookie" in await self.refusal(talk)

        for start in range(0, 1000, 50):
            await gatherResults(
                [Deferred.fromCoroutine(attempt(start + offset)) for offset in range(50)]
            )
        assert asked == []
        assert cast(FakeTunnel, display.tunnel).opened == []

    async def test_clients_without_a_cookie_are_told_so_in_their_byte_order(self) -> None:
        asked: list[EgressRequest] = []
        self.display(asked.append)
        for big_endian in (True, False):
            talk = await self.client(unix=True)
            talk.write(encode_setup(Setup(big_endian)))
            assert "has no cookie" in await self.refusal(talk, big_endian)
        assert asked == []

    async def test_a_packet_that_says_it_is_too_long_is_refused_by_its_head(self) -> None:
        self.display(lambda request: None)
        talk = await self.client()
        talk.write(b"B\0\0\x0b\0\0\xff\xff\xff\xff\0\0")
        assert "longer than 65536" in await self.refusal(talk, True)

    async def test_what_is_no_x_client_is_reset(self) -> None:
        self.display(lambda request: None)
        talk = await self.client()
        talk.write(b"GET / HTTP/1.1\r\n\r\n")
        await talk.closed
        assert talk.was_reset
        assert talk.data == b""

    async def test_a_packet_in_pieces_has_ten_seconds_in_all(self) -> None:
        clock = Clock()
        asked: list[EgressRequest] = []
        self.display(asked.append, clock)
        talk = await self.client()
        packet = self.setup_packet(self.cookie())
        talk.write(packet[:20])
        # Another client, that is told no, shows that the first one's bytes have been read.
        other = await self.client()
        other.write(encode_setup(Setup(False)))
        await self.refusal(other)
        clock.advance(9.9)
        assert not talk.ended
        clock.advance(0.2)
        assert "in time" in await self.refusal(talk)
        assert asked == []

    async def test_a_packet_in_pieces_is_admitted_when_it_is_whole(self) -> None:
        asked: Deferred[EgressRequest] = Deferred()
        self.display(asked.callback)
        talk = await self.client()
        for byte in self.setup_packet(self.cookie()):
            talk.write(bytes([byte]))
        request = await asked
        assert request.destination == "service:@x11"
        request.refuse(Code.REFUSED, "enough")
        await self.refusal(talk)

    # -- what the client is told ------------------------------------------

    async def test_the_far_sides_refusal_is_told_as_x_says_it(self) -> None:
        _, number = self.x_server()
        self.display(self.egress("x11::77"), more=f"=127.0.0.1:{number}")
        for big_endian in (False, True):
            talk = await self.client()
            talk.write(self.setup_packet(self.cookie(), big_endian))
            said = await self.refusal(talk, big_endian)
            assert said == "tunnelkit: the far side: not-allowed: not allowed there"

    async def test_no_x_server_there_is_told_as_x_says_it(self) -> None:
        free = free_display(self.number)
        self.display(self.egress(f"x11::{free}"))
        talk = await self.client()
        talk.write(self.setup_packet(self.cookie()))
        assert "refused: connection refused" in await self.refusal(talk)

    # -- the far side -----------------------------------------------------

    async def test_no_rule_and_no_display_are_refusals(self) -> None:
        for rules, code in ((["tcp:*:*"], Code.NOT_ALLOWED), (["x11::0-3"], Code.UNREACHABLE)):
            request = FakeRequest("service:@x11")
            self.egress(*rules)(request)
            assert (await refused(request.answer)).code == code

    async def test_display_decides_which_one_unless_the_rules_name_one(self) -> None:
        free = free_display(self.number)
        cases = [
            (f":{free}", "x11::0-9", Code.NOT_ALLOWED),
            (f":{free}.0", "x11::*", Code.REFUSED),
            ("nonsense", "x11::*", Code.UNREACHABLE),
            (":3", f"x11::{free}", Code.REFUSED),
            ("", f"gate=x11::{free}", Code.REFUSED),
            ("", f"somebody=x11::{free}", Code.NOT_ALLOWED),
        ]
        for display, rule, code in cases:
            self.far["DISPLAY"] = display
            request = FakeRequest("service:@x11")
            self.egress(rule)(request)
            answer = await refused(request.answer)
            assert answer.code == code, (display, rule, answer)

    async def test_without_a_real_cookie_the_x_server_decides(self) -> None:
        server, number = self.x_server()
        self.display(self.egress(f"x11:127.0.0.1:{number}"), more=f"=127.0.0.1:{number}")
        talk = await self.client()
        talk.write(self.setup_packet(self.cookie()))
        await talk.received(len(REPLY))
        assert cast(XServer, server.made[0]).reader.setup == Setup(False)
        await talk.close()

    async def test_a_damaged_authority_file_there_is_told_as_x_says_it(self) -> None:
        _, number = self.x_server()
        Path(self.far["XAUTHORITY"]).write_bytes(b"\x01")
        self.display(self.egress(f"x11:127.0.0.1:{number}"), more=f"=127.0.0.1:{number}")
        talk = await self.client()
        talk.write(self.setup_packet(self.cookie()))
        assert "reset: there is no cookie for the display there" in await self.refusal(talk)

    async def test_an_x_server_that_starts_over_is_connected_to_again(self) -> None:
        dropped: list[Talk] = []

        class Dropping(XServer):
            def dataReceived(self, data: bytes) -> None:
                if len(dropped) < 2:
                    dropped.append(self)
                    assert self.transport is not None
                    cast(Any, self.transport).abortConnection()
                else:
                    XServer.dataReceived(self, data)

        server, number = self.x_server(Dropping)
        self.put_real_cookie(number)
        self.display(self.egress(f"x11:127.0.0.1:{number}"), more=f"=127.0.0.1:{number}")
        talk = await self.client()
        talk.write(self.setup_packet(self.cookie()))
        assert await talk.received(len(REPLY)) == REPLY
        assert len(server.made) == 3
        assert cast(XServer, server.made[2]).reader.setup is not None
        await talk.close()

    async def test_an_x_server_that_drops_everybody_is_given_up(self) -> None:
        class Rude(Talk):
            def connectionMade(self) -> None:
                assert self.transport is not None
                self.transport.loseConnection()

        server, number = self.x_server(Rude)
        self.display(self.egress(f"x11:127.0.0.1:{number}"), more=f"=127.0.0.1:{number}")
        talk = await self.client()
        talk.write(self.setup_packet(self.cookie()))
        assert "drops the connection" in await self.refusal(talk)
        assert len(server.made) == 4

    async def test_a_peer_that_sends_no_setup_packet_is_cut_off(self) -> None:
        """Nobody has looked at what a peer sends: its own end may be of any make."""
        patching = patch.object(x11_connect, "SETUP_LIMIT", 0.05)
        patching.start()
        self.addCleanup(patching.stop)
        cases = [
            (b"", "timed-out: no complete X setup packet within 0.05 s"),
            (self.setup_packet(b"some")[:-1], "timed-out: no complete X setup packet"),
            (b"B\0\0\x0b\0\0\xff\xff\xff\xff\0\0", "reset: the X setup packet is longer"),
            (b"GET / HTTP/1.1\r\n\r\n", "reset: not an X client"),
        ]
        for data, expected in cases:
            server, number = self.x_server()
            tunnel = FakeTunnel(self.egress(f"x11:127.0.0.1:{number}"))
            peer = Peer(data)
            await tunnel.open(f"x11:127.0.0.1:{number}", peer)
            assert (await peer.over).startswith(expected)
            await gatherResults([made.closed for made in server.made])
            assert [cast(XServer, made).reader.setup for made in server.made] in ([], [None])

    # -- being a display --------------------------------------------------

    async def test_a_display_leaves_nothing_behind(self) -> None:
        display = self.display(lambda request: None)
        lock = Path(f"/tmp/.X{self.number}-lock")
        path = Path(f"/tmp/.X11-unix/X{self.number}")
        assert int(lock.read_text()) == os.getpid()
        assert path.stat().st_mode & 0o777 == 0o600
        await display.stopService()
        assert not lock.exists()
        assert not path.exists()
        assert AuthorityFile(self.near["XAUTHORITY"]).entries() == ()
        DisplayClaim(self.number).release()

    async def test_each_start_makes_another_cookie(self) -> None:
        cookies = set()
        for _ in range(3):
            display = self.display(lambda request: None)
            cookies.add(self.cookie())
            await display.stopService()
        assert len(cookies) == 3
        assert {len(cookie) for cookie in cookies} == {16}

    async def test_a_display_in_use_is_told_in_one_line(self) -> None:
        self.display(lambda request: None)
        with pytest.raises(ConfigError, match=f"^display :{self.number} is in use"):
            self.display(lambda request: None)

    async def test_a_taken_port_undoes_everything(self) -> None:
        taken = socket.create_server(("127.0.0.1", 6000 + self.number))
        with taken, pytest.raises(ConfigError, match=r"cannot listen on 127\.0\.0\.1"):
            self.display(lambda request: None)
        assert not Path(f"/tmp/.X{self.number}-lock").exists()
        assert not Path(f"/tmp/.X11-unix/X{self.number}").exists()
        assert not Path(self.near["XAUTHORITY"]).exists()

    async def test_the_socket_of_an_x_server_without_a_lock_is_left_alone(self) -> None:
        path = Path(f"/tmp/.X11-unix/X{self.number}")
        self.addCleanup(path.unlink)
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(path))
            other.listen()
            with pytest.raises(ConfigError, match="in use"):
                self.display(lambda request: None)
            assert path.is_socket()

    async def test_an_authority_file_that_cannot_be_written_undoes_everything(self) -> None:
        self.near["XAUTHORITY"] = str(self.directory / "nowhere" / "file")
        with pytest.raises(ConfigError, match="X authority file"):
            self.display(lambda request: None)
        assert not Path(f"/tmp/.X11-unix/X{self.number}").exists()
        DisplayClaim(self.number).release()

    async def test_a_lock_of_a_process_that_is_gone_is_taken_over(self) -> None:
        lock = Path(f"/tmp/.X{self.number}-lock")
        pid = os.spawnlp(os.P_NOWAIT, "true", "true")
        os.waitpid(pid, 0)
        lock.write_text(f"{pid:10}\n")
        claim = DisplayClaim(self.number)
        assert int(lock.read_text()) == os.getpid()
        claim.release()
        claim.release()
        assert not lock.exists()

    async def test_nobody_else_can_have_the_abstract_socket(self) -> None:
        claim = DisplayClaim(self.number)
        self.addCleanup(claim.release)
        name = f"\0/tmp/.X11-unix/X{self.number}"
        with socket.socket(socket.AF_UNIX) as thief, pytest.raises(OSError, match="in use"):
            thief.bind(name)
        with socket.socket(socket.AF_UNIX) as client, pytest.raises(ConnectionRefusedError):
            client.connect(name)

    async def test_a_display_whose_abstract_socket_is_taken_is_in_use(self) -> None:
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(f"\0/tmp/.X11-unix/X{self.number}")
            with pytest.raises(ConfigError, match="is in use"):
                DisplayClaim(self.number)
        assert not Path(f"/tmp/.X{self.number}-lock").exists()


class OptionTests(TestCase):
    def test_numbers_and_displays(self) -> None:
        parse = partial(configured, "x11")
        assert parse("10") == parse(":10") == X11Config(10, "service:@x11")
        assert parse("10=:1") == X11Config(10, "x11::1")
        assert parse("10=Desk:1.0") == X11Config(10, "x11:desk:1")
        assert parse("0=[::1]:1") == X11Config(0, "x11:[::1]:1")
        assert parse_destination(parse("1").destination).kind == "service"

    def test_what_is_no_display_is_told_in_one_line(self) -> None:
        for text in ("", "a", "-1", "59536", "9" * 50, "1=", "1=desk", "\u0661"):
            with pytest.raises(ConfigError, match="expected"):
                parse_x11(text)
