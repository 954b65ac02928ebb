"""A version that breaks the form of captured requests is stopped before a client meets it."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.usage.captured import FOLDER, read_captured
from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import Project
from tests.fleetctl.rollouts.test_rollout_commands import ask, declare, rollout, shares

REQUESTS = 24


def with_replays(root: Path, python: Path | None) -> Project:
    """Return the quickstart fleet whose client agreed to capture, with a gate of replays alone."""
    made = Project.copy(root, python)
    fleet, acme = made.root / "fleet.yaml", made.root / "clients/acme.yaml"
    text = fleet.read_text(encoding="utf-8")
    pace = "careful: {weights: [50%, 100%], bake: 1s, max_bake: 1h, gates: [replays]}"
    before = "careful: {weights: [10%, 50%, 100%], bake: 24h, retain: 7d, gates: []}"
    assert before in text
    gates = "\ngates: {replays: {metric: replay_drop, max: 8pp}}\n"
    fleet.write_text(text.replace(before, pace) + gates, encoding="utf-8")
    agreed = '    capture: {consent: "Ann of Acme, 2026-11-20"}\n    keys:'
    text = acme.read_text(encoding="utf-8")
    acme.write_text(text.replace("    keys:", agreed, 1), encoding="utf-8")
    assert call(made, "gateway", "start").returncode == 0
    return made


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """The fleet on the fake server."""
    made = with_replays(tmp_path / "project", None)
    yield made
    made.clean_up()


def captured(project: Project, number: int) -> None:
    """Wait until as many requests were captured, which is after their answers."""
    while len([*read_captured(project.root / ".fleetctl", "acme")]) < number:
        threading.Event().wait(0.05)


def declare_form(project: Project, regex: str) -> None:
    acme, line = project.root / "clients/acme.yaml", "        golden: golden/support"
    text = acme.read_text(encoding="utf-8")
    acme.write_text(
        text.replace(line, f'        format: {{regex: "{regex}"}}\n{line}'), encoding="utf-8"
    )


def test_a_version_that_breaks_what_clients_ask_never_gets_traffic(project: Project) -> None:
    assert call(project, "apply", "--auto", "--yes").returncode == 0
    said = [ask(project, f"question {at}", user=f"user-{at}") for at in range(REQUESTS)]
    state = project.root / ".fleetctl"
    captured(project, REQUESTS)
    declare_form(project, f"{said[0].split()[0]}.*")  # the old version's
    declare(project, "2.1.0", "2.2.0")
    done = call(project, "apply", "--auto", "--yes")
    assert done.returncode == 0, done.stderr
    judged = call(project, "reconcile", "--once")
    assert judged.returncode == 3, judged.stderr
    assert "FAIL replays of acme-support-tiny-v2.2.0 at 0 %" in judged.stderr
    assert shares(project) == {"2.2.0": 0, "2.1.0": 100}
    assert rollout(project)["percent"] == 0
    rows = json.loads(call(project, "usage", "show", "--format", "json", "--last", "99").stdout)
    assert {row["version"] for row in rows} == {"acme-support-tiny-v2.1.0"}
    kept = [path for path in state.rglob("*") if path.is_file() and FOLDER not in path.parts]
    answers = [text for text in said if text.strip()]
    assert not any(text.encode() in path.read_bytes() for path in kept for text in answers)
    verified = call(project, "evidence", "verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr
