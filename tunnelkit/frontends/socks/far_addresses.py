"""Which address of the far side a BIND names, and whom it expects: by its clients' CONNECTs."""

from __future__ import annotations

from collections import OrderedDict
from ipaddress import IPv4Address, ip_address

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

    def expected(self, client: str, host: str) -> str:
        """Whom a BIND for ``host`` expects: ``host``, or the name that stands behind it.

        socksify of dante 1.4 has no address for a host that the far side resolves. Where its
        BIND should have one are the first four letters of the name.
        """
        if (client, host) in self._own or not _is_ipv4(host):
            return host
        letters = IPv4Address(host).packed
        for who, name in reversed(self._own):
            if who == client and name.encode()[:4] == letters and not _is_ipv4(name):
                return name
        return host


def _is_ipv4(host: str) -> bool:
    try:
        return ip_address(host).version == 4
    except ValueError:
        return False
