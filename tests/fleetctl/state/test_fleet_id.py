"""The id of a fleet: drawn by its first apply, borne by its servers, and told apart by."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.engines.recognition import FLEET, FLEET_ID
from runtime.processes import environment
from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import Project, applied
from tests.ports import free_port
from tests.removal import remove_tree


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    yield from applied(tmp_path / "ours")


def drawn(project: Project) -> list[str]:
    """The ids in the ledger."""
    lines = (project.root / ".fleetctl" / "ledger.jsonl").read_text("utf-8").splitlines()
    return [found for line in lines if (found := json.loads(line)["data"].get("fleet_id"))]


def borne(project: Project) -> str | None:
    """The id on the fleet's server."""
    (pid,) = project.server_processes()
    found = environment(pid)
    assert found[FLEET] == "quickstart"
    return found.get(FLEET_ID)


def test_the_first_apply_draws_an_id_and_later_ones_keep_it(project: Project) -> None:
    assert drawn(project) == [borne(project)]
    project.kill_servers()
    done = call(project, "apply", "--auto", "--yes")
    assert done.returncode == 0, done.stderr
    assert drawn(project) == [borne(project)]
    assert call(project, "plan", "--detailed-exitcode").returncode == 0


def test_a_fleet_whose_ledger_was_lost_takes_the_id_of_its_servers_and_restarts_none(
    project: Project,
) -> None:
    (fleet_id,), servers = drawn(project), project.server_processes()
    kept = project.root.parent / "keys"
    shutil.copytree(project.root / ".fleetctl" / "keys", kept)
    remove_tree(project.root / ".fleetctl")
    assert call(project, "adopt").returncode == 0
    shutil.copytree(kept, project.root / ".fleetctl" / "keys", dirs_exist_ok=True)
    assert drawn(project) == []
    done = call(project, "apply", "--auto", "--yes")
    assert done.returncode == 0, done.stderr
    assert (drawn(project), project.server_processes()) == ([fleet_id], servers)


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Project]:
    """Another fleet of the same name."""
    yield from applied(tmp_path / "theirs")


def test_a_server_of_another_fleet_of_the_same_name_is_named_and_left_alone(
    project: Project, other: Project
) -> None:
    files = [made.root / "fleet.yaml" for made in (project, other)]
    ours, theirs = (
        next(line for line in file.read_text("utf-8").splitlines() if "  port:" in line)
        for file in files
    )
    text = files[0].read_text("utf-8")
    files[0].write_text(text.replace(ours, theirs), "utf-8")
    before = other.server_processes()
    assert call(project, "server", "stop", "--all", "--timeout", "5").returncode == 0
    done = call(project, "apply", "--auto", "--yes")
    assert (done.returncode, "FC4103" in done.stderr) == (4, True)
    told = " ".join(done.stderr.split())
    assert f"serves fleet `quickstart` (id {borne(other)}) on port" in told
    assert f"of fleet `quickstart` (id {drawn(project)[0]}) would" in told
    assert other.server_processes() == before
    assert call(other, "plan").stdout.startswith("No changes.")
    files[0].write_text(text.replace(ours, f"    port: {free_port()}"), "utf-8")
