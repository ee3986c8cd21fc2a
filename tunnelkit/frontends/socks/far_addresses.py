"""Which address of the far side a BIND names: the one that its clients' CONNECTs came from."""

from __future__ import annotations

from collections import OrderedDict
from ipaddress import ip_address

REMEMBERED = 4096


class FarAddresses:
    """What the far side has told of its own addresses in answers to CONNECT (row F1).

    Active FTP sends the address that BIND names to the server, which connects to nothing
    but the address that the control connection came from.
    """

    def __init__(self) -> None:
        self._own: OrderedDict[tuple[str, str], str] = OrderedDict()
        """By client and destination; destination empty: of the client's last CONNECT."""

    def connected(self, client: str, host: str, own: str) -> None:
        """The far side has connected to ``host`` for ``client``, from its address ``own``."""
        if ip_address(own).is_unspecified:
            return
        for key in ((client, host), (client, "")):
            self._own[key] = own
            self._own.move_to_end(key)
        while len(self._own) > REMEMBERED:
            self._own.popitem(last=False)

    def named(self, client: str, host: str, bound: str) -> str:
        """What to call ``bound``, where the far side listens for ``host``: if that is all its
        addresses, the one towards ``host``, or else that of the client's last CONNECT."""
        listening = ip_address(bound)
        if listening.is_unspecified:
            for key in ((client, host), (client, "")):
                own = self._own.get(key)
                if own is not None and ip_address(own).version == listening.version:
                    return own
        return bound
