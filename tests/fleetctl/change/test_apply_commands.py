"""apply, drift, reconcile, adopt, status, history and release, on the fake server."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import Project, applied


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The quickstart fleet, applied; tests leave it applied."""
    yield from applied(tmp_path_factory.mktemp("fleet"))


def declare(project: Project, old: str, new: str) -> None:
    path = project.root / "clients" / "acme.yaml"
    text = path.read_text(encoding="utf-8")
    assert f'version: "{old}"' in text
    path.write_text(text.replace(f'version: "{old}"', f'version: "{new}"'), encoding="utf-8")


@pytest.mark.parametrize(
    "arguments", [(), ("--auto",), ("plan.json", "--auto", "--yes"), ("--auto", "--format", "json")]
)
def test_without_a_plan_or_anybody_to_ask_nothing_is_done(
    project: Project, arguments: tuple[str, ...]
) -> None:
    done = call(project, "apply", *arguments)
    assert done.returncode == 64
    assert "Traceback" not in done.stderr


def test_a_converged_fleet_has_nothing_to_apply_and_no_drift(project: Project) -> None:
    done = call(project, "apply", "--auto", "--yes")
    assert (done.returncode, done.stdout) == (0, "")
    assert "Nothing to do. The fleet is as planned." in done.stderr
    drift = call(project, "drift")
    assert drift.returncode == 0
    assert drift.stdout.endswith("No drift: the fleet is as the last apply left it.\n")


def test_machines_read_events_and_nothing_else_on_stdout(project: Project) -> None:
    done = call(project, "apply", "--auto", "--yes", "--format", "json")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [each["seq"] for each in events] == list(range(1, len(events) + 1))
    assert events[-1]["type"] == "run_complete"
    assert (events[-1]["exit_code"], events[-1]["result"]) == (0, "converged")
    assert {each["v"] for each in events} == {1}
    assert len({(each["run"], each["plan_id"]) for each in events}) == 1


def test_a_canary_its_rollback_its_hold_and_its_release(project: Project, tmp_path: Path) -> None:
    file = str(tmp_path / "plan.json")
    declare(project, "2.1.0", "2.2.0")
    assert call(project, "plan", "--out", file).returncode == 0
    done = call(project, "apply", file, "--yes")
    assert done.returncode == 0, done.stderr
    status = call(project, "status", "--client", "acme").stdout
    assert "2.2.0 10 %, 2.1.0 90 %" in status
    assert "birch" not in status
    again = call(project, "apply", file, "--yes")
    assert again.returncode == 0
    assert "was there already" in again.stderr
    assert call(project, "rollback", "acme-support", "--reason", "wrong refunds").returncode == 0
    assert call(project, "drift").returncode == 0
    held = json.loads(call(project, "status", "--client", "acme", "--format", "json").stdout)
    (hold,) = held["aliases"][0]["held"]
    assert (hold["adapter"], hold["reason"]) == ("acme-support-tiny-v2.2.0", "wrong refunds")
    assert call(project, "plan", "--detailed-exitcode").returncode == 0
    stale = call(project, "apply", file, "--yes")
    assert stale.returncode == 5
    assert "route/acme-support" in stale.stderr
    assert call(project, "release", "acme-support", "--version", "9.9.9").returncode == 1
    released = call(
        project, "release", "acme-support", "--reason", "labels fixed", "--format", "json"
    )
    assert json.loads(released.stdout)["released"] == ["acme-support-tiny-v2.2.0"]
    assert call(project, "apply", "--auto", "--yes").returncode == 0
    assert "2.2.0 10 %" in call(project, "status").stdout
    told = call(project, "history", "acme-support").stdout
    assert "rolled acme-support back to acme-support-tiny-v2.1.0" in told
    assert "released all versions of acme-support: labels fixed" in told
    nothing = call(project, "release", "acme-support", "--format", "json")
    assert "nothing is held" in nothing.stderr
    assert json.loads(nothing.stdout)["released"] == []


def test_an_unknown_alias_or_client_is_refused_with_the_nearest_name(project: Project) -> None:
    done = call(project, "release", "acme-suport")
    assert done.returncode == 1
    assert "acme-support" in done.stderr
    done = call(project, "status", "--client", "acmee")
    assert done.returncode == 1
    assert "acme" in done.stderr


def test_a_lost_ledger_is_rebuilt_from_what_is_live(project: Project) -> None:
    ledger = project.root / ".fleetctl" / "ledger.jsonl"
    before = json.loads(call(project, "status", "--format", "json").stdout)
    assert call(project, "history").returncode == 0
    lost = ledger.rename(ledger.with_suffix(".lost")).read_bytes()
    for command in ("drift", "plan", "history"):
        gone = call(project, command)
        assert gone.returncode == (2 if command == "drift" else 1)
        assert "Its home is empty" in gone.stdout + gone.stderr
    dry = call(project, "adopt", "--dry-run")
    assert "server/tiny-laptop-cpu0" in dry.stdout.splitlines()
    shown = call(project, "adopt", "--dry-run", "--format", "json")
    assert json.loads(shown.stdout)["adopted"] == dry.stdout.splitlines()
    assert not ledger.exists()
    done = call(project, "adopt")
    assert done.stdout == dry.stdout
    assert "ledger-as-last-read.1.jsonl" in done.stderr
    assert (project.root / ".fleetctl/ledger-as-last-read.1.jsonl").read_bytes() == lost
    assert call(project, "drift").returncode == 0
    after = json.loads(call(project, "status", "--format", "json").stdout)
    assert [each["versions"] for each in after["aliases"]] == [
        each["versions"] for each in before["aliases"]
    ]
    assert call(project, "adopt").stderr == "0 resources adopted.\n"
    assert call(project, "apply", "--auto", "--yes").returncode == 0


def test_a_forged_ledger_stops_every_command_that_reads_it(project: Project) -> None:
    ledger = project.root / ".fleetctl" / "ledger.jsonl"
    content = ledger.read_bytes()
    ledger.write_bytes(content.replace(b'"kind":"adopted"', b'"kind":"planned"', 1))
    try:
        for command in (("history",), ("drift",), ("apply", "--auto", "--yes")):
            done = call(project, *command)
            assert done.returncode == (2 if command == ("drift",) else 1)
            assert "Line 1 of" in done.stdout + done.stderr
            assert "Traceback" not in done.stderr
    finally:
        ledger.write_bytes(content)


def test_an_interrupted_apply_finishes_its_step_and_says_so(project: Project) -> None:
    project.kill_servers()
    code = project.stop_during_apply(
        signal.SIGINT,
        lambda event: event["type"] == "step_begin" and event["step"].startswith("start "),
    )
    assert code == 130
    assert "interrupted" in call(project, "history", "--limit", "1").stdout
    assert call(project, "reconcile", "--once").returncode == 0
    assert call(project, "drift").returncode == 0


def test_a_plan_of_another_fleet_is_refused(project: Project, tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    assert call(project, "plan", "--out", str(file)).returncode == 0
    text = (project.root / "fleet.yaml").read_text(encoding="utf-8")
    renamed = text.replace("fleet: quickstart", "fleet: another", 1)
    (project.root / "fleet.yaml").write_text(renamed, encoding="utf-8")
    try:
        done = call(project, "apply", str(file), "--yes")
        assert done.returncode == 1
        assert "The plan is for another fleet" in done.stderr
    finally:
        (project.root / "fleet.yaml").write_text(text, encoding="utf-8")


def test_reconcile_wants_one_of_its_two_ways(project: Project) -> None:
    assert call(project, "reconcile").returncode == 64
    assert call(project, "reconcile", "--once", "--interval", "30s").returncode == 64
    assert call(project, "reconcile", "--interval", "soon").returncode == 64
