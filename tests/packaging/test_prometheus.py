"""The Prometheus and Grafana files in examples/, with Debian's Prometheus (row O7)."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.services.test_metrics import FROZEN, OF_THE_PROCESS
from tunnelkit.net.role_status import declared

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "prometheus"
KNOWN = OF_THE_PROCESS.union(*FROZEN.values())
OF_HISTOGRAMS = {
    f"{one.name}{suffix}"
    for kind in FROZEN
    for one in declared(kind)
    if one.is_histogram
    for suffix in ("_bucket", "_sum", "_count")
}


def promtool(*words: object) -> tuple[int, str]:
    done = subprocess.run(
        ["promtool", *map(str, words)], capture_output=True, text=True, timeout=60, cwd=EXAMPLES
    )
    return done.returncode, done.stdout + done.stderr


def expressions(panels: list[dict[str, Any]]) -> Iterator[str]:
    """Of a dashboard, as Grafana would ask them."""
    for panel in panels:
        for target in panel["targets"]:
            yield (
                target["expr"]
                .replace("$__rate_interval", "1m")
                .replace("$role", ".*")
                .replace("$instance", ".*")
            )


def metrics_in(text: str) -> set[str]:
    return set(re.findall(r"tunnelkit_([a-z_]+)(?=[{\[ ,=)])", text))


def test_the_alerts_are_good_rules_and_fire_when_they_should() -> None:
    status, said = promtool("check", "rules", "rules.yml")
    assert status == 0, said
    status, said = promtool("test", "rules", "rules.test.yml")
    assert status == 0, said
    assert metrics_in((EXAMPLES / "rules.yml").read_text()) <= KNOWN | OF_HISTOGRAMS


def test_the_configuration_is_good(tmp_path: Path) -> None:
    text = (EXAMPLES / "prometheus.yml").read_text()
    (tmp_path / "token").write_text("token")
    files = re.findall(r"credentials_file: (\S+)", text)
    assert files
    for file in files:
        text = text.replace(file, str(tmp_path / "token"))
    (tmp_path / "prometheus.yml").write_text(text)
    (tmp_path / "rules.yml").write_bytes((EXAMPLES / "rules.yml").read_bytes())
    status, said = promtool("check", "config", tmp_path / "prometheus.yml")
    assert status == 0, said


def test_what_the_dashboard_asks_prometheus_understands_and_roles_measure(tmp_path: Path) -> None:
    dashboard = json.loads((EXAMPLES / "dashboard.json").read_text())
    asked = list(expressions(dashboard["panels"]))
    rules = [{"record": f"dashboard:{number}", "expr": one} for number, one in enumerate(asked)]
    # JSON is YAML.
    file = tmp_path / "dashboard.yml"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    status, said = promtool("check", "rules", file)
    assert status == 0, said
    used = metrics_in(" ".join(asked))
    assert used <= KNOWN | OF_HISTOGRAMS
    # Each number that a role measures can be seen, but for a few that are for alerts and details.
    unseen = {"connections_open", "open_seconds", "pairs_total", "revocation_list_usable"}
    assert KNOWN - used == unseen | {"timers_pending"}
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))
