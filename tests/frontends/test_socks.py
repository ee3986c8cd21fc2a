"""The SOCKS server: what clients of each version are told, and that bytes go through."""

from __future__ import annotations

import os
import tempfile
from typing import Any, cast

import pytest
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from zope.interface.verify import verifyObject

from tests.acceptance.processes import free_port
from tests.frontends.far_side import FarSideCase
from tests.frontends.installed import configured, front_end
from tests.frontends.talk import Talk, is_reset
from tunnelkit.core.proxies.socks_server import HANDSHAKE_LIMIT
from tunnelkit.errors import ChannelRefused, Code, ConfigError
from tunnelkit.frontends.logins import read_users
from tunnelkit.frontends.socks import server as socks
from tunnelkit.frontends.socks.server import Socks, SocksConfig, make_service
from tunnelkit.interfaces import IFrontEnd
from tunnelkit.net.channels.contracts import LocalSide
from tunnelkit.policy.acl import parse_network, parse_rule

reactor: Any = global_reactor

HELLO = b"\x05\x01\x00"


def connect5(port: int, host: bytes = b"\x01\x7f\x00\x00\x01", command: int = 1) -> bytes:
    return b"\x05" + bytes((command,)) + b"\x00" + host + port.to_bytes(2, "big")


def named(name: bytes) -> bytes:
    return b"\x03" + bytes((len(name),)) + name


class Answering:
    """A tunnel whose far side refuses with ``code``, or answers ``bound`` and stays silent."""

    def __init__(self, code: Code | None = None, bound: str = "") -> None:
        self.code = code
        self.bound = bound
        self.opened: list[str] = []
        self.side: LocalSide | None = None

    def open(self, destination: str, side: LocalSide) -> Deferred[str]:
        self.opened.append(destination)
        result: Deferred[str] = Deferred()
        if self.code is None:
            self.side = side
            result.callback(self.bound)
        else:
            side.reset(self.code, "")
            result.errback(ChannelRefused(self.code))
        return result


class SocksTests(FarSideCase):
    timeout = 5

    def socks(self, tunnel: Any = None, users: dict[str, str] | None = None) -> Socks:
        config = SocksConfig("127.0.0.1", 0, users)
        made = Socks(reactor, tunnel or self.tunnel, self.near, config)
        made.startService()
        self.addCleanup(made.stopService)
        return made

    async def connect(self, server: Socks) -> Talk:
        host, _, port = server.address.rpartition(":")
        endpoint = TCP4ClientEndpoint(reactor, host, int(port))
        return cast(Talk, await connectProtocol(endpoint, Talk()))

    async def last_words(self, server: Socks, data: bytes) -> bytes:
        """What the server says to ``data`` before it closes."""
        talk = await self.connect(server)
        talk.write(data)
        said = await talk.end()
        await talk.close()
        assert not talk.was_reset
        return said

    async def test_socks_5_connects_and_gives_the_far_socket_s_address(self) -> None:
        _, port = self.serve()
        talk = await self.connect(self.socks())
        talk.write(HELLO)
        assert await talk.received(2) == b"\x05\x00"
        talk.write(connect5(port))
        reply = (await talk.received(12))[2:]
        assert reply[:8] == b"\x05\x00\x00\x01\x7f\x00\x00\x01"
        assert int.from_bytes(reply[8:10], "big") not in (0, port)
        talk.write(b"ping")
        assert (await talk.received(16))[12:] == b"ping"
        talk.half_close()
        assert (await talk.end())[12:] == b"ping"
        await talk.close()
        assert self.tunnel.opened == [f"tcp:127.0.0.1:{port}"]

    async def test_bytes_sent_behind_the_request_belong_to_the_application(self) -> None:
        _, port = self.serve()
        talk = await self.connect(self.socks())
        talk.write(HELLO + connect5(port) + b"early")
        assert (await talk.received(17))[12:] == b"early"
        talk.write(b"later")
        assert (await talk.received(22))[12:] == b"earlylater"
        await talk.close()

    async def test_a_request_cut_into_bytes_is_understood(self) -> None:
        _, port = self.serve()
        talk = await self.connect(self.socks())
        turn: Deferred[None]
        for byte in HELLO + connect5(port):
            talk.write(bytes((byte,)))
            turn = Deferred()
            reactor.callLater(0, turn.callback, None)
            await turn
        assert (await talk.received(12))[3] == 0
        await talk.close()

    async def test_socks_4_and_4a_connect(self) -> None:
        _, port = self.serve()
        self.far.replace(
            [parse_rule(f"tcp:127.0.0.1:{port}"), parse_rule(f"tcp:localhost:{port}@127.0.0.1")]
        )
        server = self.socks()
        number = port.to_bytes(2, "big")
        for request in (
            b"\x04\x01" + number + b"\x7f\x00\x00\x01me\x00",
            b"\x04\x01" + number + b"\x00\x00\x00\x01me\x00localhost\x00",
        ):
            talk = await self.connect(server)
            talk.write(request)
            reply = await talk.received(8)
            assert reply[:2] == b"\x00\x5a"
            talk.write(b"ping")
            assert (await talk.received(12))[8:] == b"ping"
            await talk.close()
        assert self.tunnel.opened == [f"tcp:127.0.0.1:{port}", f"tcp:localhost:{port}"]

    async def test_names_and_ipv6_addresses_go_to_the_far_side_as_they_are(self) -> None:
        tunnel = Answering(Code.REFUSED)
        server = self.socks(tunnel)
        ipv6 = b"\x04" + bytes(15) + b"\x01"
        await self.last_words(server, HELLO + connect5(80, named(b"Web.Example")))
        await self.last_words(server, HELLO + connect5(80, ipv6))
        assert tunnel.opened == ["tcp:web.example:80", "tcp:[::1]:80"]

    async def test_each_refusal_has_its_reply_code(self) -> None:
        for code, reply in [
            (Code.REFUSED, 5),
            (Code.UNREACHABLE, 4),
            (Code.NO_SUCH_HOST, 4),
            (Code.TIMED_OUT, 6),
            (Code.NOT_ALLOWED, 2),
            (Code.LIMIT, 1),
        ]:
            said = await self.last_words(self.socks(Answering(code)), HELLO + connect5(80))
            assert said[2:4] == bytes((5, reply))
            said = await self.last_words(
                self.socks(Answering(code)), b"\x04\x01\x00\x50\x7f\x00\x00\x01\x00"
            )
            assert said[:2] == b"\x00\x5b"

    async def test_a_refused_client_that_sent_more_still_gets_its_reply(self) -> None:
        server = self.socks(Answering(Code.REFUSED))
        said = await self.last_words(server, HELLO + connect5(80) + bytes(20000))
        assert said[2:4] == b"\x05\x05"

    async def test_a_port_that_refuses_at_the_far_side_is_told(self) -> None:
        port = free_port()
        self.far.replace([parse_rule(f"tcp:127.0.0.1:{port}")])
        said = await self.last_words(self.socks(), HELLO + connect5(port))
        assert said[2:4] == b"\x05\x05"

    async def test_hosts_that_are_none_do_not_reach_the_tunnel(self) -> None:
        server = self.socks()
        for host in (b"0177.0.0.1", b"2130706433", b"a..b", b"*", b"x" * 255):
            said = await self.last_words(server, HELLO + connect5(80, named(host)))
            assert said[2:4] == b"\x05\x04"
        assert (await self.last_words(server, HELLO + connect5(0)))[2:4] == b"\x05\x04"
        assert self.tunnel.opened == []

    async def test_other_commands_are_not_supported(self) -> None:
        server = self.socks()
        said = await self.last_words(server, HELLO + connect5(80, command=9))
        assert said[2:4] == b"\x05\x07"
        # There is no UDP in SOCKS 4.
        assert (await self.last_words(server, b"\x04\x03\x00\x50\x7f\0\0\x01\0"))[:2] == b"\0\x5b"

    async def test_what_is_not_socks_is_closed(self) -> None:
        assert await self.last_words(self.socks(), b"GET / HTTP/1.0\r\n\r\n") == b""

    async def test_a_far_socket_without_address_is_answered_with_zeros(self) -> None:
        for bound in ("", "unix:/run/x", "tcp:name:80", "nonsense"):
            tunnel = Answering(bound=bound)
            talk = await self.connect(self.socks(tunnel))
            talk.write(HELLO + connect5(80))
            assert (await talk.received(12))[2:] == b"\x05\x00\x00\x01" + bytes(6)
            assert tunnel.side is not None
            tunnel.side.reset(Code.RESET, "")
            await talk.closed
            assert talk.was_reset

    async def test_user_and_password_are_asked_for_where_they_are_set(self) -> None:
        _, port = self.serve()
        server = self.socks(users={"me": "secret"})
        talk = await self.connect(server)
        talk.write(b"\x05\x02\x00\x02" + b"\x01\x02me\x06secret" + connect5(port) + b"ping")
        said = await talk.received(18)
        assert said[:5] == b"\x05\x02\x01\x00\x05"
        assert said[14:] == b"ping"
        await talk.close()
        assert await self.last_words(server, HELLO) == b"\x05\xff"
        wrong = b"\x05\x01\x02" + b"\x01\x02me\x05wrong"
        assert await self.last_words(server, wrong) == b"\x05\x02\x01\x01"
        assert (await self.last_words(server, b"\x04\x01\x00\x50\x7f\0\0\x01\0"))[1] == 0x5B

    async def test_a_client_that_does_not_complete_its_request_is_dropped(self) -> None:
        case: Any = self
        case.patch(socks, "HANDSHAKE_LIMIT", 0.05)
        server = self.socks()
        slow = [await self.connect(server) for _ in range(3)]
        for talk in slow:
            talk.write(b"\x05")
        for talk in slow:
            assert await talk.end() == b""
            await talk.close()
        assert HANDSHAKE_LIMIT == 10

    async def test_too_many_incomplete_requests_cost_the_oldest_its_place(self) -> None:
        case: Any = self
        case.patch(socks, "HANDSHAKES", 2)
        _, port = self.serve()
        server = self.socks()
        oldest = await self.connect(server)
        oldest.write(b"\x05")
        others = [await self.connect(server) for _ in range(2)]
        assert await oldest.end() == b""
        await oldest.close()
        for talk in others:
            talk.write(HELLO + connect5(port))
            assert (await talk.received(12))[3] == 0
            await talk.close()

    async def test_a_client_that_leaves_while_the_far_side_connects_is_forgotten(self) -> None:
        opened: list[tuple[Deferred[str], LocalSide]] = []

        class Pending:
            def open(self, destination: str, side: LocalSide) -> Deferred[str]:
                opened.append((Deferred(), side))
                asked.callback(None)
                return opened[0][0]

        asked: Deferred[None] = Deferred()
        server = self.socks(Pending())
        talk = await self.connect(server)
        talk.write(HELLO + connect5(80))
        await asked
        await talk.close()
        result, side = opened[0]
        side.reset(Code.REFUSED, "")
        result.errback(ChannelRefused(Code.REFUSED))

    async def test_stopping_drops_whoever_has_not_been_served(self) -> None:
        server = self.socks()
        talk = await self.connect(server)
        talk.write(HELLO)
        await talk.received(2)
        server.stopService()
        assert await talk.end() == b"\x05\x00"
        await talk.close()

    async def test_only_clients_from_the_networks_given_enter(self) -> None:
        self.near.replace([], [parse_network("10.0.0.0/8")])
        host, _, port = self.socks().address.rpartition(":")
        assert await is_reset(TCP4ClientEndpoint(reactor, host, int(port)))

    def test_the_front_end_is_a_plug_in(self) -> None:
        assert verifyObject(IFrontEnd, front_end("socks"))
        assert configured("socks", "1080") == SocksConfig("127.0.0.1", 1080)
        service: Any = make_service(reactor, self.tunnel, self.near, configured("socks", "[::1]:0"))
        assert service.description.startswith("socks [::1]:")
        service.stopService()

    def test_users_come_from_a_private_file(self) -> None:
        path = os.path.join(tempfile.mkdtemp(), "users")
        with open(path, "w") as file:
            file.write("# comment\n\nme:se:cret\n")
        os.chmod(path, 0o600)
        users = read_users(path)
        assert users == {"me": "se:cret"}
        assert "cret" not in repr(SocksConfig("127.0.0.1", 1080, users))
        os.chmod(path, 0o640)
        with pytest.raises(ConfigError, match="expected mode 0600"):
            read_users(path)
        for text, says in [("", "names nobody"), ("me\n", "line 1"), ("a:b\nme:\n", "line 2")]:
            with open(path, "w") as file:
                file.write(text)
            os.chmod(path, 0o600)
            with pytest.raises(ConfigError, match=says):
                read_users(path)
        with pytest.raises(ConfigError, match="No such file"):
            read_users(path + "2")
        with pytest.raises(ConfigError, match="expected"):
            configured("socks", "1080,users=x")
