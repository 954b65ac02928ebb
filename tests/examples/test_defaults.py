"""New versions of the shipped examples are judged, and validate says so by its silence."""

import json
from pathlib import Path

import pytest

from runtime.project.load import load_project
from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import Project

EXAMPLES = Path(__file__).parents[2] / "examples"
FLEETS = sorted(path.parent for path in EXAMPLES.rglob("fleet.yaml"))
UNJUDGED = {"FC1246", "FC1247", "FC1248"}
LEAST_ITEMS = 100


PINNED = [fleet for fleet in FLEETS if fleet.name not in ("canary", "smollm2")]
"""Fleets that need nothing from outside of their folders; the canary's play validates that one."""


def test_there_are_eight_fleets() -> None:
    assert (len(FLEETS), len(PINNED)) == (8, 6)


@pytest.mark.parametrize(
    ("fleet", "environment"),
    [
        pytest.param(fleet, environment, id=f"{fleet.name}-{environment}")
        for fleet in PINNED
        for environment in ("", "fake")
        if not environment or (fleet / f"env/{environment}.yaml").exists()
    ],
)
def test_no_version_of_an_example_takes_over_by_time_alone(fleet: Path, environment: str) -> None:
    project = Project(fleet, ("--env", environment) if environment else ())
    done = call(project, "validate", "--format", "json")
    assert done.returncode == 0, done.stdout
    assert [found for found in json.loads(done.stdout) if found["code"] in UNJUDGED] == []


@pytest.mark.parametrize("fleet", PINNED, ids=lambda fleet: fleet.name)
def test_an_example_has_a_golden_set_that_a_gate_asks(fleet: Path) -> None:
    made = load_project(fleet, None, {}).fleet
    asked = {
        adapter.golden
        for adapter in made.adapters.values()
        if any(made.gates[gate].offline for gate in made.rollouts[adapter.rollout].gates)
    } - {None}
    assert asked
    assert all(made.golden[path].items >= LEAST_ITEMS for path in asked if path)


def test_the_larger_model_has_the_gates_of_the_quickstart() -> None:
    ends = [
        (EXAMPLES / name / "fleet.yaml").read_text(encoding="utf-8").partition("\nrollouts:\n")[2]
        for name in ("quickstart", "smollm2")
    ]
    assert ends[0] == ends[1] != ""
