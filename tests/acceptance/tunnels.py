"""A whole tunnel of real processes, over each transport.

Tests of what a transport does not change ask for the fixture ``transport`` and
run once over each: ``transport(["tcp:127.0.0.1:9"], "--socks", "0")`` is a
tunnel that is up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs

from tests.acceptance.processes import Identities, Processes, Role


@attrs.frozen
class RunningTunnel:
    """A tunnel that is up."""

    client: Role
    """The end with the front ends: a client end, a portal."""
    server: Role
    """The end with the rules: a server end, a gate."""

    @property
    def socks(self) -> str:
        """``HOST:PORT`` of the client's SOCKS server."""
        return self.client.address("socks")


@attrs.frozen
class LstpTunnel(RunningTunnel):
    """The same over LSTP."""

    middle: Role

    @property
    def meeting(self) -> tuple[object, ...]:
        """The options with which further ends join in."""
        return meeting(self.middle)


Transport = Callable[..., RunningTunnel]
"""``(allow, *options of the client, server=options of the server, client_env=variables of its
environment, server_env=...)``; see `start_tunnel`."""

Environment = dict[str, str] | None


def rules(allow: Sequence[str]) -> list[str]:
    """The options that allow what is listed."""
    return [word for rule in allow for word in ("--allow", rule)]


# -- LSTP -----------------------------------------------------------------


def meeting(middle: Role) -> tuple[object, ...]:
    """Where the ends of the test's tunnel meet, as options."""
    return ("--middle", middle.address("listening on"), "--tunnel", "test")


def start_server_end(
    processes: Processes,
    identities: Identities,
    middle: Role,
    allow: Sequence[str],
    *more: object,
    env: Environment = None,
) -> Role:
    """A server end named ``server`` that allows what is listed, to the peer ``client``."""
    return processes.role(
        "lstp-server-end", *meeting(middle), "--identity", identities("server"),
        "--peer", "client", *rules(allow), *more, env=env,
    )  # fmt: skip


def start_client_end(
    processes: Processes,
    identities: Identities,
    middle: Role,
    *more: object,
    wait: bool = True,
    env: Environment = None,
) -> Role:
    """A client end named ``client``; ready once its tunnel is up."""
    return processes.role(
        "lstp-client-end", *meeting(middle), "--identity", identities("client"),
        "--peer", "server", *more, wait=wait, env=env,
    )  # fmt: skip


def start_tunnel(
    processes: Processes,
    identities: Identities,
    allow: Sequence[str],
    *client: object,
    server: Sequence[object] = (),
    client_env: Environment = None,
    server_env: Environment = None,
) -> LstpTunnel:
    """Middle and two ends; ``client`` and ``server`` are further options of the ends."""
    middle = processes.role("lstp-middle", "--listen", "127.0.0.1:0")
    far = start_server_end(processes, identities, middle, allow, *server, env=server_env)
    near = start_client_end(processes, identities, middle, *client, env=client_env)
    return LstpTunnel(client=near, server=far, middle=middle)


# -- Usher ----------------------------------------------------------------


def start_gate(
    processes: Processes,
    identities: Identities,
    allow: Sequence[str],
    *more: object,
    name: str = "server",
    peers: Sequence[str] = ("client",),
    env: Environment = None,
) -> Role:
    """A gate that takes ``peers`` in and allows what is listed."""
    named = [word for peer in peers for word in ("--peer", peer)]
    return processes.role(
        "usher-gate", "--listen", "127.0.0.1:0", "--identity", identities(name),
        *named, *rules(allow), *more, env=env,
    )  # fmt: skip


def start_portal(
    processes: Processes,
    identities: Identities,
    gate: str,
    *more: object,
    name: str = "client",
    peer: str = "server",
    wait: bool = True,
    env: Environment = None,
) -> Role:
    """A portal; ready once its tunnel to the gate at ``gate`` is up."""
    return processes.role(
        "usher-portal", "--gate", gate, "--identity", identities(name), "--peer", peer, *more,
        wait=wait, env=env,
    )  # fmt: skip


def start_usher_tunnel(
    processes: Processes,
    identities: Identities,
    allow: Sequence[str],
    *client: object,
    server: Sequence[object] = (),
    client_env: Environment = None,
    server_env: Environment = None,
) -> RunningTunnel:
    """Gate and portal; ``client`` are further options of the portal, ``server`` of the gate."""
    gate = start_gate(processes, identities, allow, *server, env=server_env)
    place = gate.address("listening on")
    portal = start_portal(processes, identities, place, *client, env=client_env)
    return RunningTunnel(client=portal, server=gate)


# -- Secure Proxy ---------------------------------------------------------

COMMUNICATION_SERVER = "relay.example"
COMMUNICATION_POLICY = """
[clients.server]
publish = ["tunnel"]

[clients.client]
connect = ["server/tunnel"]

[clients.other]
connect = ["server/tunnel"]
"""


@attrs.frozen
class SessionTunnel(RunningTunnel):
    """The same between two clients of a Communication Server."""

    place: tuple[str, ...]
    """The options with which further clients find the server."""


def start_session(
    processes: Processes,
    identities: Identities,
    allow: Sequence[str],
    *client: object,
    server: Sequence[object] = (),
    client_env: Environment = None,
    server_env: Environment = None,
) -> SessionTunnel:
    """A Communication Server and two clients, of which one asks for the other by name."""
    policy = processes.directory / "communication.toml"
    policy.write_text(COMMUNICATION_POLICY)
    meeting = processes.role(
        "secure-proxy-server", "--listen", "127.0.0.1:0",
        "--identity", identities(COMMUNICATION_SERVER), "--policy", policy,
        "--no-crl",  # it is the ends that refuse whom a test revokes
    )  # fmt: skip
    place = ("--server", meeting.address("listening on"), "--server-name", COMMUNICATION_SERVER)
    far = processes.role(
        "secure-proxy-client", *place, "--identity", identities("server"), "--publish", "tunnel",
        "--peer", "client", *rules(allow), *server, env=server_env,
    )  # fmt: skip
    meeting.wait_for("action=publish what=tunnel allowed=True")
    near = processes.role(
        "secure-proxy-client", *place, "--identity", identities("client"),
        "--target", "server", *client, env=client_env,
    )  # fmt: skip
    return SessionTunnel(client=near, server=far, place=place)


STARTERS: dict[str, Transport] = {
    "lstp": start_tunnel,
    "usher": start_usher_tunnel,
    "secure-proxy": start_session,
}
"""What the fixture ``transport`` runs over."""
