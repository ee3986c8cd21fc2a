"""What the internet sees of a file that is fetched through a tunnel."""

from __future__ import annotations

from tests.system import firewalls
from tests.system.capture import Capture, Packet
from tests.system.crossings import Running, Start
from tests.system.laboratory import WIKI, Laboratory
from tests.system.services import EVERYTHING, HTTP, Services

CANARY = b"what-nobody-on-the-way-may-read"
SECRETS = (CANARY, WIKI.encode(), firewalls.PASSWORD.encode(), b"GET /", b"HTTP/1.1", b"company-a")
"""What nobody on the way may find."""


def packets_of_a_fetch(
    lab: Laboratory, running: Running, services: Services, start: Start, size: int
) -> list[Packet]:
    """All that passes in the internet from the start of a tunnel to its end, with a file of
    ``size`` bytes, full of canaries, fetched through it."""
    (services.pages / "secret").write_bytes((CANARY * (size // len(CANARY) + 1))[:size])
    capture = Capture(lab.internet)
    try:
        crossing = start(running, EVERYTHING, [HTTP])
        host, port = crossing.forward()
        copy = lab.company_b.run(["curl", "-sS", f"http://{host}:{port}/secret"]).stdout
        assert copy.encode() == (services.pages / "secret").read_bytes()
        for role in (crossing.near, crossing.far, *crossing.between):
            role.process.stop()
        return capture.stop()
    finally:
        capture.close()
