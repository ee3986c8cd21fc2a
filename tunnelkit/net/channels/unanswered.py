"""The requests of one connection that have not been answered, and what came behind them.

A peer may send before the answer: `tunnelkit.core.mux.contract.EARLY_DATA` bytes of a stream, and
a few datagrams of a flow. They stay with the request, and count as early data of all tunnels.
"""

from __future__ import annotations

from collections.abc import Callable

from tunnelkit.core.mux.contract import Datagram
from tunnelkit.net.channels.request import AcceptingSide, ChannelRequest
from tunnelkit.net.sockets.early_data import EarlyData

_EARLY_DATAGRAMS = 64
"""Datagrams that are kept for a flow that has not been answered yet."""


class UnansweredRequests:
    """By channel; ``ask`` is told of those that no listener of this end has caused."""

    def __init__(self, early_data: EarlyData, ask: Callable[[ChannelRequest], None]) -> None:
        self._early_data = early_data
        self._ask = ask
        self.by_channel: dict[int, ChannelRequest] = {}
        self._unasked: list[ChannelRequest] = []
        self.unsettled = False
        """`settle` has something to do."""

    def add(self, request: ChannelRequest) -> None:
        """The far side wants something; somebody is asked when everything is known."""
        self.by_channel[request.channel] = request
        self._unasked.append(request)
        self.unsettled = True

    def remove(self, request: ChannelRequest) -> None:
        """It has its answer."""
        del self.by_channel[request.channel]
        if request.early or request.early_datagrams:
            self._early_data.remove(request)

    def keep(self, channel: int, data: memoryview) -> bool:
        """Keep what came for ``channel``. False: nobody has asked for that."""
        request = self.by_channel.get(channel)
        if request is None:
            return False
        request.early += data
        self._early_data.add(request, len(data))
        self.unsettled = True
        return True

    def keep_datagram(self, datagram: Datagram) -> bool:
        """The same of a datagram, which is dropped where there are many already."""
        request = self.by_channel.get(datagram.flow)
        if request is None or len(request.early_datagrams) >= _EARLY_DATAGRAMS:
            return False
        # Of a request the far address is where it is to go.
        request.early_datagrams.append((datagram.destination, bytes(datagram.data)))
        self._early_data.add(request, len(datagram.data))
        self.unsettled = True
        return True

    def finished(self, channel: int) -> None:
        """What has been kept for ``channel``, if it was asked for, is all that it sends."""
        request = self.by_channel.get(channel)
        if request is not None:
            request.finished = True

    def abandoned(self, channel: int) -> None:
        """The far side waits no more for ``channel``, which it has asked for."""
        request = self.by_channel[channel]
        self.remove(request)
        request.abandoned()

    def settle(self) -> None:
        """Make room where too much was kept, and have the new requests answered.

        The mux is ahead of the events it has reported: what it received behind a request may have
        ended it already. So this is done when all events of one reading are known.
        """
        self.unsettled = False
        self._early_data.relieve()
        unasked, self._unasked = self._unasked, []
        for request in unasked:
            listener = request.listener
            if request.gone:
                continue
            if listener is None:
                self._ask(request)
            elif isinstance(listener.side, AcceptingSide):
                listener.side.accepted(request)
