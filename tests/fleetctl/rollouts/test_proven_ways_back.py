"""Rollback and drill pass over what never proved itself, as far as the ledger or its copy says."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from fleet.codec import plain
from fleet.errors import FleetError
from fleet.history import event_of
from fleet.resources import Route, Share
from fleetctl.wiring import open_workspace
from runtime.fake_vllm.weights import FakeWeights
from runtime.ledger import open_ledger
from runtime.operations.rollouts.drills import aliases_to_drill, drill_one
from runtime.operations.rollouts.rollback import roll_back
from runtime.rollback.rollback import RollbackRequest
from runtime.workspace import Workspace
from tests.runtime.gateway.stage import NEW, OLD, Stage, alias, stage, table

ALIAS, OLDER = "acme-support", "acme-support-tiny-v2.0.0"
WHY = "2.1.0 was passed over: it never had all traffic"


@asynccontextmanager
async def halfway(root: Path) -> AsyncIterator[tuple[Stage, Workspace]]:
    """2.0.0 answered all, 2.1.0 was given up at 10 %, 2.2.0 answers all now; all are loaded."""
    workspace = open_workspace(root, None, {}, root / ".fleetctl")
    async with stage(workspace.state_dir, new=100) as ours:
        listed = ours.replicas["s1"].memory
        listed.listed[OLDER] = "/store/older"
        listed.cached[OLDER] = FakeWeights("/store/older", OLDER)
        shares = ((NEW, 100, ("s1",)), (OLD, 0, ("s1",)), (OLDER, 0, ("s1",)))
        aliases = {ALIAS: alias("acme", *shares)}
        await ours.gateways.publish(
            table(ours.servers, revision=2).model_copy(update={"aliases": aliases})
        )
        routes = (
            Route(ALIAS, (Share(OLDER, 100, ("s1",)),), "salt"),
            Route(ALIAS, (Share(OLD, 10, ("s1",)), Share(OLDER, 90, ("s1",))), "salt"),
            Route(ALIAS, tuple(Share(*each) for each in shares), "salt"),
        )
        ledger = open_ledger(workspace.state_dir, run="r", by="ana", clock=workspace.now)
        ledger.append(
            [
                event_of("adopted", {"address": each.address, "resource": plain(each)})
                for each in routes
            ]
        )
        workspace.ledger.history()  # leaves a copy
        yield ours, workspace


@pytest.mark.parametrize("away", [False, True])
def test_a_version_given_up_half_way_is_passed_over(tmp_path: Path, *, away: bool) -> None:
    async def scenario() -> None:
        async with halfway(tmp_path) as (_, workspace):
            home = workspace.state_dir / "ledger.jsonl"
            if away:
                home.unlink()
                home.mkdir()
            drilled = await drill_one(workspace, ALIAS, None, ("Hi",), live=False)
            assert (drilled.target, drilled.complete) == (OLDER, True)
            assert WHY in drilled.warnings
            result = await roll_back(workspace, RollbackRequest(ALIAS), smoke=("Hi",))
            assert (result.target, result.complete) == (OLDER, True)
            told = "\n".join(result.warnings)
            assert WHY in result.warnings
            assert (f"known by its copy here, as of {workspace.now():%Y-%m-%d}" in told) == away
            assert ("could not be recorded" in told) == away

    asyncio.run(scenario())


def test_one_that_is_named_is_taken_with_a_warning(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with halfway(tmp_path) as (_, workspace):
            result = await roll_back(workspace, RollbackRequest(ALIAS, "2.1.0"), smoke=("Hi",))
            assert (result.target, result.complete) == (OLD, True)
            assert result.warnings == ("2.1.0 was named, though it never had all traffic",)

    asyncio.run(scenario())


def test_where_neither_ledger_nor_copy_answers_the_version_before_is_taken(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with halfway(tmp_path) as (_, workspace):
            for name in ("ledger.jsonl", "ledger-as-last-read.jsonl"):
                (workspace.state_dir / name).unlink()
                (workspace.state_dir / name).mkdir()
            result = await roll_back(workspace, RollbackRequest(ALIAS), smoke=("Hi",))
            assert (result.target, result.complete) == (OLD, True)
            assert result.warnings[0].startswith("neither the ledger nor its copy here can be read")

    asyncio.run(scenario())


def test_what_was_written_a_moment_ago_speaks_against_a_version_without_the_ledger(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        async with halfway(tmp_path) as (_, workspace):
            held = [{"alias": ALIAS, "adapter": OLDER, "to": NEW, "reason": ""}]
            workspace.ledger.open().append(
                [event_of("rolled_back", record) for record in held]
            )  # nobody reads the ledger after it
            (workspace.state_dir / "ledger.jsonl").unlink()
            with pytest.raises(FleetError, match=r"2\.0\.0: it was rolled back"):
                await roll_back(workspace, RollbackRequest(ALIAS), smoke=("Hi",))

    asyncio.run(scenario())


def test_no_drill_is_due_where_nothing_before_has_proven_itself(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with halfway(tmp_path) as (_, workspace):
            assert await aliases_to_drill(workspace, None, declared=False) == ([ALIAS], [])
            held = [{"alias": ALIAS, "adapter": OLDER, "to": NEW, "reason": ""}]
            workspace.ledger.open().append([event_of("rolled_back", record) for record in held])
            assert await aliases_to_drill(workspace, None, declared=False) == ([], [ALIAS])

    asyncio.run(scenario())
