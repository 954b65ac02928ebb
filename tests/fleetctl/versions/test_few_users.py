"""A new version of a client whose few users are recorded, by the commands on the fake server."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import Project

PACE = "weights: [10%, 50%, 100%], bake: 24h, retain: 7d, gates: [{}]"
GATES = "\ngates:\n  errors: {metric: error_rate_rise, max: 2pp}\n"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The quickstart fleet, applied, with a live gate; `acme-support` has a new version."""
    made = Project.copy(tmp_path_factory.mktemp("fleet") / "project", None)
    fleet, acme = made.root / "fleet.yaml", made.root / "clients/acme.yaml"
    text = fleet.read_text(encoding="utf-8")
    assert PACE.format("") in text
    fleet.write_text(text.replace(PACE.format(""), PACE.format("errors")) + GATES, "utf-8")
    assert call(made, "apply", "--auto", "--yes").returncode == 0
    declared = acme.read_text(encoding="utf-8")
    assert 'version: "2.1.0"' in declared
    acme.write_text(declared.replace('version: "2.1.0"', 'version: "2.2.0"'), "utf-8")
    yield made
    made.clean_up()


def record(root: Path, users: int) -> None:
    """Write recorded demand of `acme-support`, by so many users."""
    observed = {"rpm": [5.0] * 24, "prompt_tokens": 40, "output_tokens": 10, "users": users}
    document = {
        "format": 1,
        "since": "2026-03-02T00:00:00Z",
        "until": "2026-03-09T00:00:00Z",
        "adapters": {"acme-support": observed},
    }
    (root / "demand.json").write_text(json.dumps(document), encoding="utf-8")


@pytest.mark.parametrize("users", [2, 3, 4, 5, 6, 7, 9])
def test_a_new_version_for_a_few_recorded_users_is_planned(project: Project, users: int) -> None:
    """Each number ended `plan` in FC1311: shares of the users summed to more than 1 by rounding."""
    record(project.root, users)
    done = call(project, "plan")
    assert done.returncode == 0, done.stderr
    assert f"{users} users were recorded in 28 days" in done.stdout


def test_it_is_applied_and_reconciled_with_a_forecast(project: Project) -> None:
    """`apply` and `reconcile` ended as `plan` did, for all clients; later plans had no forecast."""
    record(project.root, 7)
    plan = project.root / "plan.json"
    planned = call(project, "plan", "--out", str(plan))
    assert "no forecast" not in planned.stdout
    assert "a healthy version gets PASS" in planned.stdout
    assert call(project, "apply", str(plan), "--yes").returncode == 0
    assert call(project, "reconcile", "--once").returncode == 0
    listed = call(project, "rollout", "list")  # forecasts the stages that are left
    assert listed.returncode == 0, listed.stderr
