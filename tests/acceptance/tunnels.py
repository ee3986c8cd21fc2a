"""A whole tunnel of real processes."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from tests.acceptance.processes import Identities, Processes, Role


@attrs.frozen
class RunningTunnel:
    """A tunnel that is up."""

    middle: Role
    client: Role
    server: Role

    @property
    def socks(self) -> str:
        """``HOST:PORT`` of the client end's SOCKS server."""
        return self.client.address("socks")

    @property
    def meeting(self) -> tuple[object, ...]:
        """The options with which further ends join in."""
        return meeting(self.middle)


def meeting(middle: Role) -> tuple[object, ...]:
    """Where the ends of the test's tunnel meet, as options."""
    return ("--middle", middle.address("listening on"), "--tunnel", "test")


def start_server_end(
    processes: Processes, identities: Identities, middle: Role, allow: Sequence[str], *more: object
) -> Role:
    """A server end named ``server`` that allows what is listed, to the peer ``client``."""
    rules = [word for rule in allow for word in ("--allow", rule)]
    return processes.role(
        "lstp-server-end", *meeting(middle), "--identity", identities("server"),
        "--peer", "client", *rules, *more,
    )  # fmt: skip


def start_client_end(
    processes: Processes, identities: Identities, middle: Role, *more: object, wait: bool = True
) -> Role:
    """A client end named ``client``; ready once its tunnel is up."""
    return processes.role(
        "lstp-client-end", *meeting(middle), "--identity", identities("client"),
        "--peer", "server", *more, wait=wait,
    )  # fmt: skip


def start_tunnel(
    processes: Processes, identities: Identities, allow: Sequence[str], *client: object
) -> RunningTunnel:
    """Middle and two ends; ``client`` are further options of the client end."""
    middle = processes.role("lstp-middle", "--listen", "127.0.0.1:0")
    server = start_server_end(processes, identities, middle, allow)
    return RunningTunnel(middle, start_client_end(processes, identities, middle, *client), server)
