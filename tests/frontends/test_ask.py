"""'Ask': what somebody at a terminal is told, and what becomes of the answer."""

from __future__ import annotations

from typing import Any, cast

import pytest
from twisted.internet import reactor as global_reactor
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from zope.interface.verify import verifyObject

from tests.acceptance.processes import free_port
from tests.frontends.far_side import FarSideCase
from tests.frontends.installed import configured, front_end
from tests.frontends.talk import Talk, is_reset
from tests.frontends.test_http_proxy import Refusing
from tunnelkit.errors import Code, ConfigError
from tunnelkit.frontends import ask
from tunnelkit.frontends.ask import (
    GREETING,
    HELP,
    PROMPT,
    Ask,
    AskConfig,
    parse_answer,
)
from tunnelkit.interfaces import IFrontEnd
from tunnelkit.policy.acl import parse_network, parse_rule

reactor: Any = global_reactor


class AskTests(FarSideCase):
    timeout = 10

    def ask(self, tunnel: Any = None) -> Ask:
        made = Ask(reactor, tunnel or self.tunnel, self.near, AskConfig("127.0.0.1", 0))
        made.startService()
        self.addCleanup(made.stopService)
        host, _, port = made.address.rpartition(":")
        self.endpoint = TCP4ClientEndpoint(reactor, host, int(port))
        return made

    async def client(self) -> Talk:
        talk = cast(Talk, await connectProtocol(self.endpoint, Talk()))
        self.addCleanup(talk.close)
        return talk

    async def until(self, talk: Talk, text: str) -> str:
        """Everything that was said up to ``text``, which is forgotten."""
        while text.encode() not in talk.data:
            assert not talk.ended, talk.data
            await talk.received(len(talk.data) + 1)
        said, _, talk.data = talk.data.partition(text.encode())
        return said.decode() + text

    async def said(self, typed: bytes, tunnel: Any = None) -> str:
        """All that is said to who types ``typed``, up to the end of the connection."""
        self.ask(tunnel)
        talk = await self.client()
        talk.write(typed)
        return (await talk.end()).decode()

    async def test_it_greets_asks_connects_and_is_a_plain_connection_then(self) -> None:
        _, port = self.serve()
        self.ask()
        talk = await self.client()
        assert await self.until(talk, PROMPT) == GREETING + PROMPT
        talk.write(f"127.0.0.1 {port}\r\nearly".encode())
        await self.until(talk, f"Connected to tcp:127.0.0.1:{port}.\r\n")
        talk.write(b"\xff\xfd\x01\x03\x7f late\r\n")
        talk.half_close()
        assert await talk.end() == b"early\xff\xfd\x01\x03\x7f late\r\n"

    async def test_options_of_telnet_are_declined(self) -> None:
        self.ask()
        talk = await self.client()
        await self.until(talk, PROMPT)
        talk.write(b"\xff\xfd\x01\xff\xfb\x1f")
        assert await talk.received(6) == b"\xff\xfc\x01\xff\xfe\x1f"

    async def test_help_and_empty_lines_cost_nothing(self) -> None:
        said = await self.said(b"\r\n\r\nhelp\r\n?\r\n\r\n\r\nquit\r\n")
        assert said.count(HELP) == 2
        assert said.count(PROMPT) == 7
        assert said.endswith("Goodbye.\r\n")

    async def test_after_three_answers_that_lead_nowhere_it_gives_up(self) -> None:
        port = free_port()
        self.far.replace([parse_rule(f"tcp:127.0.0.1:{port}")])
        typed = f"nonsense\r\n127.0.0.1 1\r\n127.0.0.1 {port}\r\n127.0.0.1 1\r\n"
        said = await self.said(typed.encode())
        assert "That is not an answer: " in said
        assert "No connection to tcp:127.0.0.1:1: the far side does not allow that." in said
        assert f"tcp:127.0.0.1:{port}: the connection was refused there. Goodbye." in said
        assert said.count(PROMPT) == 3

    async def test_every_way_to_fail_is_told_in_words(self) -> None:
        for code in Code:
            said = await self.said(b"a.example 1\nquit\n", Refusing(code))
            assert "No connection to tcp:a.example:1: " in said
            assert code.value not in said or code.value in ("refused",)

    async def test_what_is_typed_is_never_sent_back_raw(self) -> None:
        said = await self.said("\u001b[31m\u009bevil\u202e 1\r\nquit\r\n".encode())
        assert said.isascii()
        assert "\x1b" not in said

    async def test_who_types_for_ever_is_stopped(self) -> None:
        said = await self.said(b"x" * 1000)
        assert said.endswith("a line of more than 512 bytes. Goodbye.\r\n")

    async def test_who_does_not_answer_is_sent_away(self) -> None:
        cast(Any, self).patch(ask, "LIMIT", 0.05)
        assert (await self.said(b"")).endswith("That took too long. Goodbye.\r\n")

    async def test_an_interrupt_is_a_goodbye(self) -> None:
        assert (await self.said(b"half a li\xff\xf4")).endswith("Goodbye.\r\n")

    async def test_the_one_who_has_waited_for_longest_makes_room(self) -> None:
        cast(Any, self).patch(ask, "CLIENTS", 1)
        self.ask()
        first = await self.client()
        await self.client()
        assert b"Too many are being asked. Goodbye." in await first.end()

    async def test_stopping_says_goodbye(self) -> None:
        made = self.ask()
        talk = await self.client()
        await self.until(talk, PROMPT)
        made.stopService()
        assert b"The tunnel is going down." in await talk.end()

    async def test_only_those_who_may_enter_are_asked(self) -> None:
        self.near.replace([], [parse_network("192.0.2.0/24")])
        self.ask()
        assert await is_reset(self.endpoint)


@pytest.mark.parametrize(
    ("text", "destination"),
    [
        ("www.example.com 80", "tcp:www.example.com:80"),
        ("  WWW.example.com   80 ", "tcp:www.example.com:80"),
        ("192.0.2.1:22", "tcp:192.0.2.1:22"),
        ("2001:db8::1 25", "tcp:[2001:db8::1]:25"),
        ("[2001:db8::1] 25", "tcp:[2001:db8::1]:25"),
        ("[2001:db8::1]:25", "tcp:[2001:db8::1]:25"),
        ("tcp:a:1", "tcp:a:1"),
        ("service:web", "service:web"),
        ("unix:/run/x", "unix:/run/x"),
    ],
)
def test_answers(text: str, destination: str) -> None:
    assert str(parse_answer(text)) == destination


@pytest.mark.parametrize(
    "text", ["", "a", "a b", "a 0", "a 65536", "a b c", "127.1 80", "udp:a:1", "service:", "::1"]
)
def test_what_is_no_answer(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_answer(text)


def test_the_option() -> None:
    assert verifyObject(IFrontEnd, front_end("ask"))
    assert configured("ask", "2323") == AskConfig("127.0.0.1", 2323)
    with pytest.raises(ConfigError):
        configured("ask", "name:23")
