"""The busiest hour of a base two weeks ahead, from usage."""

import json
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from fleet.alerting import fleet_findings
from fleet.names import client_of
from fleet.resources import State
from fleetctl.wiring import open_workspace
from runtime.operations.watch.traffic_facts import base_forecasts
from runtime.usage.ingest import ingest
from runtime.usage.store import UsageStore
from tests.fleetctl.project_on_disk import Project


def write_weeks(project: Project, now: datetime, weeks: tuple[int, ...]) -> None:
    """Write requests of 400 tokens in an hour of each day: many on the last day of a week."""
    rows = []
    for number, requests in enumerate(weeks):
        for day in range(1, 8):
            start = now - timedelta(weeks=len(weeks) - number) + timedelta(days=day, hours=-3)
            for place in range(requests if day == 7 else 1):
                alias = "birch-units" if place % 4 == 1 else "acme-support"
                rows.append({
                    "time": start.isoformat(), "request_id": f"{number}-{day}-{place}",
                    "client": client_of(alias), "alias": alias, "version": f"{alias}-v1",
                    "status": 200, "latency_s": 1.0, "input_tokens": 10, "output_tokens": 400,
                })  # fmt: skip
    log = project.root / ".fleetctl/gateways/main/usage.jsonl"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.mark.long
def test_growth_is_told_two_weeks_ahead_with_hour_clients_and_purchase(
    tmp_path: Path,
) -> None:
    made = Project.copy(tmp_path / "project", None)
    state = made.root / ".fleetctl"
    workspace = open_workspace(made.root, "fake", {}, state)
    now = workspace.now().replace(minute=30)
    write_weeks(made, now, (12_000, 15_000, 18_000, 21_000))
    ingest(state, now)
    with UsageStore(state) as store:
        (found,) = base_forecasts(workspace, store, State(), now)
    assert found.base == "tiny"
    assert found.hour == (now - timedelta(hours=3)).hour
    assert found.weeks[0] / found.weeks[3] == pytest.approx(4 / 7, rel=0.01)
    assert found.clients == ("acme", "birch")
    (finding,) = fleet_findings((), (found,), (), (), now)
    assert finding.alert.value == pytest.approx(found.weeks[3] * 9 / 7, rel=0.01)
    assert finding.signal == "firing"
    assert "most of it by acme, birch; 1 more cpu" in finding.alert.detail
