"""Checks to inherit: does a protocol keep the contract of `tunnelkit.core.mux.contract.Mux`?

This class runs with pytest as it stands, and with trial if `twisted.trial.unittest.TestCase`
is a second base. Nothing sleeps or draws without a seed::

    class TestMyProtocol(ChannelProtocolChecks):
        def protocol(self, budget):
            return MyChannels(budget)
"""

from __future__ import annotations

from itertools import cycle
from random import Random
from typing import Protocol

from tunnelkit.core.mux import contract as t
from tunnelkit.core.mux.credit import MAX_WINDOW, Budget
from tunnelkit.errors import Code, LocalProtocolError
from tunnelkit.testing.conversation import Conversation, MuxEnd, Split

START = 1000.0
DESTINATION = "tcp:host.example:80"


class ChannelProtocol(Protocol):
    """As much of a `tunnelkit.interfaces.IChannelProtocol` as is checked here."""

    @property
    def alpn(self) -> tuple[bytes, ...]:
        """What TLS may agree on; the first one is checked."""

    def make_mux(self, master: bool, alpn: bytes, now: float) -> t.Mux:
        """A new mux."""


def require(fact: object, what: str) -> None:
    """Fail, saying ``what``, unless it is so."""
    if not fact:
        raise AssertionError(what)


def content(size: int, seed: int = 1) -> bytes:
    """``size`` bytes that look random."""
    return Random(seed).randbytes(size)


class ChannelProtocolChecks:
    """One method for each thing that `tunnelkit.net` relies on."""

    early_data = True
    """Whether data may follow a request at once, before it is answered."""

    def protocol(self, budget: Budget) -> ChannelProtocol:
        """The protocol to check; its muxes account for what they queue with ``budget``."""
        raise NotImplementedError

    def conversation(self, split: Split | None = None) -> Conversation:
        """Two ends of the protocol that are up."""
        ends = []
        for master in (True, False):
            budget = Budget()
            protocol = self.protocol(budget)
            ends.append(MuxEnd(protocol.make_mux(master, protocol.alpn[0], START), budget))
        talk = Conversation(ends[0], ends[1], START, split)
        talk.wait(0.1)
        for end in ends:
            end.note(end.mux.deadline_passed(talk.now), talk.now)
        talk.settle()
        return talk

    # -- channels begin --------------------------------------------------------------------

    def test_both_ends_come_up_once(self) -> None:
        talk = self.conversation()
        talk.wait(1.0)
        for end in (talk.near, talk.far):
            require(len(end.all_of(t.TunnelUp)) == 1, f"not one TunnelUp: {end.events}")
            require(not list(end.mux.channels()), "channels before one was opened")

    def test_either_end_opens_channels_that_are_accepted(self) -> None:
        talk = self.conversation()
        for opener in (talk.near, talk.far):
            other = talk.other(opener)
            here, there = talk.open(opener, DESTINATION)
            asked = other.all_of(t.ChannelRequested, there)
            require([event.destination for event in asked] == [DESTINATION], f"asked: {asked}")
            require(opener.all_of(t.ChannelOpened, here), "the opener was not told")
            require(here in set(opener.mux.channels()), "not among the opener's channels")
            require(there in set(other.mux.channels()), "not among the other end's channels")

    def test_channels_opened_by_both_ends_at_once_are_kept_apart(self) -> None:
        talk = self.conversation()
        sides = [(talk.near, talk.far), (talk.far, talk.near)]
        asked = [(a, b, n, a.mux.open(f"tcp:h:{n}", talk.now)) for n in (1, 2, 3) for a, b in sides]
        talk.settle()
        numbers: dict[tuple[int, str], int] = {}
        for _, other in sides:
            for event in other.all_of(t.ChannelRequested):
                numbers[id(other), event.destination] = event.channel
                other.note(other.mux.opened(event.channel, ""), talk.now)
        talk.settle()
        for opener, other, n, here in asked:
            data = content(1000, seed=id(opener) % 97 + n)
            talk.send(opener, here, data)
            there = numbers[id(other), f"tcp:h:{n}"]
            require(bytes(other.got[there]) == data, f"channel {here} arrived elsewhere")

    def test_a_refusal_reaches_the_opener_with_its_reason(self) -> None:
        talk = self.conversation()
        here, there = talk.ask(talk.near, DESTINATION)
        talk.far.note(talk.far.mux.refuse(there, Code.REFUSED, "nobody listens"), talk.now)
        talk.wait(0.1)
        ended = talk.near.all_of(t.ChannelEnded, here)
        require(len(ended) == 1, f"not one end: {ended}")
        require(ended[0].refused, "the end is not called a refusal")
        require(ended[0].code is not None, "a refusal without a code")
        require("nobody listens" in ended[0].reason, f"reason {ended[0].reason!r}")
        require(not talk.near.all_of(t.ChannelOpened), "opened all the same")
        self._all_over(talk)

    def test_data_before_the_answer(self) -> None:
        talk = self.conversation()
        here = talk.near.mux.open(DESTINATION, talk.now)
        data = memoryview(b"early")
        sent = talk.near.send_now(here, data, talk.now)
        require(sent == (5 if self.early_data else 0), f"{sent} bytes could be sent early")
        talk.settle()
        (asked,) = talk.far.all_of(t.ChannelRequested)
        talk.far.note(talk.far.mux.opened(asked.channel, ""), talk.now)
        talk.send(talk.near, here, bytes(data[sent:]))
        require(bytes(talk.far.got[asked.channel]) == b"early", "it did not arrive")

    def test_data_before_the_answer_is_little(self) -> None:
        talk = self.conversation()
        here, there = talk.ask(talk.near, DESTINATION)
        data = content(100_000)
        sent = talk.send(talk.near, here, data)
        require(sent <= t.EARLY_DATA, f"{sent} bytes were sent to nobody")
        require(talk.far.budget.queued <= t.EARLY_DATA, "it is not all counted")
        require(not talk.near.mux.waits_for_path(here), "it is asked again and again")
        talk.far.note(talk.far.mux.opened(there, ""), talk.now)
        rest = talk.send(talk.near, here, data[sent:])
        require(sent + rest == len(data), "it does not go on after the answer")
        require(bytes(talk.far.got[there]) == data, "not what was sent")

    # -- data ------------------------------------------------------------------------------

    def test_bytes_arrive_complete_and_in_order(self) -> None:
        talk = self.conversation()
        here, there = talk.open(talk.near)
        data = content(2_000_000)
        require(talk.send(talk.near, here, data) == len(data), "could not send everything")
        require(talk.send(talk.far, there, data) == len(data), "could not send everything back")
        require(bytes(talk.far.got[there]) == data, "something else arrived")
        require(bytes(talk.near.got[here]) == data, "something else came back")

    def test_the_bytes_may_be_cut_anywhere(self) -> None:
        stories = []
        for cuts in ([1], [2, 3], [7], [1, 4096], [65_536]):
            talk = self.conversation(cycle(cuts).__next__)
            here, there = talk.open(talk.near)
            data = content(20_000)
            talk.send(talk.near, here, data)
            talk.finish(talk.near, here)
            require(bytes(talk.far.got[there]) == data, f"cut into {cuts}: not what was sent")
            talk.finish(talk.far, there)
            stories.append((talk.near.events, talk.far.events))
        require(all(story == stories[0] for story in stories), "the cuts change what happens")

    def test_a_sender_waits_for_an_application_that_does_not_read(self) -> None:
        talk = self.conversation()
        here, there = talk.open(talk.near)
        other, far_other = talk.open(talk.near)
        talk.far.eager = False
        data = content(MAX_WINDOW + 1_000_000)
        sent = talk.send(talk.near, here, data)
        require(sent < len(data), "nothing stopped the sender")
        require(talk.far.budget.queued == sent, "the budget does not count what is queued")
        require(talk.near.mux.sendable(here) == 0, "more could be sent")
        require(talk.send(talk.near, other, b"beside") == 6, "one channel blocks another")
        require(bytes(talk.far.got[far_other]) == b"beside", "one channel blocks another")
        talk.far.eager = True
        talk.far.take(there, talk.now)
        talk.far.take(far_other, talk.now)
        require(talk.send(talk.near, here, data[sent:]) == len(data) - sent, "it does not go on")
        require(bytes(talk.far.got[there]) == data, "not what was sent")

    def test_channels_share_the_tunnel_evenly(self) -> None:
        talk = self.conversation()
        pairs = [talk.open(talk.near) for _ in range(4)]
        piece = memoryview(content(4_000))
        for _ in range(200):
            for here, _there in pairs:
                talk.near.send_now(here, piece, talk.now)
            talk.settle()
            talk.wait(0.001)
        sizes = [len(talk.far.got.get(there, b"")) for _, there in pairs]
        require(min(sizes) * 2 > max(sizes), f"shares of {sizes} bytes")

    # -- channels end ----------------------------------------------------------------------

    def test_half_close_leaves_the_other_direction(self) -> None:
        talk = self.conversation()
        for first in (talk.near, talk.far):
            here, there = talk.open(talk.near)
            number = {id(talk.near): here, id(talk.far): there}
            second = talk.other(first)
            talk.finish(first, number[id(first)])
            require(second.all_of(t.Finished, number[id(second)]), "the end was not told")
            answer = content(300_000)
            require(
                talk.send(second, number[id(second)], answer) == len(answer),
                "the other direction ended too",
            )
            require(bytes(first.got[number[id(first)]]) == answer, "not what was sent")
            talk.finish(second, number[id(second)])
            for end in (first, second):
                channel = number[id(end)]
                ends = end.all_of(t.ChannelEnded, channel)
                require(len(end.all_of(t.Finished, channel)) == 1, "Finished not told once")
                require([event.code for event in ends] == [None], f"ends: {ends}")
                end.events.clear()
                end.got.clear()
            self._all_over(talk)

    def test_an_end_waits_behind_the_data(self) -> None:
        talk = self.conversation()
        here, there = talk.open(talk.near)
        talk.far.eager = False
        talk.send(talk.near, here, b"last words")
        talk.finish(talk.near, here)
        talk.finish(talk.far, there)
        require(bytes(talk.far.got[there]) == b"last words", "data was lost at the end")
        talk.far.take(there, talk.now)
        talk.wait(0.1)
        require([e.code for e in talk.near.all_of(t.ChannelEnded)] == [None], "not a clean end")
        self._all_over(talk)

    def test_an_abort_is_no_clean_end_for_the_other_side(self) -> None:
        for aborts_near in (True, False):
            talk = self.conversation()
            here, there = talk.open(talk.near)
            talk.far.eager = talk.near.eager = False
            talk.send(talk.near, here, b"lost")
            talk.send(talk.far, there, b"lost")
            end, channel = (talk.near, here) if aborts_near else (talk.far, there)
            end.note(end.mux.abort(channel, Code.RESET, "crashed", talk.now), talk.now)
            talk.wait(0.1)
            ended = talk.other(end).all_of(t.ChannelEnded)
            require(len(ended) == 1, f"not one end: {ended}")
            require(ended[0].code is not None, "the abort arrived as a clean end")
            require(not talk.other(end).all_of(t.Finished), "the abort ended a stream cleanly")
            self._all_over(talk)

    def test_an_abort_before_the_answer_leaves_nothing(self) -> None:
        talk = self.conversation()
        here = talk.near.mux.open(DESTINATION, talk.now)
        talk.settle()
        talk.near.note(talk.near.mux.abort(here, Code.RESET, "gone", talk.now), talk.now)
        talk.wait(0.1)
        # Some protocols tell the far side only once it has answered.
        for channel in list(talk.far.mux.channels()):
            talk.far.note(talk.far.mux.opened(channel, ""), talk.now)
        talk.wait(0.1)
        self._all_over(talk)

    def test_what_is_taken_after_the_end_changes_nothing(self) -> None:
        for aborts_near in (True, False):
            talk = self.conversation()
            here, there = talk.open(talk.near)
            talk.near.eager = False
            talk.send(talk.far, there, b"late")
            end, channel = (talk.near, here) if aborts_near else (talk.far, there)
            end.note(end.mux.abort(channel, Code.RESET, "gone", talk.now), talk.now)
            talk.wait(0.1)
            events = talk.near.mux.consumed(here, len(b"late"), talk.now)
            require(not events, f"the end is told again: {events}")
            self._all_over(talk)

    # -- the tunnel ends -------------------------------------------------------------------

    def test_idle_tunnels_stay_up(self) -> None:
        talk = self.conversation()
        here, there = talk.open(talk.near)
        talk.wait(300.0)
        require(talk.send(talk.near, here, b"still there") == 11, "it cannot send any more")
        require(bytes(talk.far.got[there]) == b"still there", "it did not arrive")

    def test_a_tunnel_that_drains_lets_channels_finish(self) -> None:
        talk = self.conversation()
        here, there = talk.open(talk.near)
        talk.near.note(talk.near.mux.shutdown(30.0, "stopping", talk.now), talk.now)
        talk.settle()
        try:
            talk.near.mux.open(DESTINATION, talk.now)
        except LocalProtocolError:
            pass
        else:
            raise AssertionError("a new channel while the tunnel drains")
        talk.send(talk.far, there, b"the rest")
        require(bytes(talk.near.got[here]) == b"the rest", "the open channel is cut off")
        require(not talk.near.all_of(t.TunnelEnded), "it ended with a channel open")
        talk.finish(talk.near, here)
        talk.finish(talk.far, there)
        require(self._end_of(talk.near, here).code is None, "not a clean end")
        self._lose(talk, clean=True)

    def test_draining_ends_when_its_time_is_over(self) -> None:
        talk = self.conversation()
        here, _ = talk.open(talk.near)
        talk.near.note(talk.near.mux.shutdown(5.0, "stopping", talk.now), talk.now)
        talk.wait(4.0)
        require(not talk.near.all_of(t.TunnelEnded), "too early")
        talk.wait(2.0)
        require(self._end_of(talk.near, here).code is not None, "called clean")
        self._lose(talk, clean=True)

    def test_a_lost_connection_is_no_clean_end(self) -> None:
        for clean in (False, True):
            talk = self.conversation()
            here, _ = talk.open(talk.near)
            talk.near.eager = False
            talk.send(talk.far, talk.far.all_of(t.ChannelRequested)[0].channel, b"half a")
            self._lose(talk, clean)
            ended = self._end_of(talk.near, here)
            require(ended.code is not None, "the loss ended the channel cleanly")
            require(not talk.near.all_of(t.Finished), "the loss ended a stream cleanly")
            if not clean:
                require(talk.near.all_of(t.TunnelEnded)[0].code is not None, "called clean")

    def test_junk_ends_the_tunnel_and_raises_nothing(self) -> None:
        talk = self.conversation()
        talk.open(talk.near)
        talk.near.note(talk.near.mux.receive(memoryview(b"\xff" * 4096), talk.now), talk.now)
        ended = talk.near.all_of(t.TunnelEnded)
        require(len(ended) == 1 and ended[0].code is not None, f"junk was taken: {ended}")
        require(isinstance(talk.near.events[-1], t.TunnelEnded), "something follows TunnelEnded")
        more = talk.near.mux.receive(memoryview(b"more"), talk.now)
        require(not more, "it goes on after its end")
        self._all_over(talk, far=False)
        for seed in range(100):
            talk = self.conversation()
            talk.open(talk.near)
            talk.near.note(
                talk.near.mux.receive(memoryview(content(512, seed)), talk.now), talk.now
            )

    def test_flipped_bits_raise_nothing(self) -> None:
        for seed in range(100):
            talk = self.conversation()
            here, there = talk.open(talk.near)
            talk.near.send_now(here, memoryview(content(100)), talk.now)
            talk.near.note(talk.near.mux.finish(here, talk.now), talk.now)
            talk.near.mux.open(DESTINATION, talk.now)
            talk.near.wire += talk.near.mux.data_to_send()
            random = Random(seed)
            place = random.randrange(len(talk.near.wire))
            talk.near.wire[place] ^= 1 << random.randrange(8)
            talk.carry(talk.near)
            talk.far.note(talk.far.mux.connection_lost(False, talk.now), talk.now)
            self._all_over(talk, near=False)
            require(there not in set(talk.far.mux.channels()), "a channel outlived its tunnel")

    # -- what they share -------------------------------------------------------------------

    def _end_of(self, end: MuxEnd, channel: int) -> t.ChannelEnded:
        """How the channel ended."""
        ended = end.all_of(t.ChannelEnded, channel)
        require(len(ended) == 1, f"not one end: {ended}")
        return ended[0]

    def _lose(self, talk: Conversation, clean: bool) -> None:
        """The connection under both ends is gone."""
        talk.settle()
        for end in (talk.near, talk.far):
            end.note(end.mux.connection_lost(clean, talk.now), talk.now)
            require(len(end.all_of(t.TunnelEnded)) == 1, f"not one TunnelEnded: {end.events}")
            require(isinstance(end.events[-1], t.TunnelEnded), "something follows TunnelEnded")
        self._all_over(talk)

    def _all_over(self, talk: Conversation, near: bool = True, far: bool = True) -> None:
        """No channel is left, and nothing is queued."""
        for end, counts in ((talk.near, near), (talk.far, far)):
            if counts:
                left = list(end.mux.channels())
                require(not left, f"channels are left: {left}")
                require(end.budget.queued == 0, f"{end.budget.queued} bytes left in the budget")
