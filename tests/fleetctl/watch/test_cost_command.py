"""Costs from declarations to plan, ledger and bill, on the fake engine."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import Project

PRICED = "price_per_hour: 1.5"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    made = Project.copy(tmp_path_factory.mktemp("costs") / "project", None)
    edit(made, "fleet.yaml", "price_per_hour: 0", PRICED)
    yield made
    made.clean_up()


def edit(project: Project, file: str, old: str, new: str) -> None:
    path = project.root / file
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def recorded(project: Project) -> list[dict[str, Any]]:
    lines = (project.root / ".fleetctl/ledger.jsonl").read_text(encoding="utf-8").splitlines()
    entries = [json.loads(line) for line in lines]
    return [entry["data"]["changed"] for entry in entries if entry["kind"] == "cost_terms"]


def test_a_plan_tells_what_clients_will_cost_and_an_apply_records_the_terms(
    project: Project, tmp_path: Path
) -> None:
    planned = call(project, "plan", "--out", str(tmp_path / "plan.json"))
    assert "Clients' cost a month in EUR, by declared demand:\n" in planned.stdout
    assert "globe: 0.00 -> " in planned.stdout
    observations = json.loads((tmp_path / "plan.json").read_text("utf-8"))["observations"]
    costs = {item["client"]: item["after"] for item in observations["client_costs"]}
    assert 1094.99 <= sum(costs.values()) <= 1095  # 730 hours of 1.50
    for form in ("md", "html"):
        assert (
            "cost a month in EUR, by declared demand"
            in call(project, "plan", "--format", form).stdout
        )
    assert call(project, "apply", "--auto", "--yes").returncode == 0
    (first,) = recorded(project)
    assert first["device/laptop/cpu0"] == {"price": 1_500_000, "always": True}
    assert first["client/globe"]["fee"] == 2_500_000_000
    assert call(project, "plan").stdout.startswith("No changes.")


def test_a_fee_that_no_longer_carries_the_cost_is_told_by_the_plan(project: Project) -> None:
    edit(project, "clients/globe.yaml", "monthly_fee: 2500", "monthly_fee: 200")
    shown = call(project, "plan").stdout
    assert "globe: " in shown
    assert "of the fee: rises above 40 %" in shown
    assert call(project, "apply", "--auto", "--yes").returncode == 0
    assert recorded(project)[1].keys() == {"client/globe"}
    edit(project, "fleet.yaml", PRICED, "price_per_hour: 0.01")
    assert "of the fee: falls below 40 %" in call(project, "plan").stdout
    assert call(project, "reconcile", "--once").returncode == 0
    assert recorded(project)[2].keys() == {"device/laptop/cpu0"}
