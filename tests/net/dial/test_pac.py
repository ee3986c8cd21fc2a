"""``--via pac:``: reading the script, going by it, and what is said when that is impossible."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from twisted.internet import reactor
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import TestCase
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from tunnelkit.errors import ConfigError, DialError, DialTimeout, ProxyRefused
from tunnelkit.net.dial import pac_process
from tunnelkit.net.dial.choice import dialer_for, make_dialer
from tunnelkit.net.dial.pac import KEPT, PacScript, parse_pac
from tunnelkit.net.dial.pac_process import ask_script
from tunnelkit.net.dial.via import Hop, Pac

NOWHERE = "127.0.0.1:1"


def script(answer: str) -> str:
    """One that always says the same."""
    return f"function FindProxyForURL(url, host) {{ return {answer!r}; }}"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("pac:", "behind pac: there is nothing"),
        ("pac:no-such-file", "no-such-file: No such file or directory"),
        ("pac:/dev/null", "it is no file"),
        ("pac:file://elsewhere/x", "a host in it"),
        ("pac:ftp://host/x", "no such URL"),
        ("pac:http://", "no such URL"),
        ("pac:http://host:x/", "no host and port"),
        ("pac:http://host:0/", "no port 0"),
        ("pac:http://me:hunter2@host/", "without a login"),
        ("pac:http://ho^st/", "not a host name"),
    ],
)
def test_mistakes_are_one_line(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        parse_pac(text)
    assert str(caught.value).startswith("--via: ")
    assert "hunter2" not in str(caught.value)


def test_a_file_is_looked_up_where_it_was_named(tmp_path: Path) -> None:
    file = tmp_path / "a proxy.pac"
    file.write_text(script("DIRECT"))
    assert parse_pac(f"pac:{file}") == Pac(str(file))
    assert parse_pac("pac:a proxy.pac", beside=str(tmp_path)) == Pac(str(file))
    assert parse_pac(f"pac:file://{str(file).replace(' ', '%20')}") == Pac(str(file))


def test_without_the_interpreter_it_is_said_what_to_install(tmp_path: Path) -> None:
    file = tmp_path / "proxy.pac"
    file.write_text(script("DIRECT"))
    with (
        mock.patch("importlib.util.find_spec", return_value=None),
        pytest.raises(ConfigError, match=r"expected the extra 'tunnelkit\[pac\]'"),
    ):
        parse_pac(f"pac:{file}")


def test_a_file_that_is_too_long_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "proxy.pac"
    file.write_bytes(b" " * (1 << 20) + b"x")
    with pytest.raises(ConfigError, match="at most 1048576 bytes"):
        parse_pac(f"pac:{file}")


def test_the_environment_may_name_a_script(tmp_path: Path) -> None:
    file = tmp_path / "proxy.pac"
    file.write_text(script("DIRECT"))
    environ = {"auto_proxy": str(file), "all_proxy": "socks5://p"}
    dialer = make_dialer(reactor, ["auto"], environ=environ)
    assert dialer.describe() == "as set up on this machine ($auto_proxy)"
    with pytest.raises(ConfigError, match=r"\$AUTO_PROXY: the PAC file /nowhere: No such file"):
        make_dialer(reactor, ["auto"], environ={"AUTO_PROXY": "pac:/nowhere"})


class Server(Protocol):
    """Greets who comes with ``greeting``."""

    greeting = b"here"

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(self.greeting)


class Refuses(Server):
    greeting = b"HTTP/1.1 403 Forbidden\r\n\r\n"


class Scripts(Resource):
    """A web server with a script; counts how often it was asked."""

    isLeaf = True

    def __init__(self, text: str) -> None:
        self.children: dict[bytes, Resource] = {}
        self.text = text
        self.status = 200
        self.asked = 0

    def render_GET(self, request: Request) -> bytes:
        self.asked += 1
        request.setResponseCode(self.status)
        request.setHeader("location", "http://elsewhere.example/")
        return self.text.encode()


class Later:
    """The reactor, whose clock is ``by`` seconds ahead."""

    by = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(reactor, name)

    def seconds(self) -> float:
        real: Any = reactor
        return float(real.seconds()) + self.by


class PacTests(TestCase):
    """With real processes for the script, and real sockets."""

    timeout = 60

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.file = Path(directory.name) / "proxy.pac"

    def listen(self, factory: Any) -> int:
        real: Any = reactor
        port = real.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return int(port.getHost().port)

    def serve(self, protocol: Callable[[], Protocol]) -> int:
        return self.listen(Factory.forProtocol(protocol))

    def says(self, text: str) -> PacScript:
        """A script in a file."""
        self.write(text)
        return PacScript(reactor, Pac(str(self.file)))

    def write(self, text: str) -> None:
        """Put another script there, as an editor does."""
        fresh = self.file.with_suffix(".new")
        fresh.write_text(text)
        os.replace(fresh, self.file)

    async def dial(self, answer: str, port: int) -> None:
        self.write(script(answer))
        endpoint: Any = dialer_for(reactor, Pac(str(self.file))).endpoint_for("127.0.0.1", port)
        protocol = await endpoint.connect(Factory.forProtocol(Protocol))
        protocol.transport.abortConnection()

    async def problem(self, answer: str, port: int) -> DialError:
        with pytest.raises(DialError) as caught:
            await self.dial(answer, port)
        return caught.value

    async def test_the_ways_are_tried_in_turn(self) -> None:
        port = self.serve(Server)
        await self.dial(f"PROXY {NOWHERE}; SOCKS5 {NOWHERE}; DIRECT", port)

    async def test_when_none_works_each_is_named(self) -> None:
        problem = await self.problem(f"PROXY {NOWHERE}; SOCKS5 {NOWHERE}; DIRECT", 1)
        assert str(problem) == (
            "cannot connect to proxy http://127.0.0.1:1: connection refused; then "
            "cannot connect to proxy socks5://127.0.0.1:1: connection refused; then "
            "cannot connect to 127.0.0.1:1: connection refused "
            f"(the way that the PAC file {self.file} says)"
        )

    async def test_what_a_proxy_forbids_is_not_got_around(self) -> None:
        port, proxy = self.serve(Server), self.serve(Refuses)
        problem = await self.problem(f"PROXY 127.0.0.1:{proxy}; DIRECT", port)
        assert isinstance(problem, ProxyRefused)
        assert str(problem) == (
            f"proxy http://127.0.0.1:{proxy} refused to connect to 127.0.0.1:{port}: "
            f"HTTP/1.1 403 Forbidden (the way that the PAC file {self.file} says)"
        )

    async def test_without_an_answer_nothing_is_connected_directly(self) -> None:
        port = self.serve(Server)
        problem = await self.problem("QUIC x:1", port)
        assert str(problem) == (
            f"the PAC file {self.file} does not say how to connect to 127.0.0.1:{port}: QUIC in "
            "it is no kind of proxy known here; expected 'PROXY HOST:PORT', HTTPS, SOCKS5, SOCKS4 "
            "or DIRECT, with ; between several (--via none connects directly)"
        )

    async def test_a_changed_file_is_read_again_at_once(self) -> None:
        asked = self.says(script("PROXY a:1"))
        assert await asked.ways_to("x", 1) == (Hop("http", "a", 1),)
        self.write(script("PROXY b:1"))
        assert await asked.ways_to("x", 1) == (Hop("http", "b", 1),)

    async def test_a_file_that_is_gone_leaves_what_was_in_it(self) -> None:
        asked = self.says(script("PROXY a:1"))
        await asked.ways_to("x", 1)
        self.file.unlink()
        assert await asked.ways_to("y", 1) == (Hop("http", "a", 1),)
        with pytest.raises(DialError, match="No such file"):
            await PacScript(reactor, Pac(str(self.file))).ways_to("x", 1)

    async def test_a_url_is_fetched_and_kept_for_a_while(self) -> None:
        served = Scripts(script("PROXY a:1"))
        pac = Pac(f"http://127.0.0.1:{self.listen(Site(served))}/proxy.pac?secret")
        assert "secret" not in str(pac)
        clock = Later()
        asked = PacScript(clock, pac)
        for _ in range(2):
            assert await asked.ways_to("x", 1) == (Hop("http", "a", 1),)
        assert served.asked == 1
        served.text = script("PROXY b:1")
        clock.by = KEPT + 1
        assert await asked.ways_to("x", 1) == (Hop("http", "b", 1),)
        served.text = script("PROXY c:1")
        asked.doubt()
        assert await asked.ways_to("x", 1) == (Hop("http", "c", 1),)
        served.status = 500
        asked.doubt()
        assert await asked.ways_to("x", 1) == (Hop("http", "c", 1),)

    async def test_a_url_without_a_script_is_said_so(self) -> None:
        served = Scripts("")
        served.status = 302
        port = self.listen(Site(served))
        for url, why in (
            (f"http://127.0.0.1:{port}/", "status 302, which leads to http://elsewhere.example/"),
            (f"https://127.0.0.1:{self.serve(Refuses)}/", "the server does not speak TLS"),
            (f"http://{NOWHERE}/", "connection refused"),
        ):
            with pytest.raises(DialError, match=why) as caught:
                await PacScript(reactor, Pac(url)).ways_to("x", 1)
            assert f"the PAC file {url} does not say how to connect to x:1: " in str(caught.value)
        served.status, served.text = 200, "x" * (1 << 20) + "y"
        with pytest.raises(DialError, match="more than 1048576 bytes"):
            await PacScript(reactor, Pac(f"http://127.0.0.1:{port}/")).ways_to("x", 1)

    async def test_a_script_without_end_is_stopped(self) -> None:
        endless = "function FindProxyForURL() { for (;;); }"
        with pytest.raises(DialTimeout, match=r"no answer within 0\.1 s"):
            await ask_script(reactor, endless, "https://x/", "x", limit=0.1)

    async def test_a_script_that_fails_is_not_run_again_at_once(self) -> None:
        asked = self.says("function FindProxyForURL() { throw new Error(new Date().getTime()); }")
        said = []
        for _ in range(2):
            with pytest.raises(DialError) as caught:
                await asked.ways_to("x", 1)
            said.append(str(caught.value))
        assert said[0] == said[1]
        self.write(script("PROXY a:1"))
        assert await asked.ways_to("x", 1) == (Hop("http", "a", 1),)

    async def test_a_process_that_cannot_be_started_is_said_so(self) -> None:
        with (
            mock.patch.object(pac_process, "interpreter", return_value="/nowhere"),
            pytest.raises(DialError, match="its process failed: ModuleNotFoundError"),
        ):
            await ask_script(reactor, script("DIRECT"), "https://x/", "x")
