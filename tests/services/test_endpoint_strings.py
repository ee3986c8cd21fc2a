"""``tunnel:`` in endpoint strings: what they say, mistakes in them, and that ends are shared."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, cast

import pytest
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import (
    clientFromString,
    connectProtocol,
    quoteStringArgument,
    serverFromString,
)
from twisted.internet.interfaces import (
    IStreamClientEndpointStringParserWithReactor,
    IStreamServerEndpointStringParser,
)
from twisted.internet.testing import MemoryReactorClock
from twisted.plugin import IPlugin
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from tests.acceptance.processes import free_port
from tests.frontends.talk import Echo, Server, Talk
from tunnelkit.errors import ChannelRefused, Code, ConfigError, DialTimeout
from tunnelkit.policy.key_directory import KeyDirectory
from tunnelkit.services.endpoint_strings import Ends, TunnelStrings

reactor: Any = global_reactor


def make_keys(path: Path) -> Path:
    directory = KeyDirectory(path)
    directory.create()
    for name in ("a", "b"):
        directory.issue(name)
    return path


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of keys with the identities ``a`` and ``b``."""
    return make_keys(tmp_path_factory.mktemp("keys") / "keys")


def words(keys: Path, **more: str) -> str:
    """The parameters of an end named ``a``."""
    given = {
        "middle": "127.0.0.1:7000",
        "tunnel": "t",
        "identity": str(keys / "a.pem"),
        "peer": "b",
        **more,
    }
    return ":".join(f"{name}={quoteStringArgument(text)}" for name, text in given.items())


def test_twisted_finds_the_parsers() -> None:
    strings = TunnelStrings()
    for interface in (
        IPlugin,
        IStreamClientEndpointStringParserWithReactor,
        IStreamServerEndpointStringParser,
    ):
        assert verifyObject(interface, strings)
    with pytest.raises(ConfigError, match="tunnel: "):
        serverFromString(MemoryReactorClock(), "tunnel:service=x:nonsense=1")


@pytest.mark.parametrize(
    ("start", "destination"),
    [
        ("www.example.com:80", "tcp:www.example.com:80"),
        (r"2001\:db8\:\:1:80", "tcp:[2001:db8::1]:80"),
        (r"unix\:/run/x", "unix:/run/x"),
        (r"tcp\:a\:1", "tcp:a:1"),
        ("service=web", "service:web"),
    ],
)
def test_where_a_client_string_leads(keys: Path, start: str, destination: str) -> None:
    endpoint: Any = clientFromString(MemoryReactorClock(), f"tunnel:{start}:{words(keys)}")
    assert endpoint._destination == destination


def test_of_several_peers_a_client_string_names_one(keys: Path) -> None:
    several = f"{words(keys)},c"
    clientFromString(MemoryReactorClock(), f"tunnel:a:1:{several}:to=c")
    with pytest.raises(ConfigError, match="several peers are named: expected to=b"):
        clientFromString(MemoryReactorClock(), f"tunnel:a:1:{several}")
    with pytest.raises(ConfigError, match="to: d is none of the peers: expected b or c"):
        clientFromString(MemoryReactorClock(), f"tunnel:a:1:{several}:to=d")


def test_options_have_capitals_for_dashes_and_lists_have_commas(keys: Path) -> None:
    from tunnelkit.policy.settings import Given
    from tunnelkit.services.endpoint_strings import _merged

    given = {"maxChannels": [Given("5", "here")], "peer": [Given("x,y", "here")]}
    role, settings = _merged(given, "", "client-end")
    assert role.name == "lstp-client-end"
    assert {name: [one.text for one in values] for name, values in settings.items()} == {
        "max-channels": ["5"],
        "peer": ["x", "y"],
    }


def test_a_file_says_the_same_and_keywords_win(keys: Path, tmp_path: Path) -> None:
    file = tmp_path / "end.toml"
    file.write_text(
        f'middle = "127.0.0.1:7000"\ntunnel = "t"\nidentity = "{keys}/a.pem"\npeer = "b"\n'
    )
    ends = Ends(MemoryReactorClock())
    from_file, _ = ends.settle({"config": str(file)}, "client-end")
    keywords = {"middle": "127.0.0.1:7000", "tunnel": "t", "peer": "b"}
    keywords["identity"] = str(keys / "a.pem")
    assert from_file == ends.settle(keywords, "client-end")[0]
    other, _ = ends.settle({"config": str(file), "tunnel": "u"}, "client-end")
    assert other != from_file


def test_a_gate_in_the_configuration_means_usher(keys: Path, tmp_path: Path) -> None:
    file = tmp_path / "portal.toml"
    file.write_text(f'gate = "127.0.0.1:7000"\nidentity = "{keys}/a.pem"\npeer = "b"\n')
    ends = Ends(MemoryReactorClock())
    assert ends.settle({"config": str(file)}, "server-end")[0].startswith("usher-portal ")
    words = {"identity": str(keys / "a.pem"), "peer": "b", "role": "gate", "listen": "127.0.0.1:0"}
    assert ends.settle(words, "server-end")[0].startswith("usher-gate ")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("tunnel", "expected HOST:PORT, one destination"),
        ("tunnel:a:1:b", "expected HOST:PORT, one destination"),
        ("tunnel:a:1:service=x", "expected HOST:PORT, one destination"),
        ("tunnel:nonsense", "not a destination"),
        ("tunnel:a:0", "port '0' is wrong"),
        ("tunnel:a:1:timeout=0", "timeout: expected a whole number"),
        ("tunnel:a:1:role=king", "role: expected client-end, server-end"),
        ("tunnel:a:1:midle=x", "midle: not known .did you mean 'middle'"),
        ("tunnel:a:1", "--tunnel is missing"),
        ("tunnel:a:1:config=/nowhere.toml", "/nowhere.toml: No such file"),
        ("tunnel:a:1:gate=x", "gate"),
    ],
)
def test_mistakes_in_client_strings(text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        clientFromString(MemoryReactorClock(), text)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("tunnel:config=x", "expected service=NAME"),
        ("tunnel:web:service=web", "expected service=NAME"),
        ("tunnel:service=a b", "the service's name is wrong"),
    ],
)
def test_mistakes_in_server_strings(text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        serverFromString(MemoryReactorClock(), text)


class EndpointTests(TestCase):
    """Over Usher between two ends in this process: a gate that listens, a portal that dials."""

    timeout = 20

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.keys = make_keys(Path(directory.name) / "keys")
        self.ends = Ends.of(reactor)
        self.addCleanup(self.ends.stop)
        port = free_port()
        self.gate = f"role=gate:listen=127.0.0.1\\:{port}:identity={self.keys}/a.pem:peer=b"
        self.portal = f"gate=127.0.0.1\\:{port}:identity={self.keys}/b.pem:peer=a"

    async def listen(self, text: str) -> Server:
        server = Server(Echo)
        port = await serverFromString(reactor, text).listen(server)
        self.addCleanup(lambda: gatherResults([made.closed for made in server.made]))
        self.addCleanup(port.stopListening)
        return server

    async def connect(self, text: str) -> Talk:
        endpoint = clientFromString(reactor, text)
        return cast(Talk, await connectProtocol(endpoint, Talk()))

    async def talks(self, text: str) -> None:
        talk = await self.connect(text)
        talk.write(b"hello")
        assert await talk.received(5) == b"hello"
        talk.half_close()
        assert await talk.end() == b"hello"
        await talk.closed

    async def test_a_service_behind_a_firewall_is_reached_from_outside(self) -> None:
        await self.listen(f"tunnel:service=echo:{self.portal}")
        await self.talks(f"tunnel:service=echo:{self.gate}")

    async def test_and_a_service_outside_from_behind_the_firewall(self) -> None:
        await self.listen(f"tunnel:service=echo:{self.gate}")
        await self.talks(f"tunnel:service=echo:{self.portal}")

    async def test_endpoints_of_one_configuration_share_one_end(self) -> None:
        await self.listen(f"tunnel:service=one:{self.portal}")
        await self.listen(f"tunnel:service=two:{self.portal}")
        for name in ("one", "two", "one"):
            await self.talks(f"tunnel:service={name}:{self.gate}")
        assert len(self.ends) == 2

    async def test_a_service_that_nobody_accepts_is_refused(self) -> None:
        await self.listen(f"tunnel:service=echo:{self.portal}")
        with pytest.raises(ChannelRefused) as caught:
            await self.connect(f"tunnel:service=other:{self.gate}")
        assert caught.value.code is Code.NO_SUCH_SERVICE

    async def test_a_service_is_accepted_once(self) -> None:
        await self.listen(f"tunnel:service=echo:{self.portal}")
        with pytest.raises(ValueError, match="service:echo is accepted already"):
            await self.listen(f"tunnel:service=echo:{self.portal}")

    async def test_accepting_a_service_allows_nothing_else(self) -> None:
        await self.listen(f"tunnel:service=echo:{self.portal}")
        with pytest.raises(ChannelRefused) as caught:
            await self.connect(f"tunnel:127.0.0.1:1:{self.gate}")
        assert caught.value.code is Code.NOT_ALLOWED

    async def test_a_tunnel_that_does_not_come_up_is_not_waited_for_for_ever(self) -> None:
        with pytest.raises(DialTimeout, match="not up after 1 s"):
            await self.connect(f"tunnel:service=echo:timeout=1:{self.gate}")

    async def test_a_port_that_is_taken_is_told_by_the_first_use(self) -> None:
        taken = reactor.listenTCP(0, Server(Echo), interface="127.0.0.1")
        self.addCleanup(taken.stopListening)
        with pytest.raises(ConfigError, match="cannot listen on"):
            await self.connect(f"tunnel:a:1:{self.portal}:socks={taken.getHost().port}")


def test_stopping_without_any_end_is_done_at_once() -> None:
    stopped: Deferred[Any] = Ends(MemoryReactorClock()).stop()
    assert stopped.called
