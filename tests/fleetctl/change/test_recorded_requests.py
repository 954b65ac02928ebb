"""A plan that would have refused requests of the last week waits for a person."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import Project, applied
from tests.fleetctl.rollouts.test_rollout_commands import declare, shares


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The quickstart fleet, applied; two clients had 12 and 40 requests two days ago."""
    made = applied(tmp_path_factory.mktemp("fleet"))
    project = next(made)
    log(project.root / ".fleetctl/gateways/main", 12, "fjord-reviews", "1.0.0")
    log(project.root / ".fleetctl/gateways/main", 40, "acme-support", "2.1.0")
    assert call(project, "usage", "summary").returncode == 0
    yield project
    next(made, None)


def log(folder: Path, count: int, alias: str, version: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    usual = {
        "client": alias.partition("-")[0], "alias": alias, "version": f"{alias}-tiny-v{version}",
        "server": "tiny-laptop-cpu0", "status": 200, "latency_s": 0.1, "input_tokens": 4,
        "output_tokens": 6,
    }  # fmt: skip
    begin = datetime.now(UTC) - timedelta(days=2)
    with (folder / "usage.jsonl").open("a") as rows:
        for number in range(count):
            time = (begin + timedelta(milliseconds=number)).isoformat(timespec="milliseconds")
            rows.write(
                json.dumps({"time": time, **usual, "request_id": f"{alias}-{number}"}) + "\n"
            )


def test_a_client_with_requests_does_not_leave_by_a_slip(project: Project) -> None:
    """Before, the plan was yellow, and `apply --auto --yes` exited 0 without a number."""
    (project.root / "clients/fjord.yaml").unlink()
    shown = call(project, "plan")
    assert shown.returncode == 0, shown.stderr
    assert "needs a decision" in shown.stdout
    told = "fjord-reviews ends: 12 requests of the last 7 days would have been refused"
    assert told in shown.stdout
    plan = json.loads(call(project, "plan", "--format", "json").stdout)["plan_id"]
    refused = call(project, "apply", "--auto", "--yes")
    assert (refused.returncode, "FC5126" in refused.stderr) == (5, True)
    said = " ".join(refused.stderr.split())
    assert f"Plan {plan} needs the approval of 1 person, and has 0:" in said
    assert told in said
    assert call(project, "approve", plan, "--reason", "they left").returncode == 0
    assert call(project, "apply", "--auto", "--yes").returncode == 0


def test_stages_that_are_emptied_under_a_rollout_wait_for_a_person(project: Project) -> None:
    """Before, the plan was yellow, `apply --auto --yes` exited 0, and 36 of 40 requests moved."""
    declare(project, "2.1.0", "2.2.0")
    assert call(project, "apply", "--auto", "--yes").returncode == 0
    assert shares(project)["2.2.0"] == 10
    fleet = project.root / "fleet.yaml"
    text = fleet.read_text(encoding="utf-8")
    stages = "weights: [10%, 50%, 100%], bake: 24h"
    assert stages in text
    for bake in ("24h", "0s"):  # the stage is not over, and is over
        fleet.write_text(text.replace(stages, f"weights: [100%], bake: {bake}"), encoding="utf-8")
        shown = call(project, "plan")
        assert "needs a decision" in shown.stdout, shown.stdout
        told = "acme-support goes from 10 % to 100 % at once, as the stage of 50 % is declared no"
        assert told in shown.stdout
        assert "36 requests of the last 7 days would have met" in shown.stdout
        refused = call(project, "apply", "--auto", "--yes")
        assert (refused.returncode, "FC5126" in refused.stderr) == (5, True)
    moved = call(project, "reconcile", "--once")
    assert "acme-support stays at its stage until an apply" in moved.stderr
    assert shares(project)["2.2.0"] == 10
    plan = json.loads(call(project, "plan", "--format", "json").stdout)["plan_id"]
    assert call(project, "approve", plan, "--reason", "tested elsewhere").returncode == 0
    assert call(project, "apply", "--auto", "--yes").returncode == 0
    assert shares(project)["2.2.0"] == 100
