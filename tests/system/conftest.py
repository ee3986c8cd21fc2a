"""The laboratory and what runs in it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.processes import Identities
from tests.system.crossings import BY_NAME, Crossing, Running
from tests.system.laboratory import Laboratory
from tests.system.services import DNS, EVERYTHING, HTTP, SSH, TRAFFIC, Services, start_services

FORWARDS = (HTTP, SSH, DNS, TRAFFIC)


def pytest_configure(config: pytest.Config) -> None:
    """Say what the marker means."""
    config.addinivalue_line("markers", "long: minutes each; `make system-test-long` runs them")


@pytest.fixture(scope="session")
def lab() -> Iterator[Laboratory]:
    """The laboratory with its proxies; the link is undisturbed unless the test changes it."""
    with Laboratory() as laboratory:
        laboratory.start_proxies()
        yield laboratory


@pytest.fixture(scope="session")
def services(lab: Laboratory) -> Services:
    """The services of company A."""
    return start_services(lab.processes(lab.company_a))


@pytest.fixture(scope="session")
def identities(lab: Laboratory) -> Identities:
    """``identities("name")`` is that end's identity file; one CA for the whole run."""
    return Identities.create(lab.directory / "keys", shared=True)


def _run(lab: Laboratory, identities: Identities) -> Iterator[Running]:
    running = Running(lab, identities)
    try:
        yield running
    finally:
        try:
            running.end()
        finally:
            lab.calm()
            print(running.logs())


@pytest.fixture
def running(lab: Laboratory, identities: Identities) -> Iterator[Running]:
    """Starts programs for one test; prints what they wrote if the test fails."""
    yield from _run(lab, identities)


@pytest.fixture(scope="module", params=BY_NAME)
def crossing(
    request: pytest.FixtureRequest, lab: Laboratory, identities: Identities, services: Services
) -> Iterator[Crossing]:
    """A tunnel of each kind in turn, to all services, for the tests of one module.

    Forwards: see `FORWARDS`, in this order.
    """
    for running in _run(lab, identities):
        yield BY_NAME[request.param](running, EVERYTHING, FORWARDS)


@pytest.fixture(scope="session")
def output() -> Path:
    """Where pictures and captures are kept for people to look at."""
    default = Path(__file__).parents[2] / "test-output"
    directory = Path(os.environ.get("SYSTEM_TEST_OUTPUT", default))
    directory.mkdir(parents=True, exist_ok=True)
    return directory
