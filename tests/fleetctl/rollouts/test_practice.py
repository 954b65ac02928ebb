"""Rollbacks are practised as often as declared, one at a time, and one that fails stops nothing."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from fleet.history.events import Entry, event_of
from fleet.policies import ChangeWindow, RolloutPolicy
from fleet.resources import Route, State
from fleet.rules.due import RETRY, DrillDue, due_drills
from fleetctl.wiring import open_workspace
from plans.reports.status import render_text, status
from runtime.operations.rollouts.drills import drill_document, drill_next_due, drill_records
from runtime.workspace import Workspace
from tests.fleet.planning.builders import DAY, NOON, adapter, fleet, route, state
from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import Project
from tests.runtime.gateway.stage import NEW, OLD, Stage, stage

ALIAS = "acme-support"
MONTHLY = RolloutPolicy("standard", (10, 100), DAY, 7 * DAY, (), drill=30 * DAY)
CLOSED = (ChangeWindow(0, 7 * 1440 - 1, "all week"),)


def drilled(ago: timedelta, *, complete: bool = True, alias: str = ALIAS) -> Entry:
    data = {"alias": alias, "target": OLD, "complete": complete}
    return Entry(1, NOON - ago, event_of("drilled", data), "r", "me", 0, "", "")


@pytest.mark.parametrize(
    ("entries", "since", "turn", "begins"),
    [
        ([], None, DrillDue.DUE, True),  # nobody knows since when there is a way back
        ([], timedelta(days=1), DrillDue.DUE, True),
        ([], timedelta(days=4), DrillDue.OVERDUE, True),
        ([drilled(30 * DAY - timedelta(seconds=1))], 90 * DAY, DrillDue.FRESH, False),
        ([drilled(30 * DAY)], 90 * DAY, DrillDue.DUE, True),
        ([drilled(33 * DAY)], 90 * DAY, DrillDue.DUE, True),
        ([drilled(34 * DAY)], 90 * DAY, DrillDue.OVERDUE, True),
        ([drilled(DAY), drilled(RETRY, complete=False)], None, DrillDue.FAILED, True),
        ([drilled(RETRY / 2, complete=False)], None, DrillDue.FAILED, False),
        ([drilled(DAY, complete=False), drilled(RETRY)], None, DrillDue.FRESH, False),
        ([drilled(timedelta(), alias="birch-faq")], None, DrillDue.DUE, True),
    ],
)
def test_whose_turn_it_is(
    entries: list[Entry],
    since: timedelta | None,
    turn: DrillDue,
    begins: bool,  # noqa: FBT001
) -> None:
    declared = fleet(adapter(NEW), rollouts=[MONTHLY])
    known = {} if since is None else {ALIAS: NOON - since}
    (found,) = due_drills(declared, entries, known, {}, NOON)
    assert (found.urgency, found.may_begin(NOON)) == (turn, begins)
    (waits,) = due_drills(declared, entries, known, {ALIAS: "its rollout is under way"}, NOON)
    assert (waits.urgency, waits.may_begin(NOON)) == (turn, False)
    undeclared = fleet(adapter(NEW), rollouts=[replace(MONTHLY, drill=None)])
    assert due_drills(undeclared, entries, known, {}, NOON) == ()


def seen(new: int) -> tuple[Route, State]:
    made = route(ALIAS, (NEW, new, "s1"), (OLD, 100 - new, "s1"))
    return made, state(made)


@asynccontextmanager
async def on_stage(
    root: Path, new: int = 100, rollout: RolloutPolicy = MONTHLY
) -> AsyncIterator[tuple[Stage, Workspace]]:
    declared = fleet(adapter(NEW), known=(OLD, NEW), rollouts=[rollout])
    workspace = open_workspace(root, None, {}, root / ".fleetctl", given=declared)
    async with stage(workspace.state_dir, new=new) as ours:
        yield ours, workspace


def told(workspace: Workspace) -> list[dict[str, Any]]:
    return [
        dict(each.document())
        for each in workspace.ledger.open().read()
        if each.event.kind == "drilled"
    ]


def test_one_that_is_due_is_carried_out_once_and_moves_nobody(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def scenario() -> None:
        async with on_stage(tmp_path) as (ours, workspace):
            before, _ = await ours.gateways.read_table()
            for _ in range(3):
                await drill_next_due(workspace, seen(100)[1])
            after, _ = await ours.gateways.read_table()
            assert after == before.model_copy(update={"revision": 2})
            (one,) = told(workspace)
            assert (one["target"], one["complete"]) == (OLD, True)

    asyncio.run(scenario())
    assert "Drilled, as often as declared: acme-support could go back to 2.1.0" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("new", "rollout", "waits"),
    [
        (10, MONTHLY, "its rollout is under way"),
        (100, replace(MONTHLY, no_promote=CLOSED), "nothing is changed until"),
        (0, MONTHLY, "its rollout is under way"),  # it is declared and gets traffic next
    ],
)
def test_what_prevents_one_is_said_and_nothing_is_done(
    tmp_path: Path, new: int, rollout: RolloutPolicy, waits: str
) -> None:
    async def scenario() -> None:
        async with on_stage(tmp_path, new, rollout) as (ours, workspace):
            live = seen(new)[1]
            await drill_next_due(workspace, live)
            assert told(workspace) == []
            assert (await ours.gateways.read_table())[0].revision == 1
            (found,) = await drill_records(workspace, live, ())
            assert found.waits.startswith(waits)
            document = status("f", live, workspace.ledger.history(), (), None)
            shown = render_text({**document, "drills": [drill_document(found)]})
            assert "Drill acme-support: due, every 30d, never succeeded yet; waits: " in shown

    asyncio.run(scenario())


def test_without_a_version_to_go_back_to_nothing_is_drilled(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with on_stage(tmp_path) as (ours, workspace):
            table, _ = await ours.gateways.read_table()
            entry = table.aliases[ALIAS]
            alone = {ALIAS: entry.model_copy(update={"shares": entry.shares[:1]})}
            await ours.gateways.publish(
                table.model_copy(update={"revision": 2, "aliases": {**table.aliases, **alone}})
            )
            live = state(route(ALIAS, (NEW, 100, "s1")))
            await drill_next_due(workspace, live)
            assert told(workspace) == []
            (found,) = await drill_records(workspace, live, ())
            assert found.waits == "no earlier version is resident"

    asyncio.run(scenario())


@pytest.mark.parametrize("way", ["lost by its server", "does not answer"])
def test_one_that_fails_is_an_alert_and_is_tried_again_an_hour_later(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], way: str
) -> None:
    async def scenario() -> None:
        async with on_stage(tmp_path) as (ours, workspace):
            memory = ours.replicas["s1"].memory
            if way == "lost by its server":
                del memory.listed[OLD]
            else:
                memory.faults.down = True
            for _ in range(2):
                await drill_next_due(workspace, seen(100)[1])
            (one,) = told(workspace)
            assert one["complete"] is False
            (found,) = await drill_records(workspace, seen(100)[1], workspace.ledger.open().read())
            assert found.urgency is DrillDue.FAILED

    asyncio.run(scenario())
    said = capsys.readouterr().err
    assert said.count("Warning: a rollback of acme-support would not succeed now") == 1
    assert "fleetctl rollback acme-support --drill" in said


def test_a_round_practises_what_is_declared_and_status_says_whose_turn_it_is(
    tmp_path: Path,
) -> None:
    project = Project.copy(tmp_path / "project", None)
    fleet_file, acme = project.root / "fleet.yaml", project.root / "clients/acme.yaml"
    text = fleet_file.read_text("utf-8")
    before = "careful: {weights: [10%, 50%, 100%], bake: 24h, retain: 7d, gates: []}"
    assert before in text
    pace = "careful: {weights: [100%], bake: 1s, retain: 7d, drill: 30d}"
    fleet_file.write_text(text.replace(before, pace), "utf-8")
    try:
        assert call(project, "apply", "--auto", "--yes").returncode == 0
        acme.write_text(acme.read_text("utf-8").replace('"2.1.0"', '"2.2.0"'), "utf-8")
        assert call(project, "apply", "--auto", "--yes").returncode == 0
        listed = {each["alias"]: each for each in drills_of(project)}
        assert (listed[ALIAS]["turn"], listed[ALIAS]["waits"]) == ("due", "")
        assert "Drill acme-support: due since" in call(project, "status").stdout
        done = call(project, "reconcile", "--once")
        assert done.returncode == 0, done.stderr
        assert "could go back to 2.1.0" in done.stderr
        assert {each["alias"]: each["turn"] for each in drills_of(project)}[ALIAS] == "fresh"
        assert "Drill acme-support" not in call(project, "status").stdout
        again = call(project, "reconcile", "--once")
        assert "Drilled" not in again.stderr
    finally:
        project.clean_up()


def drills_of(project: Project) -> list[dict[str, Any]]:
    document = json.loads(call(project, "status", "--format", "json").stdout)
    found: list[dict[str, Any]] = document["drills"]
    return found
