"""The container image is made from scratch, and runs a role that can be asked how it is (O11)."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.processes import Processes
from tests.packaging.bare import program_of

MAKE = Path(__file__).resolve().parents[2] / "examples" / "container" / "make-image"


def ran(*command: object) -> str:
    done = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    """``DIRECTORY:TAG`` of a layout."""
    directory = tmp_path_factory.mktemp("image") / "layout"
    said = ran(sys.executable, MAKE, directory, "test")
    assert said.startswith(f"oci:{directory}:test sha256:")
    return f"{directory}:test"


@pytest.fixture(scope="module")
def config(image: str) -> dict[str, Any]:
    """What an engine is told of the image."""
    found: dict[str, Any] = json.loads(ran("skopeo", "inspect", "--config", f"oci:{image}"))
    return found


@pytest.fixture(scope="module")
def container(
    image: str, config: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> list[str]:
    """A command that runs the image's program as its user, without any privilege."""
    place = tmp_path_factory.mktemp("container")
    ran("umoci", "unpack", "--rootless", "--image", image, place / "bundle")
    run = place / "run"
    run.mkdir()
    settings = config["config"]
    user, group = settings["User"].split(":")
    environment = [word for pair in settings["Env"] for word in ("--setenv", *pair.split("=", 1))]
    return [
        "bwrap", "--ro-bind", str(place / "bundle" / "rootfs"), "/",
        "--bind", str(run), "/run/tunnelkit", "--tmpfs", "/tmp", "--proc", "/proc", "--dev", "/dev",
        "--unshare-user", "--unshare-pid", "--unshare-ipc", "--uid", user, "--gid", group,
        "--cap-drop", "ALL", "--die-with-parent", "--clearenv", *environment,
        *settings["Entrypoint"],
    ]  # fmt: skip


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    with Processes(tmp_path) as running:
        yield running


def test_it_has_no_shell_and_a_user_without_rights(
    image: str, config: dict[str, Any], container: list[str]
) -> None:
    assert config["os"] == "linux"
    assert config["config"]["User"] == "65532:65532"
    assert config["config"]["StopSignal"] == "SIGTERM"
    root = Path(container[container.index("--ro-bind") + 1])
    programs = [path.name for path in root.rglob("bin/*") if path.is_file()]
    assert "tunnelkit" in programs
    assert all(name == "tunnelkit" or name.startswith("python3") for name in programs), programs


def test_a_role_in_it_runs_and_its_health_is_an_exit_status(
    container: list[str], processes: Processes
) -> None:
    control = ("--control", "/run/tunnelkit/control")
    end = processes.start(
        "container", *container, "middle", "--listen", "127.0.0.1:0", *control,
        "--status", "127.0.0.1:0", ready="READY lstp-middle",
    )  # fmt: skip
    # Nothing is looked for at each start, and nothing has to be written.
    assert not any("plugin cache" in line for line in end.lines)
    check = [*container, "status", "--check", *control]
    done = subprocess.run(check, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "lstp-middle" in done.stdout
    end.kill()
    done = subprocess.run(check, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert done.stderr.count("\n") == 1


def test_the_same_input_makes_the_same_image(tmp_path: Path) -> None:
    maker = program_of("examples", "container", "make-image")
    digests = []
    for number, names in enumerate((("a", "b"), ("b", "a"))):
        layer = maker.Layer()
        for name in names:
            layer.file(f"/etc/{name}", name.encode())
        layout = maker.Layout(tmp_path / str(number))
        digests.append(layout.image([layer], {"os": "linux"}, "test"))
    assert digests[0] == digests[1]
