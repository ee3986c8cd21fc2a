"""Cascades of middles (row L8), and an end that is its own middle (row L9), with real processes."""

from __future__ import annotations

import re

import pytest

from tests.acceptance.processes import Identities, Processes, Role, WebServer, curl, free_port

SIZE = 4 << 20


def middle(processes: Processes, name: str, *more: object) -> Role:
    return processes.role("lstp-middle", "--listen", "127.0.0.1:0", "--name", name, *more)


def server_end(processes: Processes, identities: Identities, *more: object) -> Role:
    return processes.role(
        "lstp-server-end", "--tunnel", "test", "--identity", identities("server"),
        "--peer", "client", *more,
    )  # fmt: skip


def client_end(
    processes: Processes, identities: Identities, *more: object, wait: bool = True
) -> Role:
    return processes.role(
        "lstp-client-end", "--tunnel", "test", "--identity", identities("client"),
        "--peer", "server", *more, wait=wait,
    )  # fmt: skip


def path_of(role: Role) -> list[str]:
    """The parties on the path, as an end logged them."""
    return role.wait_for(r"is up: (.*)$")[1].split(" - ")


def test_a_tunnel_through_three_middles(
    processes: Processes, identities: Identities, web: WebServer
) -> None:
    last = middle(processes, "outer")
    between = middle(processes, "between", "--next", last.address("listening on"))
    first = middle(processes, "inner", "--next", between.address("listening on"))
    digest = web.add("file", SIZE)
    server = server_end(
        processes, identities, "--middle", last.address("listening on"),
        "--allow", f"tcp:127.0.0.1:{web.port}",
    )  # fmt: skip
    client = client_end(
        processes, identities, "--middle", first.address("listening on"),
        "--forward", f"0=tcp:127.0.0.1:{web.port}",
    )  # fmt: skip
    fetched = curl(f"http://{client.address('forward')}/file")
    assert fetched.sha256 == digest
    names = ["client", "inner", "between", "outer", "server"]
    assert path_of(client) == names
    assert path_of(server) == names[::-1]


def test_a_partner_at_the_same_middle_comes_before_one_at_the_next(
    processes: Processes, identities: Identities, web: WebServer
) -> None:
    # The next middle is not even there: the end waits all the same.
    here = middle(processes, "here", "--next", f"127.0.0.1:{free_port()}")
    digest = web.add("file", SIZE)
    server_end(
        processes,
        identities,
        "--middle",
        here.address("listening on"),
        "--allow",
        f"tcp:127.0.0.1:{web.port}",
    )
    here.wait_for("Cannot reach the next middle")
    client = client_end(
        processes, identities, "--middle", here.address("listening on"),
        "--forward", f"0=tcp:127.0.0.1:{web.port}",
    )  # fmt: skip
    assert curl(f"http://{client.address('forward')}/file").sha256 == digest
    assert path_of(client) == ["client", "here", "server"]


def test_a_next_middle_that_comes_later_is_found(
    processes: Processes, identities: Identities, web: WebServer
) -> None:
    port = free_port()
    here = middle(processes, "here", "--next", f"127.0.0.1:{port}")
    client = client_end(
        processes, identities, "--middle", here.address("listening on"),
        "--forward", f"0=tcp:127.0.0.1:{web.port}", wait=False,
    )  # fmt: skip
    here.wait_for("Cannot reach the next middle")
    processes.role("lstp-middle", "--listen", f"127.0.0.1:{port}", "--name", "there")
    server_end(
        processes,
        identities,
        "--middle",
        f"127.0.0.1:{port}",
        "--allow",
        f"tcp:127.0.0.1:{web.port}",
    )
    assert path_of(client) == ["client", "here", "there", "server"]


def test_middles_in_a_ring_refuse_instead_of_dialling_for_ever(
    processes: Processes, identities: Identities
) -> None:
    port = free_port()
    one = middle(processes, "one", "--next", f"127.0.0.1:{port}")
    processes.role(
        "lstp-middle", "--listen", f"127.0.0.1:{port}", "--name", "two",
        "--next", one.address("listening on"),
    )  # fmt: skip
    client = client_end(
        processes, identities, "--middle", one.address("listening on"), "--socks", "0", wait=False
    )
    client.wait_for("the middle says protocol: this middle is on the path already")
    # One dial each way for each attempt of the end, not more.
    said = sum("on the path already" in line for line in client.process.lines)
    asked = sum("Sent away" in line for line in one.process.lines)
    assert asked <= 2 * said + 2


@pytest.mark.parametrize("inside", ["client", "server"])
def test_an_end_that_is_its_own_middle(
    inside: str, processes: Processes, identities: Identities, web: WebServer
) -> None:
    digest = web.add("file", SIZE)
    own = ("--listen", "127.0.0.1:0")
    allow = ("--allow", f"tcp:127.0.0.1:{web.port}")
    forward = ("--forward", f"0=tcp:127.0.0.1:{web.port}")
    if inside == "server":
        server = server_end(processes, identities, *own, *allow)
        client = client_end(
            processes, identities, "--middle", server.address("listening on"), *forward
        )
    else:
        port = free_port()
        own = ("--listen", f"127.0.0.1:{port}")
        client = client_end(processes, identities, *own, *forward, wait=False)
        server = server_end(processes, identities, "--middle", f"127.0.0.1:{port}", *allow)
    client = Role(client.process)
    assert curl(f"http://{client.address('forward')}/file").sha256 == digest
    assert path_of(client) == ["client", f"{inside}-middle", "server"]
    assert server.process.stop() == 0
    assert re.search(r"Tunnel test with server has ended", client.process.log) is not None
