"""Raw sockets: listening, accepting, connecting, and what is said when that fails."""

from __future__ import annotations

import os
import re
import resource
import shutil
import socket
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from tunnelkit.core.decision import Decision
from tunnelkit.errors import Code, ConfigError, DialError, DialTimeout, LocalProtocolError
from tunnelkit.net.sockets.connect import connect_stream
from tunnelkit.net.sockets.poll import EpollPoller
from tunnelkit.net.sockets.tcp import (
    BindError,
    Listener,
    bind_tcp,
    bind_unix,
    format_address,
)


def decision(action: str, address: str, port: int, protocol: str = "tcp") -> Decision:
    """Permission that a test gives itself."""
    return Decision("", action, protocol, address, port, "test")


def turn() -> Deferred[None]:
    """Fires in the next turn of the reactor."""
    done: Deferred[None] = Deferred()
    reactor.callLater(0, done.callback, None)
    return done


class SocketTests(TestCase):
    """On loopback."""

    timeout = 20

    def setUp(self) -> None:
        self.poller = EpollPoller(reactor)
        self.accepted: list[tuple[socket.socket, tuple[str, int]]] = []
        self.on_accept: Callable[[], object] = lambda: None
        case: Any = self
        self.path = case.mktemp()
        os.makedirs(self.path)

    def tearDown(self) -> None:
        for sock, _ in self.accepted:
            sock.close()
        assert len(self.poller) == 0

    def accept(self, sock: socket.socket, address: tuple[str, int]) -> None:
        self.accepted.append((sock, address))
        self.on_accept()

    def wait_for_accepts(self, count: int) -> Deferred[None]:
        """Fires once ``count`` connections have been accepted."""
        done: Deferred[None] = Deferred()

        def check() -> None:
            if len(self.accepted) >= count and not done.called:
                done.callback(None)

        self.on_accept = check
        check()
        return done

    async def test_a_connection_is_accepted_with_its_address_and_without_delay(self) -> None:
        for host in ("127.0.0.1", "::1"):
            self.accepted.clear()
            listener = Listener(self.poller, bind_tcp(decision("bind", host, 0)), self.accept)
            port = int(listener.address.rpartition(":")[2])
            client = await connect_stream(self.poller, decision("connect", host, port), 5.0)
            await self.wait_for_accepts(1)
            sock, address = self.accepted[0]
            assert address == client.getsockname()[:2]
            assert listener.address == format_address((host, port))
            for one in (client, sock):
                assert one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                assert one.gettimeout() == 0.0
                one.close()
            listener.close()
            listener.close()

    async def test_many_at_once_are_all_accepted(self) -> None:
        listener = Listener(self.poller, bind_tcp(decision("bind", "127.0.0.1", 0)), self.accept)
        port = int(listener.address.rpartition(":")[2])
        clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(200)]
        await self.wait_for_accepts(200)
        for client in clients:
            client.close()
        listener.close()

    async def test_accepting_goes_on_after_descriptors_ran_out(self) -> None:
        await turn()  # a reactor that begins to run opens descriptors
        listener = Listener(self.poller, bind_tcp(decision("bind", "127.0.0.1", 0)), self.accept)
        port = int(listener.address.rpartition(":")[2])
        client = socket.create_connection(("127.0.0.1", port))
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
        reactor.callLater(0.3, resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        started = reactor.seconds()
        await self.wait_for_accepts(1)
        assert reactor.seconds() - started >= 0.9
        client.close()
        listener.close()

    async def test_one_that_fails_on_accept_does_not_stop_the_others(self) -> None:
        def fail(sock: socket.socket, address: tuple[str, int]) -> None:
            self.accept(sock, address)
            if len(self.accepted) == 1:
                raise ValueError("no")

        listener = Listener(self.poller, bind_tcp(decision("bind", "127.0.0.1", 0)), fail)
        port = int(listener.address.rpartition(":")[2])
        first = socket.create_connection(("127.0.0.1", port))
        await self.wait_for_accepts(1)
        await turn()
        first.settimeout(5.0)
        assert first.recv(1) == b""
        second = socket.create_connection(("127.0.0.1", port))
        await self.wait_for_accepts(2)
        first.close()
        second.close()
        listener.close()
        case: Any = self
        assert len(case.flushLoggedErrors(ValueError)) == 1

    def test_a_port_in_use_is_one_line_that_says_so(self) -> None:
        first = bind_tcp(decision("bind", "127.0.0.1", 0))
        port = first.getsockname()[1]
        with pytest.raises(ConfigError) as caught:
            bind_tcp(decision("bind", "127.0.0.1", port))
        first.close()
        text = str(caught.value)
        assert text == (
            f"cannot listen on 127.0.0.1:{port}: it is in use by another program; "
            "stop that one or choose another"
        )

    def test_an_address_that_is_not_ours_is_refused_with_a_reason(self) -> None:
        with pytest.raises(BindError) as caught:
            bind_tcp(decision("bind", "192.0.2.1", 0))
        assert "does not have that address" in str(caught.value)
        assert caught.value.code is Code.UNREACHABLE

    async def test_a_refused_connection_says_so_on_the_wire_and_in_words(self) -> None:
        sock = bind_tcp(decision("bind", "127.0.0.1", 0))
        port = sock.getsockname()[1]
        sock.close()
        with pytest.raises(DialError) as caught:
            await connect_stream(self.poller, decision("connect", "127.0.0.1", port), 5.0)
        assert caught.value.code is Code.REFUSED
        assert str(caught.value) == f"127.0.0.1:{port}: Connection refused"

    async def test_who_listens_here_is_connected_to_without_a_turn_of_the_reactor(self) -> None:
        listening = bind_tcp(decision("bind", "127.0.0.1", 0))
        host, port = listening.getsockname()
        client = self.successResultOf(
            connect_stream(self.poller, decision("connect", host, port), 5.0)
        )
        assert client.getpeername() == (host, port)
        assert not len(self.poller)
        client.close()
        listening.close()

    async def test_silence_is_a_timeout(self) -> None:
        # A queue of no connections that is full answers nothing.
        deaf = bind_tcp(decision("bind", "127.0.0.1", 0), backlog=0)
        port = deaf.getsockname()[1]
        fillers = []
        for _ in range(3):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
            fillers.append(filler)
        with pytest.raises(DialTimeout) as caught:
            await connect_stream(self.poller, decision("connect", "127.0.0.1", port), 0.2)
        assert caught.value.code is Code.TIMED_OUT
        for filler in (*fillers, deaf):
            filler.close()

    async def test_cancelling_a_connect_leaves_nothing_behind(self) -> None:
        deaf = bind_tcp(decision("bind", "127.0.0.1", 0), backlog=0)
        port = deaf.getsockname()[1]
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        before = len(os.listdir("/dev/fd"))
        attempt = connect_stream(self.poller, decision("connect", "127.0.0.1", port), 60.0)
        outcome: list[object] = []
        attempt.addBoth(outcome.append)
        attempt.cancel()
        assert len(outcome) == 1
        assert len(os.listdir("/dev/fd")) == before
        for filler in (*fillers, deaf):
            filler.close()

    async def test_a_unix_socket_is_private_and_its_file_goes_with_the_listener(self) -> None:
        path = os.path.join(self.path, "socket")
        listener = Listener(self.poller, bind_unix(decision("bind", path, 0, "unix")), self.accept)
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        client = await connect_stream(self.poller, decision("connect", path, 0, "unix"), 5.0)
        await self.wait_for_accepts(1)
        assert self.accepted[0][1] == ("", 0)
        client.close()
        with pytest.raises(BindError):
            bind_unix(decision("bind", path, 0, "unix"))
        listener.close()
        assert not os.path.exists(path)
        with pytest.raises(DialError) as caught:
            await connect_stream(self.poller, decision("connect", path, 0, "unix"), 5.0)
        assert caught.value.code is Code.REFUSED

    def test_nothing_but_a_forgotten_socket_of_this_user_is_replaced(self) -> None:
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        key, link, place = folder / "ca.pem", folder / "link", folder / "place"
        key.write_text("the key of the CA")
        link.symlink_to(key)
        place.mkdir()
        others = folder / "others"
        bind_unix(decision("bind", str(others), 0, "unix")).close()
        if os.geteuid() == 0:  # only root can make a file somebody else's
            os.chown(others, 1, -1)
        live = folder / "live"
        self.addCleanup(bind_unix(decision("bind", str(live), 0, "unix")).close)
        paths = [key, link, place, live, *([others] if os.geteuid() == 0 else [])]
        for path in paths:
            before = path.lstat()
            with pytest.raises(BindError, match=re.escape(str(path))):
                bind_unix(decision("bind", str(path), 0, "unix"))
            assert path.lstat().st_ino == before.st_ino
        assert key.read_text() == "the key of the CA"

    def test_a_unix_socket_that_nobody_listens_on_is_replaced(self) -> None:
        path = os.path.join(self.path, "stale")
        bind_unix(decision("bind", path, 0, "unix")).close()
        again = bind_unix(decision("bind", path, 0, "unix"))
        again.close()

    def test_a_decision_is_good_for_what_it_says_only(self) -> None:
        with pytest.raises(LocalProtocolError):
            bind_tcp(decision("connect", "127.0.0.1", 0))
        with pytest.raises(LocalProtocolError):
            connect_stream(self.poller, decision("connect", "127.0.0.1", 1, "udp"), 1.0)
