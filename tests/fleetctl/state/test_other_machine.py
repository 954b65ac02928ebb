"""A state folder that another machine filled: its servers are unknown, and left alone."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.engines.launch_records import LaunchRecords
from runtime.processes import machine_id
from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import Project, applied

SERVER = "tiny-laptop-cpu0"


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """The quickstart fleet, applied; its servers have ended."""
    for made in applied(tmp_path):
        made.kill_servers()
        yield made


def moved_to(project: Project, machine: str) -> Path:
    """Write into the record that a machine started the server; return the file."""
    records = LaunchRecords(project.root / ".fleetctl" / "servers")
    record = records.read(SERVER)
    assert record is not None
    assert record.machine in ("", machine_id())
    records.write(record.model_copy(update={"machine": machine}))
    return records.folder / SERVER / "launch.json"


def verbs(project: Project) -> set[str]:
    steps = json.loads(call(project, "plan", "--format", "json").stdout)["decisions"]["steps"]
    return {step["operation"]["verb"] for step in steps}


def test_servers_of_another_machine_are_neither_gone_nor_touched(project: Project) -> None:
    moved_to(project, "")
    assert "start" in verbs(project)  # written by a release that kept no machine
    file = moved_to(project, "0123456789ab")
    before = file.read_bytes()
    assert verbs(project) == set()
    says = "another machine started it, so run fleetctl there; if that machine is gone for good,"
    drift = call(project, "drift")
    assert drift.returncode == 2
    assert says in " ".join(drift.stdout.split())
    assert "elsewhere" in call(project, "server", "list").stdout
    stopped = call(project, "server", "stop", "--all")
    assert (stopped.returncode, "FC6082" in stopped.stderr) == (1, True)
    for command in (("reconcile", "--once"), ("apply", "--auto", "--yes")):
        call(project, *command)
        assert file.read_bytes() == before
    file.unlink()
    assert "start" in verbs(project)


def test_a_fleet_that_is_restored_on_another_machine_goes_on_there(
    project: Project, tmp_path: Path
) -> None:
    file = moved_to(project, "0123456789ab")
    backup = tmp_path / "backup.tar.gz"
    assert call(project, "state", "backup", str(backup)).returncode == 0
    file.unlink()
    restored = call(project, "state", "restore", str(backup))
    assert restored.returncode == 0, restored.stderr
    assert not file.exists()
    assert "start" in verbs(project)
