"""The page at which a role is watched and steered, in a real browser (rows O6, U15, L14)."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.browser import Browser, Page
from tests.acceptance.communication import start_server
from tests.acceptance.processes import (
    START_LIMIT,
    TUNNELKIT,
    Identities,
    Processes,
    Role,
    WebServer,
    curl,
    free_port,
    tunnelkit,
)
from tests.acceptance.tunnels import (
    Transport,
    meeting,
    start_client_end,
    start_gate,
    start_server_end,
)
from tests.acceptance.wtls import start_domain, start_operator
from tunnelkit.policy.identity import identity_pem, load_identity

FIRST = "document.body && document.body.dataset.first"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One for all tests."""
    running = Browser(tmp_path_factory.mktemp("browser") / "home")
    try:
        yield running
    finally:
        running.close()


class Watched:
    """Options for a role's page, and the way to it."""

    def __init__(self, directory: Path, name: str) -> None:
        self._token_file = directory / f"{name}.token"
        self.control = directory / f"{name}.control"
        self.options = (
            *("--status", "127.0.0.1:0", "--status-token-file", str(self._token_file)),
            *("--control", str(self.control)),
        )

    def url(self) -> str:
        return tunnelkit("status", "--control", self.control, "--open").strip()


def shown(browser: Browser, url: str, width: int = 1280) -> Page:
    """The page, once it has its first number."""
    page = browser.page(width)
    page.open(url)
    page.wait_for(FIRST)
    return page


def number(page: Page, field: str) -> str:
    return str(page.run(f"document.getElementById('number-{field}').innerText"))


def test_a_client_end_is_watched_live(
    browser: Browser, processes: Processes, transport: Transport, web: WebServer, tmp_path: Path
) -> None:
    web.add("file", 3 << 20)
    watched = Watched(tmp_path, "client")
    tunnel = transport(
        [f"tcp:127.0.0.1:{web.port}"],
        *("--forward", f"0=tcp:127.0.0.1:{web.port}", *watched.options),
    )
    url = watched.url()
    page = shown(browser, url)
    # Where the token was in the address, it is no more; nothing of it is in the page.
    token = url.partition("#")[2]
    assert page.run("location.hash") == ""
    assert token not in page.run("document.documentElement.outerHTML")
    page.wait_for_text("Connected to server")
    assert number(page, "bytes_received") == "0 B"
    # As the browser counts from the first request on; what a busy machine takes is no fault.
    print(f"first number after {float(page.run(FIRST)):.0f} ms")
    assert curl(f"http://{tunnel.client.address('forward')}/file").size == 3 << 20
    page.wait_for("document.getElementById('number-bytes_received').innerText == '3 MiB'")
    page.wait_for("document.querySelector('#rate polyline') !== null")
    page.picture(tmp_path / "client.png")
    for width, dark in ((1280, True), (360, False)):
        page.look(width, 800, dark)
        page.wait_for(f"innerWidth == {width}")
        assert page.run("document.documentElement.scrollWidth") <= width
        page.picture(tmp_path / f"client-{width}.png")
    assert tunnel.server.process.stop() == 0
    page.wait_for_text("Why: ")
    page.wait_for(
        "/Last problem, may be over\\s+20\\d\\d-\\d\\d-\\d\\d \\d\\d:\\d\\d UTC: \\w/"
        ".test(document.getElementById('facts').innerText)"
    )
    assert page.complaints() == []


ANY_END = ("tunnel-end", "--rendezvous", "lstp", "--protocol", "lstp")


@pytest.mark.parametrize(
    ("role", "title"),
    [(("lstp-client-end",), "client · LSTP client end"), (ANY_END, "client · Tunnel end")],
    ids=["lstp-client-end", "tunnel-end"],
)
def test_an_end_is_connected_and_disconnected_by_keyboard_alone(
    browser: Browser,
    processes: Processes,
    identities: Identities,
    middle: Role,
    tmp_path: Path,
    role: tuple[str, ...],
    title: str,
) -> None:
    watched = Watched(tmp_path, "client")
    start_server_end(processes, identities, middle, ["tcp:127.0.0.1:9"])
    client = processes.role(
        *role, *meeting(middle), "--identity", identities("client"), "--peer", "server",
        "--socks", "0", "--manual", *watched.options,
    )  # fmt: skip
    page = shown(browser, watched.url())
    page.wait_for_text(title)
    page.wait_for_text("Disconnected by hand")
    page.tab_to("Connect")
    page.press("Enter")
    page.wait_for_text("Connected to server")
    page.tab_to("Disconnect")
    page.press("Enter")
    page.wait_for("document.getElementById('ask').open")
    page.press("Escape")
    page.wait_for("!document.getElementById('ask').open")
    page.wait_for_text("Connected to server")
    page.wait_for("document.activeElement.innerText.trim() === 'Disconnect'")
    page.press("Enter")
    page.wait_for("document.getElementById('ask').open")
    page.tab_to("Disconnect")
    page.press("Enter")
    page.wait_for_text("Disconnected by hand")
    assert page.complaints() == []
    assert client.process.stop() == 0
    page.wait_for_text("does not answer")


def test_a_page_without_its_token_asks_for_it(
    browser: Browser, processes: Processes, tmp_path: Path
) -> None:
    watched = Watched(tmp_path, "middle")
    processes.role("lstp-middle", "--listen", "127.0.0.1:0", *watched.options)
    place, _, token = watched.url().partition("#")
    page = browser.page()
    page.open(place)
    page.wait_for_text("This page needs its token")
    assert "lstp-middle" not in page.text()
    page.type("x" * 43)
    page.press("Enter")
    page.wait_for("document.getElementById('token-text').value == ''")
    page.wait_for("document.activeElement.id == 'token-text'")
    page.type(token)
    page.press("Enter")
    page.wait_for(FIRST)
    page.wait_for_text("LSTP middle")
    # A browser tells of each 401 by itself.
    assert all("401" in one for one in page.complaints())


def test_a_role_drains_and_ends_when_the_page_says_so(
    browser: Browser, processes: Processes, tmp_path: Path
) -> None:
    watched = Watched(tmp_path, "middle")
    middle = processes.role("lstp-middle", "--listen", "127.0.0.1:0", *watched.options)
    page = shown(browser, watched.url())
    page.tab_to("Read settings again")
    page.press("Enter")
    page.wait_for_text("Read again: nothing new.")
    page.tab_to("Drain and end")
    page.press("Enter")
    page.wait_for("document.getElementById('ask').open")
    page.tab_to("Drain and end")
    page.press("Enter")
    assert middle.process.wait() == 0
    page.wait_for_text("It has ended")


def test_a_channel_is_found_and_ended_and_a_peer_is_thrown_out(
    browser: Browser, processes: Processes, identities: Identities, middle: Role, tmp_path: Path
) -> None:
    watched = Watched(tmp_path, "server")
    with socket.create_server(("127.0.0.1", 0)) as service:
        port = service.getsockname()[1]
        server = start_server_end(
            processes, identities, middle, [f"tcp:127.0.0.1:{port}"], *watched.options
        )
        client = start_client_end(
            processes, identities, middle, "--forward", f"0=tcp:127.0.0.1:{port}"
        )
        host, number_of_port = client.address("forward").split(":")
        users = [socket.create_connection((host, int(number_of_port))) for _ in range(3)]
        served = [service.accept()[0] for _ in users]
        page = shown(browser, watched.url())
        rows = "document.querySelectorAll('#channels-table tbody tr button').length"
        page.wait_for(f"{rows} == 6")
        page.press("/")
        page.type("nobody")
        page.wait_for_text("0 of 3")
        page.run("document.getElementById('channels-filter').select()")
        page.type(f"127.0.0.1:{port}")
        page.wait_for_text("3 of 3")
        page.tab_to(f"End tcp:127.0.0.1:{port} of client")
        page.press("Enter")
        page.wait_for("document.getElementById('ask').open")
        page.tab_to("End it")
        page.press("Enter")
        page.wait_for(f"{rows} == 4")
        page.wait_for_text("Ended.")
        page.tab_to("Throw out client")
        page.press("Enter")
        page.wait_for("document.getElementById('ask').open")
        page.picture(tmp_path / "throw-out.png")
        page.run("document.getElementById('ask-for').value = '3600'")
        page.tab_to("Throw out")
        page.press("Enter")
        page.wait_for_text("client is out, and he stays out for 60 minutes.")
        page.wait_for_text("Nothing is open.")
        server.wait_for("Refused a tunnel|kept out by hand")
        for one in (*users, *served):
            one.settimeout(START_LIMIT)
            with contextlib.suppress(ConnectionResetError):
                assert one.recv(1) == b""
            one.close()
    assert page.complaints() == []
    assert server.process.stop() == 0


def test_a_forward_is_opened_used_and_closed_and_the_rules_are_asked(
    browser: Browser,
    processes: Processes,
    identities: Identities,
    middle: Role,
    web: WebServer,
    tmp_path: Path,
) -> None:
    web.add("file", 1000)
    far, near = Watched(tmp_path, "server"), Watched(tmp_path, "client")
    rule = f"tcp:127.0.0.1:{web.port}"
    start_server_end(processes, identities, middle, [rule], *far.options)
    kept = ("--forwards-file", tmp_path / "kept", "--socks", "0")
    client = start_client_end(processes, identities, middle, *kept, *near.options)
    port = free_port()
    page = shown(browser, near.url())
    page.tab_to("Port and where it leads")
    page.type(f"0.0.0.0:{port}=tcp:127.0.0.1:{web.port}")
    page.press("Enter")
    page.wait_for_text("that may not be opened from here")
    page.run("document.getElementById('forward-text').select()")
    page.type(f"{port}=tcp:127.0.0.1:{web.port}")
    page.press("Enter")
    page.wait_for_text(f"Open: forward 127.0.0.1:{port}")
    url = f"http://127.0.0.1:{port}/file"
    assert curl(url).size == 1000
    # It is there again after a restart.
    assert client.process.stop() == 0
    start_client_end(processes, identities, middle, *kept, *near.options)
    assert curl(url).size == 1000
    page = shown(browser, near.url())
    page.tab_to(f"Close forward {port}=tcp:127.0.0.1:{web.port}")
    page.press("Enter")
    page.wait_for_text("Closed; what came in by it goes on.")
    assert curl(url).size == 0
    page = shown(browser, far.url())
    page.tab_to("Peer")
    page.type("client")
    page.press("Tab")
    page.type(rule)
    page.press("Enter")
    page.wait_for_text(f"Allowed, by the rule {rule}")
    page.run("document.getElementById('explain-what').select()")
    page.type("tcp:169.254.169.254:80")
    page.press("Enter")
    page.wait_for_text("Not allowed: no rule allows client to connect")
    page.run("document.getElementById('explain-what').select()")
    page.type("nonsense")
    page.press("Enter")
    page.wait_for_text("That is no question")
    assert all("400" in one for one in page.complaints())


def test_every_role_shows_its_page(
    browser: Browser, processes: Processes, identities: Identities, tmp_path: Path
) -> None:
    places = {name: Watched(tmp_path, name) for name in ("gate", "server", "domain", "operator")}
    start_gate(processes, identities, ["tcp:127.0.0.1:9"], *places["gate"].options)
    start_server(processes, identities, *places["server"].options)
    start_domain(processes, "bank.example=http://127.0.0.1:9", options=places["domain"].options)
    start_operator(
        processes, identities, "--allow", "tcp:a.example:80", *places["operator"].options
    )
    for name, title, words in (
        ("gate", "server · Usher gate", "Nobody is connected"),
        ("server", "Secure Proxy server", "Running; others can come in"),
        ("domain", "WTLS domain proxy", "Devices"),
        ("operator", "WTLS operator's proxy", "Devices in tunnel mode"),
    ):
        page = shown(browser, places[name].url())
        page.wait_for_text(title)
        page.wait_for_text(words)
        page.wait_for_text("Drain and end")
        page.wait_for_text("Nothing is open.")
        page.picture(tmp_path / f"{name}.png")
        assert page.complaints() == []


def test_a_page_cannot_be_opened_where_there_is_none(processes: Processes, tmp_path: Path) -> None:
    control = tmp_path / "control"
    processes.role("lstp-middle", "--listen", "127.0.0.1:0", "--control", control)
    with pytest.raises(AssertionError, match="this role shows no page on a port"):
        tunnelkit("status", "--control", control, "--open")


def test_the_far_side_cannot_reach_the_page(
    processes: Processes, identities: Identities, middle: Role, tmp_path: Path
) -> None:
    watched = Watched(tmp_path, "server")
    server = start_server_end(
        processes, identities, middle, ["tcp:127.0.0.0/8:*"], *watched.options
    )
    found = server.wait_for(r"Status at http://(\S+)/")
    client = start_client_end(processes, identities, middle, "--socks", "0")
    refused = curl("--socks5", client.address("socks"), f"http://{found[1]}/healthz")
    assert refused.status == 97
    server.wait_for("a listener of this process")


def test_a_passphrase_is_brought_on_the_page_by_keyboard_alone(
    browser: Browser, processes: Processes, identities: Identities, tmp_path: Path
) -> None:
    own = tmp_path / "own.pem"
    identity = load_identity(identities("client"))
    own.touch(mode=0o600)
    own.write_bytes(identity_pem(identity, b"open sesame"))
    gate = start_gate(processes, identities, ["tcp:127.0.0.1:9"])
    watched = Watched(tmp_path, "portal")
    # In a session of its own there is no terminal that could be asked on.
    portal = processes.start(
        "portal", "setsid", "--wait", *TUNNELKIT, "portal", "--gate",
        gate.address("listening on"), "--identity", own, "--peer", "server", "--socks", "0",
        *watched.options, ready="LOCKED",
    )  # fmt: skip
    page = shown(browser, watched.url())
    page.wait_for_text("Locked")
    page.tab_to("Unlock")
    page.press("Enter")
    page.wait_for("document.getElementById('unlock').open")
    page.type("open barley")
    page.press("Enter")
    page.wait_for("document.getElementById('unlock-wrong').innerText.includes('is wrong')")
    page.picture(tmp_path / "unlock.png")
    page.type("open sesame")
    page.press("Enter")
    page.wait_for("!document.getElementById('unlock').open")
    page.wait_for_text("Connected to server")
    assert "sesame" not in page.run("document.documentElement.outerHTML")
    assert all("400" in one for one in page.complaints())
    assert "sesame" not in "\n".join(portal.lines)
