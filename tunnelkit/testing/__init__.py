"""Public helpers for tests of programs that use tunnelkit, and of tunnelkit itself.

`Pipe` joins two Twisted protocols in memory, with what makes real connections
hard: a bounded wire, producers that are paused and resumed, half-close,
aborts, chunks of any size. Twisted's own in-memory transports do not have it:
``StringTransport`` collects without end whatever is written, never calls its
producer and has no other side; ``iosim`` delivers all that was written at once
and in one piece, pauses nobody, and ends a stream in one way only. A program
that forgets backpressure, or takes a cut connection for the end of the data,
passes every test on them.

`LossyPipe` is the same for datagrams, with loss, reordering and duplication.
`TestClock` is the time in which both run: nothing here sleeps, reads the real
clock or draws a random number without a seed, so a test that fails fails
again. `throwaway_ca` makes identities that need no files.
"""

from tunnelkit.testing.authority import ThrowawayCA, throwaway_ca
from tunnelkit.testing.clock import Stalled, TestClock
from tunnelkit.testing.datagrams import DatagramEnd, LossyPipe
from tunnelkit.testing.pipe import Pipe, PipeEnd, seeded_chunks

__all__ = [
    "DatagramEnd",
    "LossyPipe",
    "Pipe",
    "PipeEnd",
    "Stalled",
    "TestClock",
    "ThrowawayCA",
    "seeded_chunks",
    "throwaway_ca",
]
