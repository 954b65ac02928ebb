"""Plans of a clone that has the live-state file and no state folder, as a pull request's."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import Project
from tests.fleetctl.rollouts.test_rollout_commands import declare, project, rollout

__all__ = ["project"]


def test_the_plan_of_a_pull_request_has_the_fleets_id_while_a_rollout_has_evidence(
    project: Project, tmp_path: Path
) -> None:
    """Gates read "judged with another engine", and the merge ended in FC3045."""
    declare(project, "2.1.0", "2.2.0")
    assert call(project, "apply", "--auto", "--yes").returncode == 0
    began = call(project, "reconcile", "--once")
    assert began.returncode == 0, began.stderr
    assert rollout(project)["percent"] == 50
    plan, seen = plans_of(project, tmp_path)
    assert seen["decisions"]["gates"] == plan["decisions"]["gates"]
    assert seen["plan_id"] == plan["plan_id"]


KEYS = {"added": ("prod", "two"), "replaced": ("two",)}


@pytest.mark.parametrize("is_made", [True, False])
@pytest.mark.parametrize("change", KEYS)
def test_a_pull_request_with_a_new_key_has_the_fleets_plan_id(
    change: str, tmp_path: Path, *, is_made: bool
) -> None:
    """A key that was made before the merge ended each such merge in FC3045."""
    fleet = Project.copy(tmp_path / "project", None)
    try:
        assert call(fleet, "apply", "--auto", "--yes").returncode == 0
        client = fleet.root / "clients/acme.yaml"
        prod = "      prod: file:.fleetctl/keys/acme-prod\n"
        keys = "".join(prod.replace("prod", name) for name in KEYS[change])
        client.write_text(client.read_text("utf-8").replace(prod, keys), encoding="utf-8")
        if is_made:
            assert call(fleet, "key", "create", "--all").returncode == 0
        plan, seen = plans_of(fleet, tmp_path)
        assert seen["plan_id"] == plan["plan_id"]
        if change == "added" and is_made:
            done = call(fleet, "apply", "--plan-id", seen["plan_id"], "--yes")
            assert done.returncode == 0, done.stderr
    finally:
        fleet.clean_up()


def plans_of(project: Project, folder: Path) -> tuple[Any, Any]:
    """Return the plan of the fleet, and that of a clone with its live-state file."""
    file = str(folder / "live.json")
    plan = json.loads(call(project, "plan", "--save-live", file, "--format", "json").stdout)
    clone = Project(folder / "clone", project.options)
    ignored = shutil.ignore_patterns(".fleetctl", "keys")
    shutil.copytree(project.root, clone.root, ignore=ignored)
    done = call(clone, "plan", "--offline", "--live", file, "--format", "json")
    return plan, json.loads(done.stdout)
