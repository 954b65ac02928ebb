"""Drills: a rollback is proved without a client noticing."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fleet.errors import FleetError, problem
from fleet.history import event_of
from fleet.rules.due import last_drills
from runtime.ledger import open_ledger
from runtime.ledger.outbox import LedgerOutbox
from runtime.ledger.protocol import Ledger
from runtime.rollback.drill import DrillResult, drill, undo, unfinished
from runtime.rollback.publish import flipped
from runtime.rollback.rollback import RollbackRequest, rollback
from tests.runtime.gateway.stage import NEW, OLD, OTHERS, Stage, chat, stage

NOON = datetime(2031, 5, 1, 12, tzinfo=UTC)


def ledger(state: Path) -> Ledger:
    return open_ledger(state, run="r", by="tester", clock=lambda: NOON)


def scribe(state: Path) -> LedgerOutbox:
    return LedgerOutbox(lambda: ledger(state), limit_s=60)  # a busy disk takes its time


async def drilled(ours: Stage, *, live: bool = False, **more: Any) -> DrillResult:
    given = {"outbox": scribe(ours.state)} | more
    return await drill("acme-support", None, ours.gateways, live=live, **given)


def kinds(state: Path) -> list[str]:
    return [each.event.kind for each in ledger(state).read()]


@pytest.mark.parametrize("new", [10, 100])
def test_a_dry_drill_moves_nobody_and_proves_the_way_back(tmp_path: Path, new: int) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl", new=new) as ours:
            before, _ = await ours.gateways.read_table()
            result = await drilled(ours)
            assert (result.complete, result.target, result.live) == (True, OLD, False)
            assert (result.acknowledged, result.back_s) == (("main",), None)
            assert result.smoke.telling == 1
            after, _ = await ours.gateways.read_table()
            assert after == before.model_copy(update={"revision": 2})
            (entry,) = ledger(ours.state).read()
            assert entry.document()["complete"] is True
            assert last_drills([entry]) == {"acme-support": NOON}

    asyncio.run(scenario())


def test_a_live_drill_goes_there_and_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl", new=100) as ours:
            before, _ = await ours.gateways.read_table()
            result = await drilled(ours, live=True)
            assert (result.complete, result.target) == (True, OLD)
            assert result.back_s is not None
            after, _ = await ours.gateways.read_table()
            assert after == before.model_copy(update={"revision": 3})
            assert (await ours.send(chat())).version == NEW
            assert kinds(ours.state) == ["drill_started", "drilled"]
            assert list(unfinished(ledger(ours.state).read())) == []

    asyncio.run(scenario())


def test_a_live_drill_in_the_middle_of_a_rollout_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl", new=10) as ours:
            with pytest.raises(FleetError, match="disturb a rollout"):
                await drilled(ours, live=True)
            assert (await ours.gateways.read_table())[0].revision == 1
            assert kinds(ours.state) == []

    asyncio.run(scenario())


@pytest.mark.parametrize("live", [False, True])
def test_a_version_that_is_not_resident_after_all_fails_the_drill(
    tmp_path: Path, *, live: bool
) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl", new=100) as ours:
            del ours.replicas["s1"].memory.listed[OLD]
            result = await drilled(ours, live=live)
            assert (result.complete, result.smoke.passed) == (False, 0)
            assert "smoke test FAILED 1/1" in result.sentence
            now, _ = await ours.gateways.read_table()
            assert [each.percent for each in now.aliases["acme-support"].shares] == [100, 0]
            assert last_drills(ledger(ours.state).read()) == {}

    asyncio.run(scenario())


def test_a_killed_live_drill_is_put_right_and_never_undoes_what_came_after(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl", new=100) as ours:
            before, _ = await ours.gateways.read_table()
            entry = before.aliases["acme-support"]
            begun = {
                "alias": "acme-support",
                "target": OLD,
                "shares": [each.model_dump(mode="json") for each in entry.shares],
            }
            ledger(ours.state).append([event_of("drill_started", begun)])
            await ours.gateways.publish(flipped(before, "acme-support", entry.shares[1]))
            (left,) = unfinished(ledger(ours.state).read())
            await undo(left, ours.gateways, lambda: ledger(ours.state))
            now, _ = await ours.gateways.read_table()
            assert now.aliases == before.aliases
            assert list(unfinished(ledger(ours.state).read())) == []
            ledger(ours.state).append([event_of("drill_started", begun)])
            await rollback(RollbackRequest("acme-support"), ours.gateways, scribe(ours.state))
            assert list(unfinished(ledger(ours.state).read())) == []

    asyncio.run(scenario())


def test_a_live_drill_needs_the_ledger_and_a_dry_one_does_not(tmp_path: Path) -> None:
    def dead() -> Ledger:
        raise FleetError(problem("X", "The ledger's home is down", "no route to host"))

    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl", new=100) as ours:
            with pytest.raises(FleetError, match="home is down"):
                await drilled(ours, live=True, outbox=LedgerOutbox(dead))
            assert (await ours.gateways.read_table())[0].revision == 1
            result = await drilled(ours, outbox=LedgerOutbox(dead))
            assert result.complete
            assert ["could not be recorded" in each for each in result.warnings] == [True]
            assert OTHERS not in ours.asked

    asyncio.run(scenario())
