"""Forwards: bytes and ends go through, who may enter, and what a refusal looks like."""

from __future__ import annotations

import hashlib
import os
import select
import socket
import struct
import tempfile
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import pytest
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    UNIXClientEndpoint,
    connectProtocol,
)
from twisted.internet.task import deferLater
from zope.interface.verify import verifyObject

from tests.acceptance.processes import free_port
from tests.frontends.fake_tunnel import FakeTunnel
from tests.frontends.far_side import FarSideCase
from tests.frontends.installed import configured, front_end
from tests.frontends.talk import Echo, Server, Talk, is_reset
from tunnelkit.egress.dial import Egress
from tunnelkit.errors import ChannelRefused, Code, ConfigError
from tunnelkit.frontends.forward.tcp import Forward, make_service
from tunnelkit.interfaces import IFrontEnd
from tunnelkit.net.channels.contracts import LocalSide
from tunnelkit.net.sockets.poll import Poller
from tunnelkit.policy.acl import parse_network, parse_rule
from tunnelkit.policy.destination import parse_forward

reactor: Any = global_reactor


class Refusing:
    """A tunnel whose far side refuses everything."""

    def open(self, destination: str, side: LocalSide) -> Deferred[str]:
        result: Deferred[str] = Deferred()
        side.reset(Code.NOT_ALLOWED, "not allowed there")
        result.errback(ChannelRefused(Code.NOT_ALLOWED, "not allowed there"))
        return result


def can_be_read(sock: socket.socket) -> bool:
    return bool(select.select([sock], [], [], 0)[0])


class ForwardTests(FarSideCase):
    timeout = 5

    def forward(self, text: str, tunnel: Any = None) -> Forward:
        made = Forward(reactor, tunnel or self.tunnel, self.near, parse_forward(text)[0])
        made.startService()
        self.addCleanup(made.stopService)
        return made

    async def connect(self, forward: Forward) -> Talk:
        host, _, port = forward.address.rpartition(":")
        endpoint = TCP4ClientEndpoint(reactor, host, int(port))
        return cast(Talk, await connectProtocol(endpoint, Talk()))

    async def is_reset(self, forward: Forward) -> bool:
        host, _, port = forward.address.rpartition(":")
        return await is_reset(TCP4ClientEndpoint(reactor, host, int(port)))

    async def test_what_a_client_sends_comes_back_and_so_does_its_end(self) -> None:
        _, port = self.serve()
        forward = self.forward(f"0=tcp:127.0.0.1:{port}")
        talk = await self.connect(forward)
        talk.write(b"hello")
        assert await talk.received(5) == b"hello"
        talk.write(b" world")
        talk.half_close()
        assert await talk.end() == b"hello world"
        await talk.close()

    async def test_much_data_arrives_whole_in_both_directions(self) -> None:
        _, port = self.serve()
        forward = self.forward(f"0=tcp:127.0.0.1:{port}")
        talk = await self.connect(forward)
        data = os.urandom(1 << 20) * 8
        talk.write(data)
        talk.half_close()
        back = await talk.end()
        assert hashlib.sha256(back).digest() == hashlib.sha256(data).digest()
        await talk.close()

    async def test_a_reset_behind_an_end_of_stream_is_noticed(self) -> None:
        # Finding D-8, in both directions. Raw sockets: Twisted's do not notice either.
        for resets_first in ("destination", "client"):
            listener = socket.create_server(("127.0.0.1", 0))
            self.addCleanup(listener.close)
            listener.setblocking(False)
            number = listener.getsockname()[1]
            self.far.replace([parse_rule(f"tcp:127.0.0.1:{number}")])
            host, _, port = self.forward(f"0=tcp:127.0.0.1:{number}").address.rpartition(":")
            client = socket.create_connection((host, int(port)))
            client.setblocking(False)
            client.send(b"question")
            await self.until(partial(can_be_read, listener))
            destination, _ = listener.accept()
            destination.setblocking(False)
            await self.until(partial(can_be_read, destination))
            assert destination.recv(100) == b"question"
            if resets_first == "destination":
                leaving, staying = destination, client
            else:
                leaving, staying = client, destination
            leaving.shutdown(socket.SHUT_WR)
            await self.until(partial(can_be_read, staying))
            assert staying.recv(1) == b""
            leaving.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            leaving.close()
            await self.until(partial(staying.getsockopt, socket.SOL_SOCKET, socket.SO_ERROR))
            staying.close()

    async def until(self, condition: Callable[[], object]) -> None:
        while not condition():
            await deferLater(reactor, 0.001)

    async def test_a_refused_client_is_reset(self) -> None:
        assert await self.is_reset(self.forward("0=tcp:127.0.0.1:1", Refusing()))

    async def test_a_destination_that_refuses_resets_the_client(self) -> None:
        port = free_port()
        self.far.replace([parse_rule(f"tcp:127.0.0.1:{port}")])
        assert await self.is_reset(self.forward(f"0=tcp:127.0.0.1:{port}"))

    async def test_only_clients_from_the_networks_given_enter(self) -> None:
        _, port = self.serve()
        forward = self.forward(f"0=tcp:127.0.0.1:{port}")
        self.near.replace([], [parse_network("127.0.0.5")])
        assert await self.is_reset(forward)
        assert self.tunnel.opened == []
        host, _, number = forward.address.rpartition(":")
        endpoint = TCP4ClientEndpoint(reactor, host, int(number), bindAddress=("127.0.0.5", 0))
        talk = cast(Talk, await connectProtocol(endpoint, Talk()))
        talk.write(b"x")
        assert await talk.received(1) == b"x"
        await talk.close()

    async def test_a_unix_socket_here_leads_to_a_unix_socket_there(self) -> None:
        folder = tempfile.mkdtemp()
        server = Server(Echo)
        port = reactor.listenUNIX(f"{folder}/far", server)
        self.addCleanup(lambda: gatherResults([made.closed for made in server.made]))
        self.addCleanup(port.stopListening)
        self.far.replace([parse_rule(f"unix:{folder}/far")])
        self.near.replace([], [parse_network("10.0.0.0/8")])
        forward = self.forward(f"unix:{folder}/near=unix:{folder}/far")
        assert os.stat(f"{folder}/near").st_mode & 0o077 == 0
        endpoint = UNIXClientEndpoint(reactor, f"{folder}/near")
        talk = cast(Talk, await connectProtocol(endpoint, Talk()))
        talk.write(b"hello")
        assert await talk.received(5) == b"hello"
        await talk.close()
        forward.stopService()
        assert not os.path.exists(f"{folder}/near")

    async def test_what_is_open_goes_on_after_the_listener_stopped(self) -> None:
        _, port = self.serve()
        forward = self.forward(f"0=tcp:127.0.0.1:{port}")
        talk = await self.connect(forward)
        talk.write(b"x")
        await talk.received(1)
        forward.stopService()
        talk.write(b"y")
        assert await talk.received(2) == b"xy"
        host, _, number = forward.address.rpartition(":")
        with socket.socket() as sock, pytest.raises(ConnectionRefusedError):
            sock.connect((host, int(number)))
        await talk.close()

    async def test_the_far_side_cannot_dial_the_forwards_of_this_end(self) -> None:
        forward = self.forward("0=tcp:127.0.0.1:1")
        number = int(forward.address.rpartition(":")[2])
        self.near.replace([parse_rule("tcp:127.0.0.0/8:*")])
        back = FakeTunnel(Egress(reactor, Poller.of(reactor), self.near))
        through = self.forward(f"0=tcp:127.0.0.1:{number}", back)
        assert await self.is_reset(through)
        assert self.tunnel.opened == []

    def test_a_taken_port_is_a_config_error_before_the_service_starts(self) -> None:
        forward = self.forward("0=tcp:127.0.0.1:1")
        number = forward.address.rpartition(":")[2]
        specs = (*configured("forward", "0=web:80"), *configured("forward", f"{number}=web:80"))
        with pytest.raises(ConfigError, match="in use"):
            make_service(reactor, self.tunnel, self.near, specs)
        with pytest.raises(ConfigError, match="in use"):
            make_service(reactor, self.tunnel, self.near, specs)

    async def test_a_range_is_one_service_with_a_listener_for_each_port(self) -> None:
        _, port = self.serve()
        service: Any = make_service(
            reactor,
            self.tunnel,
            self.near,
            configured("forward", f"0=127.0.0.1:{port}")
            + configured("forward", f"0=127.0.0.1:{port}"),
        )
        service.startService()
        for forward in service:
            assert forward.description.endswith(f"to tcp:127.0.0.1:{port}")
            talk = await self.connect(forward)
            talk.write(b"x")
            assert await talk.received(1) == b"x"
            await talk.close()
        await service.stopService()

    def test_the_front_end_is_a_plug_in(self) -> None:
        assert verifyObject(IFrontEnd, front_end("forward"))
        assert len(configured("forward", "8000-8003=tcp:web:9000-9003")) == 4
        with pytest.raises(ConfigError, match=r"^--forward: .*cannot be forwarded to"):
            configured("forward", "53=udp:*")
