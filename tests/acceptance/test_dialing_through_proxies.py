"""The way out through real proxies: microsocks, dante and squid (N1, N2, L2, X13)."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.acceptance.processes import START_LIMIT, Identities, Processes, Role, free_port
from tests.acceptance.real_proxies import IN_URL, SECRET, Proxies
from tests.acceptance.tunnels import start_gate, start_portal, start_tunnel


class Echo:
    """Sends back what it gets, on 127.0.0.1; notes where connections come from."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.accepted = 0
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            with client:
                client.settimeout(START_LIMIT)
                while data := client.recv(4096):
                    client.sendall(data)

    def close(self) -> None:
        """Stop."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


@pytest.fixture
def echo() -> Iterator[Echo]:
    """A destination behind the proxies."""
    server = Echo()
    yield server
    server.close()


@pytest.fixture
def proxies(processes: Processes) -> Proxies:
    return Proxies(processes)


@pytest.fixture
def dial(processes: Processes) -> Callable[..., str]:
    """``dial(port, *via)`` runs a program that dials; its one line of output."""

    def run(port: int, *via: str, host: str = "127.0.0.1", **environment: str) -> str:
        command = (sys.executable, "-m", "tests.acceptance.dial_once", host, port, *via)
        here = {"PYTHONPATH": str(Path(__file__).parents[2]), **environment}
        process = processes.start("dial", *command, env=here)
        assert process.wait() == 0, process.log
        (line,) = process.lines
        assert SECRET not in line
        assert IN_URL not in line
        return line

    return run


Dial = Callable[..., str]


def test_socks_5_with_a_password(proxies: Proxies, dial: Dial, echo: Echo) -> None:
    port = proxies.microsocks("-u", "me", "-P", SECRET)
    line = dial(echo.port, f"socks5://me:{IN_URL}@127.0.0.1:{port}")
    assert line == f"GOT ping via socks5://127.0.0.1:{port}"


def test_socks_5_with_a_password_from_a_file(
    proxies: Proxies, dial: Dial, echo: Echo, tmp_path: Path
) -> None:
    port = proxies.microsocks("-u", "me", "-P", SECRET)
    file = tmp_path / "password"
    file.touch(0o600)
    file.write_text(f"{SECRET}\n")
    line = dial(echo.port, f"socks5://me@127.0.0.1:{port}", PASSWORD_FILE=str(file))
    assert line.startswith("GOT ping")


def test_a_wrong_socks_5_password_is_one_clear_line(
    proxies: Proxies, dial: Dial, echo: Echo
) -> None:
    port = proxies.microsocks("-u", "me", "-P", SECRET)
    assert dial(echo.port, f"socks5://me:wrong@127.0.0.1:{port}") == (
        f"FAILED ProxyAuthRequired proxy socks5://127.0.0.1:{port} refused to connect to"
        f" 127.0.0.1:{echo.port}: it does not accept the user name and password"
    )
    assert dial(echo.port, f"socks5://127.0.0.1:{port}") == (
        f"FAILED ProxyAuthRequired proxy socks5://127.0.0.1:{port} refused to connect to"
        f" 127.0.0.1:{echo.port}: it wants a user name and password"
    )
    assert echo.accepted == 0


def test_a_port_that_the_proxy_finds_closed_is_said_so(proxies: Proxies, dial: Dial) -> None:
    port, closed = proxies.microsocks(), free_port()
    assert dial(closed, f"socks5://127.0.0.1:{port}") == (
        f"FAILED ProxyRefused proxy socks5://127.0.0.1:{port} refused to connect to"
        f" 127.0.0.1:{closed}: connection refused"
    )


def test_a_proxy_that_is_not_there_is_said_so(dial: Dial, echo: Echo) -> None:
    port = free_port()
    assert dial(echo.port, f"socks5://127.0.0.1:{port}") == (
        f"FAILED DialError cannot connect to proxy socks5://127.0.0.1:{port}: connection refused"
    )


def test_names_are_resolved_by_the_proxy(proxies: Proxies, dial: Dial, echo: Echo) -> None:
    port = proxies.microsocks()
    line = dial(echo.port, f"socks5://127.0.0.1:{port}", host="localhost")
    assert line.startswith("GOT ping")


@pytest.mark.parametrize("scheme", ["socks4", "socks5"])
def test_dante_speaks_both_versions(proxies: Proxies, dial: Dial, echo: Echo, scheme: str) -> None:
    port = proxies.dante()
    line = dial(echo.port, f"{scheme}://127.0.0.1:{port}")
    assert line == f"GOT ping via {scheme}://127.0.0.1:{port}"


def test_a_ruleset_that_forbids_it_is_one_clear_line(
    proxies: Proxies, dial: Dial, echo: Echo
) -> None:
    port = proxies.dante(
        f"socks block {{ from: 0.0.0.0/0 to: 127.0.0.1/32 port = {echo.port} }}",
    )
    assert dial(echo.port, f"socks5://127.0.0.1:{port}") == (
        f"FAILED ProxyRefused proxy socks5://127.0.0.1:{port} refused to connect to"
        f" 127.0.0.1:{echo.port}: not allowed by ruleset"
    )
    assert dial(echo.port, f"socks4://127.0.0.1:{port}") == (
        f"FAILED ProxyRefused proxy socks4://127.0.0.1:{port} refused to connect to"
        f" 127.0.0.1:{echo.port}: request rejected or failed"
    )
    assert echo.accepted == 0


def test_http_connect_with_a_password(proxies: Proxies, dial: Dial, echo: Echo) -> None:
    port = proxies.squid(SECRET)
    line = dial(echo.port, f"http://me:{IN_URL}@127.0.0.1:{port}")
    assert line == f"GOT ping via http://127.0.0.1:{port}"


def test_a_wrong_http_password_is_one_clear_line(proxies: Proxies, dial: Dial, echo: Echo) -> None:
    port = proxies.squid(SECRET)
    assert dial(echo.port, f"http://me:wrong@127.0.0.1:{port}") == (
        f"FAILED ProxyAuthRequired proxy http://127.0.0.1:{port} refused to connect to"
        f" 127.0.0.1:{echo.port}: it does not accept the user name and password"
        " (HTTP/1.1 407 Proxy Authentication Required)"
    )
    assert dial(echo.port, f"http://127.0.0.1:{port}") == (
        f"FAILED ProxyAuthRequired proxy http://127.0.0.1:{port} refused to connect to"
        f" 127.0.0.1:{echo.port}: it wants a user name and password"
        " (HTTP/1.1 407 Proxy Authentication Required)"
    )
    assert echo.accepted == 0


def test_an_http_proxy_that_forbids_it_is_one_clear_line(
    proxies: Proxies, dial: Dial, echo: Echo
) -> None:
    port = proxies.squid(None, f"acl closed port {echo.port}", "http_access deny closed")
    assert dial(echo.port, f"http://127.0.0.1:{port}") == (
        f"FAILED ProxyRefused proxy http://127.0.0.1:{port} refused to connect to"
        f" 127.0.0.1:{echo.port}: HTTP/1.1 403 Forbidden"
    )


@pytest.fixture(scope="session")
def authority(identities: Identities) -> dict[str, str]:
    """The environment of a program that trusts the CA of the test."""
    file = identities.directory / "authority.pem"
    blocks = identities("localhost").read_text().split("-----BEGIN CERTIFICATE-----")
    # Key, certificate, CA.
    file.write_text("-----BEGIN CERTIFICATE-----" + blocks[2].partition("-----BEGIN")[0])
    return {"SSL_CERT_FILE": str(file)}


def test_a_proxy_is_reached_by_tls(
    proxies: Proxies, dial: Dial, echo: Echo, identities: Identities, authority: dict[str, str]
) -> None:
    port = proxies.squid(SECRET, identity=identities("localhost"))
    line = dial(echo.port, f"https://me:{IN_URL}@localhost:{port}", **authority)
    assert line == f"GOT ping via https://localhost:{port}"
    assert dial(echo.port, f"https://me:wrong@localhost:{port}", **authority).startswith(
        f"FAILED ProxyAuthRequired proxy https://localhost:{port} refused to connect to"
    )
    # Behind another one, and in front of one.
    first, third = proxies.microsocks(), proxies.microsocks()
    via = [
        f"socks5://127.0.0.1:{first}",
        f"https://me:{IN_URL}@localhost:{port}",
        f"socks5://127.0.0.1:{third}",
    ]
    assert dial(echo.port, *via, **authority).startswith("GOT ping")


def test_a_proxy_that_cannot_be_trusted_gets_no_password(
    proxies: Proxies, dial: Dial, echo: Echo, identities: Identities, authority: dict[str, str]
) -> None:
    port = proxies.squid(SECRET, identity=identities("localhost"))
    via = f"https://me:{IN_URL}@localhost:{port}"
    assert dial(echo.port, via) == (
        f"FAILED DialError proxy https://localhost:{port} cannot be used: the certificate of"
        " localhost is not of an authority that this machine trusts"
    )
    via = f"https://me:{IN_URL}@127.0.0.1:{port}"
    assert dial(echo.port, via, **authority) == (
        f"FAILED DialError proxy https://127.0.0.1:{port} cannot be used: the server's certificate"
        " is for another name"
    )
    assert echo.accepted == 0


def test_tls_in_the_wrong_place_is_recognized(
    proxies: Proxies, dial: Dial, echo: Echo, identities: Identities
) -> None:
    plain, tls = proxies.squid(None), proxies.squid(None, identity=identities("localhost"))
    assert dial(echo.port, f"https://127.0.0.1:{plain}") == (
        f"FAILED DialError proxy https://127.0.0.1:{plain} cannot be used: the server does not"
        " speak TLS"
    )
    line = dial(echo.port, f"http://127.0.0.1:{tls}")
    assert line.startswith(f"FAILED DialError proxy http://127.0.0.1:{tls} ")


def test_the_environment_names_the_proxy(proxies: Proxies, dial: Dial, echo: Echo) -> None:
    port = proxies.squid(SECRET, "acl closed dst 198.51.100.1", "http_access deny closed")
    environment = {"https_proxy": f"http://me:{IN_URL}@127.0.0.1:{port}"}
    environment |= dict.fromkeys(("all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"), "")
    assert dial(7000, "auto", host="198.51.100.1", **environment) == (
        f"FAILED ProxyRefused proxy http://127.0.0.1:{port} refused to connect to"
        " 198.51.100.1:7000: HTTP/1.1 403 Forbidden"
    )
    # Loopback is always reached directly.
    line = dial(echo.port, "auto", **environment)
    assert line == "GOT ping as set up on this machine ($https_proxy)"


def test_a_chain_goes_through_each_proxy_in_turn(proxies: Proxies, dial: Dial, echo: Echo) -> None:
    first = proxies.microsocks("-u", "me", "-P", SECRET)
    second = proxies.squid(None)
    third = proxies.dante()
    via = [
        f"socks5://me:{IN_URL}@127.0.0.1:{first}",
        f"http://127.0.0.1:{second}",
        f"socks4://127.0.0.1:{third}",
    ]
    assert dial(echo.port, *via) == (
        f"GOT ping via socks5://127.0.0.1:{first}, then http://127.0.0.1:{second},"
        f" then socks4://127.0.0.1:{third}"
    )


def test_a_chain_names_the_hop_that_failed(proxies: Proxies, dial: Dial, echo: Echo) -> None:
    first, missing = proxies.microsocks(), free_port()
    line = dial(echo.port, f"socks5://127.0.0.1:{first}", f"http://127.0.0.1:{missing}")
    assert line == (
        f"FAILED ProxyRefused proxy socks5://127.0.0.1:{first} refused to connect to"
        f" 127.0.0.1:{missing}: connection refused"
    )


def test_the_wrong_kind_of_proxy_is_recognized(proxies: Proxies, dial: Dial, echo: Echo) -> None:
    port = proxies.squid(None)
    assert dial(echo.port, f"socks5://127.0.0.1:{port}") == (
        f"FAILED DialTimeout proxy socks5://127.0.0.1:{port} does not answer as SOCKS 5:"
        " nothing came within 5 s"
    )
    other = proxies.microsocks()
    line = dial(echo.port, f"http://127.0.0.1:{other}")
    assert line.startswith(f"FAILED DialError proxy http://127.0.0.1:{other} ")


def test_a_keepalive_gets_past_a_proxy_that_cuts_what_is_idle(
    processes: Processes, proxies: Proxies, identities: Identities
) -> None:
    via = ("--via", f"http://127.0.0.1:{proxies.tinyproxy(timeout=3)}")

    def by_usher(*more: str) -> Role:
        """A portal; what its gate learns is of no use to the others."""
        gate = start_gate(processes, identities, ["tcp:127.0.0.1:9"])
        place = gate.address("listening on")
        return start_portal(processes, identities, place, "--socks", "0", *via, *more)

    def by_lstp() -> Role:
        """A client end; its server end, which reaches the middle directly, is cut with it."""
        allow = ["tcp:127.0.0.1:9"]
        return start_tunnel(processes, identities, allow, "--socks", "0", *via).client

    lively, silent = by_usher("--keepalive", "1"), (by_usher(), by_lstp())
    ended, up = r"Tunnel \w+ with server has ended", r"Tunnel \w+ with server is up"
    # When these have been cut, the other one, which began before, would have been too.
    for role in silent:
        role.wait_for(ended)
    assert "has ended" not in lively.process.log
    # Cut again, they have learned; and are up still when one that begins now has been cut.
    began = []
    for role in silent:
        learned = role.wait_for(r"cut after 3 s .*: something is sent every 1\.[45] s from now on")
        role.wait_for(up, since=role.process.lines.index(learned.string))
        began.append(len(role.process.lines))
    by_usher().wait_for(ended)
    for role, since in zip(silent, began, strict=True):
        assert "has ended" not in "\n".join(role.process.lines[since:])
