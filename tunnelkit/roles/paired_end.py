"""What an end has that is paired with others: keys that can be renewed, and counted meetings."""

from __future__ import annotations

from collections.abc import Callable

from tunnelkit.egress.dial import Egress
from tunnelkit.net.channels.tunnel import Tunnel
from tunnelkit.roles.credential_watch import CredentialWatch
from tunnelkit.roles.paired_keys import PairedKeys
from tunnelkit.roles.paired_meetings import PairedMeetings


class PairedEnd:
    """Of one end; one that is not paired says so to those who ask.

    ``paired`` and ``pins_file`` are as `tunnelkit.roles.end_config.EndConfig` has them, ``stays``
    is as `PairedKeys` has it.
    """

    def __init__(
        self,
        egress: Egress,
        tunnel: Tunnel,
        watch: CredentialWatch,
        state_dir: str | None,
        *,
        paired: bool,
        pins_file: str,
        stays: Callable[[], str],
    ) -> None:
        self.keys = PairedKeys(egress, tunnel, watch, pins_file, stays)
        self._meetings = PairedMeetings(egress, tunnel, watch, state_dir, paired)

    def start(self) -> None:
        """Begin with the first connection."""
        self.keys.start()
        self._meetings.start()

    def stop(self) -> None:
        """Count no more."""
        self._meetings.stop()
