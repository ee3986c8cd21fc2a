"""What acceptance tests share: processes that are always ended, keys, a web server."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.acceptance.processes import Identities, Processes, Role, WebServer
from tests.acceptance.tunnels import STARTERS, Transport
from tests.acceptance.web_app import App


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    """Starts programs in a fresh directory; prints what they wrote if the test fails."""
    with Processes(tmp_path) as running:
        yield running


@pytest.fixture(scope="session")
def identities(tmp_path_factory: pytest.TempPathFactory) -> Identities:
    """``identities("name")`` is that end's identity file; one CA for the whole run."""
    return Identities.create(tmp_path_factory.mktemp("keys") / "keys", shared=True)


@pytest.fixture
def app(processes: Processes) -> App:
    """A web application inside, asked by nobody yet."""
    made = App()
    processes.on_end(made.close)
    return made


@pytest.fixture
def web(processes: Processes) -> WebServer:
    """A web server with nothing in it yet."""
    return WebServer.among(processes)


@pytest.fixture
def middle(processes: Processes) -> Role:
    """An LSTP middle."""
    return processes.role("lstp-middle", "--listen", "127.0.0.1:0")


@pytest.fixture(params=list(STARTERS))
def transport(
    request: pytest.FixtureRequest, processes: Processes, identities: Identities
) -> Transport:
    """Starts a tunnel, see `tests.acceptance.tunnels`; the test runs once over each transport."""
    start: Transport = partial(STARTERS[request.param], processes, identities)
    return start
