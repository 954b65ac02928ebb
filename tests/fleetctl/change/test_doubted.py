"""Plan and apply raise nobody by a clock that is behind or by evidence that was tampered with."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fleet.gates.decide import Finding, Verdict
from fleet.gates.live import judge_live
from fleet.gates.rows import Tally, Window
from fleet.history import event_of
from fleetctl.wiring import open_workspace
from runtime.ledger.file import FileLedger
from runtime.workspace import Workspace
from tests.fleet.planning.builders import NOON
from tests.fleet.rollouts.gate_trials import ERRORS
from tests.fleetctl.in_process import Done, call
from tests.fleetctl.project_on_disk import Project

OLD, NEW = "acme-support-tiny-v2.1.0", "acme-support-tiny-v2.2.0"
WINDOWS = {
    Verdict.PASS: Window(NOON, NOON, Tally(500), Tally(500)),
    Verdict.FAIL: Window(NOON, NOON, Tally(50, {"errors": 50}), Tally(50)),
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The quickstart fleet with a canary at 10 % that has baked and passed its only gate."""
    made = Project.copy(tmp_path_factory.mktemp("fleet") / "project", None)
    fleet, acme = made.root / "fleet.yaml", made.root / "clients/acme.yaml"
    text = fleet.read_text("utf-8")
    before = "careful: {weights: [10%, 50%, 100%], bake: 24h, retain: 7d, gates: []}"
    assert before in text
    pace = "careful: {weights: [10%, 50%, 100%], bake: 1s, max_bake: 1h, gates: [errors]}"
    gate = "\ngates:\n  errors: {metric: error_rate_rise, max: 2pp}\n"
    fleet.write_text(text.replace(before, pace) + gate, "utf-8")
    assert call(made, "gateway", "start").returncode == 0
    assert call(made, "apply", "--auto", "--yes").returncode == 0
    acme.write_text(acme.read_text("utf-8").replace('"2.1.0"', '"2.2.0"'), "utf-8")
    assert call(made, "apply", "--auto", "--yes").returncode == 0
    assert shares(made) == {NEW: 10, OLD: 90}
    judged(made, judge_live(ERRORS, [WINDOWS[Verdict.PASS]]))
    while "10 % -> 50 %" not in call(made, "plan", "--out", str(made.root / "up.json")).stdout:
        pass  # it bakes for a second
    yield made
    made.clean_up()


def workspace_of(project: Project) -> Workspace:
    return open_workspace(project.root, "fake", {}, project.root / ".fleetctl")


def shares(project: Project) -> dict[str, int]:
    document = json.loads(call(project, "status", "--client", "acme", "--format", "json").stdout)
    (support,) = (each for each in document["aliases"] if each["alias"] == "acme-support")
    return {each["adapter"]: each["percent"] for each in support["versions"]}


def judged(project: Project, found: Finding) -> None:
    written(project, "gate_judged", verdict(project, found))


def signed(project: Project, found: Finding) -> None:
    event = event_of("gate_judged", verdict(project, found))
    workspace_of(project).ledger.open().append([event])


def verdict(project: Project, found: Finding) -> dict[str, Any]:
    workspace = workspace_of(project)
    stage = workspace.ledger.history().stages["acme-support"]
    pinned = workspace.project.fleet().versions
    return {
        "alias": "acme-support", "adapter": NEW, "stable": OLD, "percent": 10, "gate": "errors",
        "finding": found.plain(), "since": stage.since.isoformat(), "runs": [],
        "digests": {"adapter": pinned[NEW].digest, "stable": pinned[OLD].digest},
    }  # fmt: skip


def written(project: Project, kind: str, record: dict[str, Any], ahead: float = 0) -> None:
    """Append what somebody wrote whose clock is `ahead`, in hours."""
    time = datetime.now(UTC) + timedelta(hours=ahead)
    ledger = FileLedger(project.root / ".fleetctl", run="r", by="mallory", clock=lambda: time)
    ledger.append([event_of(kind, record)])


def refused(project: Project) -> tuple[Done, str]:
    """Apply the plan that was made before, and plan anew; return both outcomes."""
    done = call(project, "apply", str(project.root / "up.json"), "--yes")
    assert done.returncode == 1
    again = call(project, "apply", "--auto", "--yes")
    assert (again.returncode, again.stderr.count("Held back: acme-support: 2.2.0 stays")) == (0, 1)
    assert shares(project) == {NEW: 10, OLD: 90}
    return done, " ".join(call(project, "plan").stdout.split())


def test_a_plan_that_was_made_before_a_verdict_was_forged_raises_nobody(project: Project) -> None:
    judged(project, replace(judge_live(ERRORS, [WINDOWS[Verdict.FAIL]]), verdict=Verdict.PASS))
    done, planned = refused(project)
    assert "Evidence was tampered with" in done.stderr
    assert "2.2.0 stays at 10 %: evidence #" in planned
    assert "its counts give FAIL, not PASS" in planned
    listed = json.loads(
        call(project, "rollout", "status", "acme-support", "--format", "json").stdout
    )
    assert (listed["phase"], listed["percent"]) == ("doubted", 10)
    said = call(project, "rollout", "approve", "acme-support").stderr
    assert "Not while it is doubted: acme-support: 2.2.0 stays at 10 %: evidence #" in said
    signed(project, judge_live(ERRORS, [WINDOWS[Verdict.PASS]]))  # as the approval is
    assert "10 % -> 50 %" in call(project, "plan").stdout


def test_a_pass_that_a_stranger_wrote_raises_nobody(project: Project) -> None:
    finding = judge_live(ERRORS, [WINDOWS[Verdict.PASS]])
    signed(project, finding)
    assert "10 % -> 50 %" in call(project, "plan").stdout
    judged(project, finding)  # as right, and without the key
    again = call(project, "apply", "--auto", "--yes")
    assert (again.returncode, shares(project)) == (0, {NEW: 10, OLD: 90})
    planned = " ".join(call(project, "plan").stdout.split())
    assert "is not believed (FC5130): it is not signed, and entries of its kind" in planned
    found = call(project, "evidence", "verify")
    assert (found.returncode, "gate_judged: it is not signed" in found.stdout) == (1, True)
    signed(project, finding)
    assert "10 % -> 50 %" in call(project, "plan").stdout


def test_a_mark_that_a_stranger_wrote_raises_nobody(project: Project) -> None:
    mark = {"alias": "acme-support", "adapter": NEW, "mark": "advance", "reason": "trust me"}
    written(project, "rollout_marked", mark)
    planned = " ".join(call(project, "plan").stdout.split())
    assert "2.2.0 stays at 10 %: the mark `advance` of entry" in planned
    assert "is not believed (FC5130): it is not signed" in planned
    assert call(project, "rollout", "advance", "acme-support", "--reason", "x").returncode == 0
    assert "10 % -> 50 %" in call(project, "plan").stdout


def test_by_a_clock_that_is_behind_nothing_rises_and_a_rollback_works(project: Project) -> None:
    written(project, "note", {"text": "of tomorrow"}, ahead=5)
    done, planned = refused(project)
    assert "The clock is behind the ledger" in done.stderr
    assert "2.2.0 stays at 10 %: the clock is behind the ledger (FC5108)" in planned
    back = call(project, "rollback", "acme-support")
    assert (back.returncode, shares(project)) == (0, {NEW: 0, OLD: 100}), back.stderr
    assert "Warning: The clock is behind the ledger" in back.stderr
    again = call(project, "reconcile", "--once")
    assert (again.returncode, "The clock is behind" in again.stderr) == (1, True)
    assert call(project, "release", "acme-support").returncode == 0  # who answers for the clock
    assert "FC5108" not in call(project, "plan").stdout
