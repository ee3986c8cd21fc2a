"""Servers that lie to real clients, and clients written from the document alone (S6, S15; X5)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Thread
from typing import Any

import pytest

from tests.acceptance.applications import Application, echo
from tests.acceptance.communication import SERVER, Communication, start_server
from tests.acceptance.processes import Identities, Processes, Role
from tests.peers.lying_server import Fields, LyingServer
from tests.peers.secureproxy_peer import Client


@pytest.fixture
def application() -> Iterator[Application]:
    with Application(echo) as running:
        yield running


def change(**fields: Any) -> Callable[[Fields], Fields]:
    """Say this instead."""
    return lambda told: {**told, **{name.rstrip("_"): value for name, value in fields.items()}}


LIES: dict[str, tuple[dict[str, Any], str, str]] = {
    "nothing": ({}, "client", "with server is up"),
    "another client": (
        {"present": "second"},
        "client",
        "the other client is second, expected is server",
    ),
    "another member of a group": (
        {"present": "second", "asks": ("group:servers", "--peer", "server")},
        "client",
        "the other client is second, expected is server",
    ),
    "another target": (
        {"incoming": change(target="group:servers")},
        "client",
        r"the target is '\S+' here and '\S+' there",
    ),
    "another resource": (
        {"incoming": change(resource="desk"), "to_target": change(resource="desk")},
        "client",
        r"the resource is '\w+' here and '\w+' there",
    ),
    "another resource for the initiator": (
        {"to_initiator": change(resource="desk")},
        "client",
        "the resource is 'tunnel' here, the server says 'desk'",
    ),
    "another peer for the initiator": (
        {"to_initiator": change(peer="guest")},
        "client",
        "the peer is 'server' here, the server says 'guest'",
    ),
    "another initiator": (
        {"incoming": change(from_="guest"), "to_target": change(peer="guest")},
        "server",
        r"the other client's name is 'guest' here and 'client' there|"
        "the other client is client, expected is guest",
    ),
    "both begin": ({"to_target": change(role="tls-client")}, "server", "role is tls-client"),
    "both wait": ({"to_initiator": change(role="tls-server")}, "client", "role is tls-server"),
    "another session": (
        {"to_target": change(session="f" * 32)},
        "server",
        "the session is .* here, the server says 'f{32}'",
    ),
    "ended TLS": (
        {"forged": ("guest", "guest")},
        "client",
        "the other client is guest, expected is server",
    ),
    "ended TLS with the keys of both": (
        {"forged": ("server", "client")},
        "client",
        "somebody on the way ends the TLS between the two clients",
    ),
    "ended TLS, and a binding of its own": (
        {"forged": ("server", "client"), "sessions": change(binding="f" * 64)},
        "client",
        "somebody on the way ends the TLS between the two clients",
    ),
    "ended TLS, and nothing is said of it": (
        {
            "forged": ("server", "client"),
            "sessions": lambda told: {key: told[key] for key in told if key != "binding"},
        },
        "client",
        "the other client does not say what this TLS is",
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lying_server_gets_nobody_a_tunnel(
    lie: str, processes: Processes, identities: Identities, application: Application
) -> None:
    options, who, words = LIES[lie]
    asks = options.get("asks", ("server",))
    options = {name: value for name, value in options.items() if name != "asks"}
    if "forged" in options:
        options = {**options, "forged": tuple(map(identities, options["forged"]))}
    liar = LyingServer(identities(SERVER), **options)
    processes.on_end(liar.close)

    def client(name: str, *more: object, wait: bool = True) -> Role:
        return processes.role(
            "secure-proxy-client", "--server", f"127.0.0.1:{liar.port}", "--server-name", SERVER,
            "--identity", identities(name), *more, wait=wait,
        )  # fmt: skip

    roles = {
        name: client(
            name, "--publish", "tunnel", "--publish", "desk", "--allow", application.destination
        )
        for name in ("server", "second")
    }
    assert liar.registered.wait(20)
    roles["client"] = client("client", "--target", *asks, "--socks", "0", wait=False)
    roles[who].wait_for(words)
    if lie != "nothing":
        for role in roles.values():
            assert not any("is up" in line for line in role.process.lines), role.process.log


def test_a_server_that_speaks_for_an_earlier_registration(
    processes: Processes, identities: Identities
) -> None:
    liar = LyingServer(identities(SERVER), incoming=change(generation=99))
    processes.on_end(liar.close)
    place = ("--server", f"127.0.0.1:{liar.port}", "--server-name", SERVER)
    processes.role(
        "secure-proxy-client", *place, "--identity", identities("server"), "--publish", "tunnel"
    )
    assert liar.registered.wait(20)
    peer = Client(liar.port, SERVER, identities("client"))
    peer.connect("session").say("CONNECT", target="server", resource="tunnel")
    kind, fields = liar.answers.get(timeout=20)
    assert (kind, fields["code"]) == ("ANSWER", "setup-mismatch")


# -- clients written from the document alone --------------------------------------


@pytest.fixture
def server(processes: Processes, identities: Identities) -> Communication:
    return start_server(processes, identities)


def test_two_clients_of_their_own_through_the_real_server(
    server: Communication, identities: Identities
) -> None:
    far = Client(server.port, SERVER, identities("server"))
    control = far.present("tunnel")
    near = Client(server.port, SERVER, identities("client"))
    got: list[bytes] = []

    def target() -> None:
        incoming = control.expect("INCOMING")
        assert incoming["from"] == "client"
        tls, rest = far.join(incoming, "target")
        got.append(rest or tls.receive())
        tls.send(b"and back")
        tls.say_goodbye()

    thread = Thread(target=target)
    thread.start()
    tls, rest = near.initiate("server", "tunnel", "server")
    tls.send(b"there")
    assert rest + tls.receive() == b"and back"
    thread.join(20)
    assert got == [b"there"]
    server.role.wait_for("session-open .*who=client target=server")


def test_a_client_of_its_own_asks_a_real_one(server: Communication, identities: Identities) -> None:
    far = server.client("server", "--publish", "tunnel", "--session-binding", "optional")
    near = Client(server.port, SERVER, identities("client"))
    talk = near.connect("ask")
    assert talk.expect("WELCOME")["generation"] == 0
    talk.say("LOOKUP", name="server", watch=True)
    (entry,) = talk.expect("PRESENCE")["entries"]
    assert entry == {"name": "server", "present": True, "resources": ["tunnel"]}
    tls, rest = near.initiate("server", "tunnel", "server")
    # What the channel protocol says first.
    assert rest or tls.receive()
    far.process.stop()
    assert talk.expect("PRESENCE")["entries"][0]["present"] is False


def test_a_real_client_asks_one_of_its_own(server: Communication, identities: Identities) -> None:
    far = Client(server.port, SERVER, identities("server"))
    control = far.present("tunnel")
    server.client(
        "client", "--target", "server", "--socks", "0", "--session-binding", "optional", wait=False
    )
    tls, rest = far.join(control.expect("INCOMING"), "target")
    assert rest or tls.receive()


def test_refusals_in_the_words_of_the_document(
    server: Communication, identities: Identities
) -> None:
    guest = Client(server.port, SERVER, identities("guest"))
    talk = guest.connect("session")
    talk.say("CONNECT", target="server", resource="tunnel")
    refused = talk.expect("ERROR")
    assert (refused["code"], refused["about"], refused["fatal"]) == ("not-allowed", 4, True)
    talk = guest.connect("session")
    talk.say("JOIN", session="f" * 32, token="f" * 64)
    assert talk.expect("ERROR")["code"] == "not-allowed"
    talk = guest.connect("present")
    talk.expect("WELCOME")
    talk.say("PUBLISH", resources=[{"name": "tunnel", "kind": "session"}])
    refused = talk.expect("ERROR")
    assert (refused["code"], refused["about"]) == ("not-allowed", 3)
    assert "fatal" not in refused
