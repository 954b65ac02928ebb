"""Makes a project with recorded terms and usage logs, without an engine, at any time."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from fleet.costing import Terms
from fleet.history import CostTermsChanged
from fleet.policies import MICRO
from fleetctl.output import print_message
from runtime.ledger import open_ledger
from runtime.operations.watch.costs import MonthBills
from runtime.usage.log import USAGE_FILE
from runtime.workspace import Workspace
from tests.fleet.costing.worlds import client, fleet, leases, resident, server
from tests.fleetctl.in_process import Done, call
from tests.fleetctl.project_on_disk import Project

BEGIN = datetime(2026, 9, 30, 22, tzinfo=UTC)
"""Midnight of October 1 in Paris."""
HOURS = 745
"""Of October 2026 in Paris: the clocks go back."""
NAMES = ("s", "t")


@dataclass
class At(Workspace):
    """A workspace at a time."""

    time: datetime = BEGIN

    def now(self) -> datetime:
        return self.time


def make_project(tmp_path: Path) -> Project:
    """Return a project with recorded terms from October on, and rows of October."""
    (tmp_path / "fleet.yaml").write_text("fleet: lab\ncosts: {timezone: Europe/Paris}\n", "utf-8")
    (tmp_path / "clients.yaml").write_text(
        "clients: {a: {monthly_fee: 2000}, b: {monthly_fee: 400}, secretive: {}}\n", "utf-8"
    )
    state = tmp_path / ".fleetctl"
    state.mkdir(0o700)
    terms = Terms(
        fleet(),
        {**leases(1_234_567, "h/0"), **leases(700_001, "h/1")},
        {"s": server(resident("a", 50), resident("secretive", 50), devices=("h/0",)),
         "t": server(resident("b", 10), devices=("h/1",))},
        {"a": client(2000 * MICRO), "b": client(400 * MICRO), "secretive": client()},
    )  # fmt: skip
    documents = terms.documents()
    documents["fleet"]["timezone"] = "Europe/Paris"
    open_ledger(state, "run", "me", lambda: BEGIN).append([CostTermsChanged(documents)])
    rows(state, "first", range(0, 40 * HOURS, 7))
    return Project(tmp_path, ())


def rows(state: Path, gateway: str, numbers: range) -> None:
    """Log a row every 90 seconds of October, for the numbers."""
    folder = state / "gateways" / gateway
    folder.mkdir(parents=True)
    lines = []
    for number in numbers:
        name = ("a", "b", "secretive")[number % 3]
        time = BEGIN + timedelta(seconds=90 * number)
        lines.append({
            "time": time.isoformat(timespec="milliseconds"), "request_id": f"{gateway}{number:028}",
            "client": name, "alias": f"{name}-x", "version": f"{name}-x-tiny-v1.0.0",
            "server": "t" if name == "b" else "s", "path": "/v1/chat/completions", "revision": 1,
            "status": 200, "latency_s": round(0.05 + number % 41 * 0.04, 2),
            "input_tokens": number % 400,
            "output_tokens": number % 211, "purpose": "live" if number % 5 else "eval",
        })  # fmt: skip
    text = "".join(f"{json.dumps(line, separators=(',', ':'))}\n" for line in lines)
    (folder / USAGE_FILE).write_text(text, encoding="utf-8")


def workspace_at(project: Project, hours: float) -> At:
    nothing: Any = None
    return At(
        project.root, None, {}, project.root / ".fleetctl", print_message, nothing, nothing,
        time=BEGIN + timedelta(hours=hours),
    )  # fmt: skip


def at(project: Project, hours: float) -> MonthBills:
    return MonthBills(workspace_at(project, hours))


def report(project: Project, *options: str) -> Done:
    done = call(project, "cost", "report", "--month", "2026-10", *options)
    assert done.returncode == 0, done.stderr
    return done
