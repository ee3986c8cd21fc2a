"""The protocols that come with tunnelkit, and the one of the example, keep the common contract."""

from __future__ import annotations

import pytest

from examples.custom_protocol import Channels, ExampleMux
from tunnelkit.core.mux import contract as t
from tunnelkit.core.mux.credit import Budget
from tunnelkit.core.mux.plain import PlainChannel
from tunnelkit.errors import Code, RemoteProtocolError
from tunnelkit.net.lstp.protocol import LstpProtocol
from tunnelkit.net.usher.protocol import UsherProtocol
from tunnelkit.testing.conformance import ChannelProtocol, ChannelProtocolChecks
from tunnelkit.wire.usher import Version


class TestLstp(ChannelProtocolChecks):
    def protocol(self, budget: Budget) -> ChannelProtocol:
        return LstpProtocol(budget=budget)


class TestUsher1(ChannelProtocolChecks):
    early_data = False

    def protocol(self, budget: Budget) -> ChannelProtocol:
        return UsherProtocol(budget=budget, versions=(Version.V1,))


class TestUsher11(ChannelProtocolChecks):
    def protocol(self, budget: Budget) -> ChannelProtocol:
        return UsherProtocol(budget=budget)


class TestTheExample(ChannelProtocolChecks):
    def protocol(self, budget: Budget) -> ChannelProtocol:
        return Channels(budget)


# -- the checks notice what is wrong ---------------------------------------


class CleanResets(ExampleMux):
    """Takes a reset for a clean end."""

    def _far_reset(self, ch: PlainChannel, code: Code, reason: str) -> list[t.Event]:
        return self._ends(ch.number, None, reason)


class Boundless(ExampleMux):
    """Grants credit for what nobody has taken."""

    def _far_data(self, ch: PlainChannel, data: memoryview) -> t.Data:
        event = super()._far_data(ch, data)
        self._put_grant(ch.number, ch.inbound.received, ch.inbound.received + self.window)
        ch.inbound.limit = ch.inbound.received + self.window
        return event


class Leaking(ExampleMux):
    """Forgets what is queued when the connection is lost."""

    def connection_lost(self, clean: bool, now: float) -> list[t.Event]:
        self._channels.clear()
        return [t.TunnelEnded(Code.RESET)]


class Credulous(ExampleMux):
    """Lets no exception of its parser become the end of the tunnel."""

    def _fail(self, code: Code, reason: str) -> list[t.Event]:
        raise RemoteProtocolError(reason)


class Hasty(ExampleMux):
    """Ends a channel when one direction has ended."""

    def _far_finish(self, ch: PlainChannel) -> list[t.Event]:
        ch.near_ended = True
        return super()._far_finish(ch)


class Stubborn(ExampleMux):
    """Never drains."""

    def shutdown(self, grace: float, reason: str, now: float) -> list[t.Event]:
        return []


@pytest.mark.parametrize(
    ("mux", "check"),
    [
        (CleanResets, "test_an_abort_is_no_clean_end_for_the_other_side"),
        (CleanResets, "test_a_refusal_reaches_the_opener_with_its_reason"),
        (Boundless, "test_a_sender_waits_for_an_application_that_does_not_read"),
        (Leaking, "test_a_lost_connection_is_no_clean_end"),
        (Credulous, "test_junk_ends_the_tunnel_and_raises_nothing"),
        (Hasty, "test_half_close_leaves_the_other_direction"),
        (Stubborn, "test_a_tunnel_that_drains_lets_channels_finish"),
        (Stubborn, "test_draining_ends_when_its_time_is_over"),
    ],
)
def test_the_checks_fail_for_a_mux_that_breaks_the_contract(
    mux: type[ExampleMux], check: str
) -> None:
    class Broken(Channels):
        def make_mux(self, master: bool, alpn: bytes, now: float) -> ExampleMux:
            return mux(master, self.budget, now)

    class Checks(ChannelProtocolChecks):
        def protocol(self, budget: Budget) -> ChannelProtocol:
            return Broken(budget)

    getattr(TestTheExample(), check)()
    with pytest.raises((AssertionError, RemoteProtocolError)):
        getattr(Checks(), check)()
