"""A clone without the ledger recognises the fleet that runs, and changes nothing of it."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import Project, applied

SERVER = "tiny-laptop-cpu0"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    yield from applied(tmp_path_factory.mktemp("first"))


@pytest.fixture
def clone(project: Project, tmp_path: Path) -> Project:
    """A copy of the applied project without its state folder."""
    made = Project(tmp_path / "clone", project.options)
    shutil.copytree(project.root, made.root, ignore=shutil.ignore_patterns(".fleetctl"))
    return made


def test_a_plan_creates_nothing_and_says_what_is_unknown_and_why(
    project: Project, clone: Project
) -> None:
    plan = json.loads(call(clone, "plan", "--format", "json").stdout)["decisions"]
    assert (plan["changes"], plan["steps"], plan.get("settings", [])) == ([], [], [])
    text = call(clone, "plan").stdout
    state = project.root / ".fleetctl"
    assert f"server/{SERVER}: it runs as process {project.server_processes()[0]}, started " in text
    assert f"stages, blocks and evidence are unknown, and {state} has them" in text
    assert "`state: {postgresql: env:NAME}`" in text
    assert call(clone, "plan", "--detailed-exitcode").returncode == 0
    assert "digraph" in call(clone, "graph").stdout
    assert "start" not in call(clone, "graph").stdout


@pytest.mark.parametrize("command", ["apply --auto --yes", "reconcile --once"])
def test_commands_that_change_refuse_and_kill_nothing(
    project: Project, clone: Project, command: str
) -> None:
    before = project.server_processes()
    done = call(clone, *command.split())
    assert (done.returncode, "FC5180" in done.stderr) == (1, True)
    assert f"{project.root / '.fleetctl'} has the ledger" in done.stderr
    assert "kill" not in done.stderr
    assert project.server_processes() == before
    assert call(project, "plan").stdout.startswith("No changes.")


def test_drift_and_status_name_the_folder_and_adopt_takes_nothing(
    project: Project, clone: Project
) -> None:
    drift = json.loads(call(clone, "drift", "--format", "json").stdout)
    assert [cause["subject"] for cause in drift["causes"] if cause["remedy"] == "heal"] == []
    assert str(project.root / ".fleetctl") in json.dumps(drift)
    assert f"{SERVER}  unknown" in call(clone, "status").stdout
    assert call(clone, "adopt").stderr.endswith("0 resources adopted.\n")
    assert not list((clone.root / ".fleetctl").glob("servers/*"))


def test_with_the_same_ledger_no_server_and_no_route_of_the_other_folder_changes(
    project: Project, clone: Project
) -> None:
    state = clone.root / ".fleetctl"
    state.mkdir(mode=0o700)
    shutil.copy(project.root / ".fleetctl" / "ledger.jsonl", state)
    plan = json.loads(call(clone, "plan", "--format", "json").stdout)["decisions"]
    assert (plan["changes"], plan["steps"]) == ([], [])
    assert "the routing table is in the state folder" in call(clone, "plan").stdout
    done = call(clone, "reconcile", "--once")
    assert "heal" not in done.stdout.lower().replace("nothing to heal", "")
    assert len(project.server_processes()) == 1
