"""fowl: forwards over magic-wormhole, in Python on Twisted like tunnelkit."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from bench.loads import Address
from bench.parties import Layout, Parties, Place
from bench.system import System, find

END = Path(__file__).with_name("fowl_end.py")

SERVERS = {
    "wormhole_mailbox_server": "magic-wormhole-mailbox-server",
    "wormhole_transit_relay": "magic-wormhole-transit-relay",
}
"""What fowl's Python must have beside it: module and the package that it comes in."""


class Fowl(System):
    """fowl at both ends, with a mailbox server and a transit relay of its own."""

    name = "fowl"
    legs = "fowl at both ends and its transit relay, encrypted end to end"
    programs = ("fowl",)

    def missing(self) -> list[str]:
        """Also the servers."""
        missing = super().missing()
        if not missing:
            found = "; ".join(
                f"print('' if importlib.util.find_spec({module!r}) else {package!r})"
                for module, package in SERVERS.items()
            )
            command = [self._python(), "-c", f"import importlib.util; {found}"]
            missing = subprocess.run(command, capture_output=True, text=True).stdout.split()
        return missing

    def _python(self) -> str:
        """The Python beside the program, wherever that was found."""
        return str(Path(find("fowl") or "fowl").with_name("python3"))

    def start(self, parties: Parties, layout: Layout, target: int) -> Address:
        """The two servers, the server side, the client side."""
        middle, entry = layout.middle, layout.client.free_port()
        mailbox = self._serve(parties, middle, "wormhole-mailbox", "--channel-db", ":memory:")
        relay = self._serve(parties, middle, "transitrelay")
        code = f"1-{os.urandom(6).hex()}-{os.urandom(6).hex()}"
        meeting = [f"ws://{mailbox}/v1", f"tcp:{relay}", code]
        for side, place, port in (
            ("server", layout.server, target),
            ("client", layout.client, entry),
        ):
            command = [self._python(), str(END), side, *meeting, str(port)]
            parties.start(f"fowl {side}", command, place)
        return "127.0.0.1", entry

    def _serve(self, parties: Parties, place: Place, plugin: str, *options: str) -> str:
        """Start one of the servers; where it listens."""
        port = place.free_port()
        endpoint = f"tcp:{port}:interface={place.address}"
        command = [self._python(), "-m", "twisted", plugin, "--port", endpoint, *options]
        parties.start(plugin, command, place)
        parties.wait_for_answer(place, (place.address, port), tunnel=False)
        return f"{place.address}:{port}"
