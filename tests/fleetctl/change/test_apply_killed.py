"""An apply that is killed with SIGKILL half-way: the next one goes on, on the fake and on vLLM."""

import json
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import Project

Event = dict[str, Any]


def begins(verb: str, nth: int = 1) -> Callable[[Event], bool]:
    """Return what picks the moment when the nth step of a verb begins."""
    seen = 0

    def when(event: Event) -> bool:
        nonlocal seen
        if event["type"] == "step_begin" and str(event["step"]).startswith(f"{verb} "):
            seen += 1
        return seen == nth

    return when


@pytest.fixture(
    params=["fake", pytest.param("vllm", marks=[pytest.mark.live, pytest.mark.long])],
)
def project(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Project]:
    live = request.param == "vllm"
    python = request.getfixturevalue("vllm_python") if live else None
    made = Project.copy(tmp_path / "project", python)
    yield made
    made.clean_up()


def test_killed_while_starting_loading_and_routing_it_converges(project: Project) -> None:
    for moment in (begins("start"), begins("load", 3), begins("set", 1)):
        assert project.stop_during_apply(signal.SIGKILL, moment) == -signal.SIGKILL
    servers = project.server_processes()
    done = call(project, "apply", "--auto", "--yes")
    assert done.returncode == 0, done.stderr
    assert project.server_processes() == servers
    assert call(project, "plan", "--detailed-exitcode").returncode == 0
    assert call(project, "drift").returncode == 0
    shown = json.loads(call(project, "status", "--format", "json").stdout)
    assert len(shown["aliases"]) == 8
    assert {each["versions"][0]["percent"] for each in shown["aliases"]} == {100}
    assert [each["adapters"] for each in shown["servers"]] == [8]
    assert "converged" in call(project, "history").stdout.splitlines()[-1]


@pytest.mark.parametrize("project", ["fake"], indirect=True)
def test_killed_at_a_smoke_test_the_next_apply_asks_before_it_routes(project: Project) -> None:
    """Red before: the versions that were loaded got their traffic unasked."""
    assert project.stop_during_apply(signal.SIGKILL, begins("smoke")) == -signal.SIGKILL
    steps = json.loads(call(project, "plan", "--format", "json").stdout)["decisions"]["steps"]
    verbs = [step["id"].partition(" ")[0] for step in steps]
    assert (verbs.count("smoke"), verbs.count("load") < verbs.count("smoke")) == (8, True)
    routes = [step for step in steps if step["id"].startswith("set route/")]
    assert all(any(need.startswith("smoke ") for need in step["needs"]) for step in routes)
    shown = call(project, "apply", "--auto", "--yes")
    asked = {*re.findall(r"smoke-test adapter\S* \S+", shown.stderr)}  # a slow one is told twice
    assert (shown.returncode, len(asked)) == (0, 8), shown.stderr


@pytest.mark.parametrize("project", ["fake"], indirect=True)  # the demo plays it on vLLM
def test_a_killed_server_is_one_cause_and_reconcile_heals_it(project: Project) -> None:
    assert call(project, "apply", "--auto", "--yes").returncode == 0
    project.kill_servers()
    drift = call(project, "drift", "--format", "json")
    assert drift.returncode == 2
    (cause,) = json.loads(drift.stdout)["causes"]
    assert (cause["subject"], cause["remedy"]) == ("server/tiny-laptop-cpu0", "heal")
    assert len(cause["addresses"]) == 9
    assert call(project, "reconcile", "--once").returncode == 0
    assert call(project, "drift").returncode == 0
    again = call(project, "reconcile", "--once").stderr.splitlines()
    assert again[0] == "Nothing to heal, no rollout is due."
    assert again[1:] == [each for each in again if each.startswith("Note: gateway main is not")]
