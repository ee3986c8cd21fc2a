"""The channel by which the far side listens for this end."""

from __future__ import annotations

from collections.abc import Callable

from tunnelkit.errors import Code
from tunnelkit.net.channels.contracts import END, ChannelHandle
from tunnelkit.net.channels.request import ChannelRequest


class FarListener:
    """The `LocalSide` and `AcceptingSide` of a channel opened to ``listen:tcp:HOST:PORT``.

    ``on_accepted`` is given each connection that comes in there, ``on_over``
    is told once that the port is closed; a code of None: it was closed in order.
    """

    __slots__ = ("_channel", "_ending", "_on_accepted", "_on_over")

    def __init__(
        self,
        on_accepted: Callable[[ChannelRequest], object],
        on_over: Callable[[FarListener, Code | None, str], object],
    ) -> None:
        self._on_accepted = on_accepted
        self._on_over = on_over
        self._channel: ChannelHandle | None = None
        self._ending = False

    def end(self) -> None:
        """Have the port closed; what has come in over it goes on."""
        self._ending = True
        if self._channel is not None:
            self._channel.ready()

    def accepted(self, request: ChannelRequest) -> None:
        """See `AcceptingSide`."""
        if self._ending:
            request.refuse(Code.REFUSED, "the port is being closed")
        else:
            self._on_accepted(request)

    # -- LocalSide --------------------------------------------------------

    def attach(self, channel: ChannelHandle) -> None:
        """See `LocalSide`."""
        self._channel = channel

    def pull_into(self, view: memoryview) -> int:
        """See `LocalSide`: there is nothing but the end."""
        return END if self._ending else 0

    def push(self, view: memoryview) -> int:
        """See `LocalSide`: nothing is expected."""
        return len(view)

    def finish(self) -> None:
        """See `LocalSide`: the far side closes the port."""
        self.end()

    def close(self) -> None:
        """See `LocalSide`."""
        self._on_over(self, None, "the far side has closed it")

    def reset(self, code: Code, reason: str) -> None:
        """See `LocalSide`."""
        self._on_over(self, code, reason)
