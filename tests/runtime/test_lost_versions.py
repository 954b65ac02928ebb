"""Rollbacks and drills where a server has lost what the routes say it holds."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fleet.errors import FleetError
from fleet.names import RESOLVER_STAMP
from runtime.engine_conformance import write_adapter
from runtime.fake_vllm.weights import FakeWeights
from runtime.ledger import open_ledger
from runtime.ledger.outbox import LedgerOutbox
from runtime.ledger.protocol import Ledger
from runtime.library.layout import folder_digest
from runtime.observe import lost
from runtime.rollback.drill import drill
from runtime.rollback.rollback import RollbackRequest, rollback
from tests.runtime.gateway.stage import NEW, OLD, Stage, alias, stage, table

OLDER = "acme-support-tiny-v2.0.0"
NOON = datetime(2031, 5, 1, 12, tzinfo=UTC)


def scribe(state: Path) -> LedgerOutbox:
    def ledger() -> Ledger:
        return open_ledger(state, run="r", by="tester", clock=lambda: NOON)

    return LedgerOutbox(ledger, limit_s=60)  # a busy disk takes its time


@asynccontextmanager
async def three_versions(state: Path) -> AsyncIterator[Stage]:
    """The newest answers; one server is to hold two before it, and lists what a test says."""
    async with stage(state, new=100) as ours:
        shares = ((NEW, 100, ("s1",)), (OLD, 0, ("s1",)), (OLDER, 0, ("s1",)))
        aliases = {"acme-support": alias("acme", *shares)}
        await ours.gateways.publish(
            table(ours.servers, revision=2).model_copy(update={"aliases": aliases})
        )
        yield ours


def test_a_version_that_its_server_has_lost_is_passed_over_for_one_that_is_there(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        async with three_versions(tmp_path / ".fleetctl") as ours:
            memory = ours.replicas["s1"].memory
            memory.listed[OLDER] = "/store/older"
            memory.cached[OLDER] = FakeWeights("/store/older", OLDER)
            del memory.listed[OLD]
            result = await rollback(
                RollbackRequest("acme-support"), ours.gateways, scribe(ours.state)
            )
            assert (result.target, result.complete, result.next) == (OLDER, True, "")
            assert "s1 no longer holds 2.1.0: fleetctl reconcile --once" in result.warnings[0]

    asyncio.run(scenario())


@pytest.mark.parametrize("to", [None, "2.1.0"])
def test_nobody_is_sent_to_a_version_that_no_server_holds(tmp_path: Path, to: str | None) -> None:
    async def scenario() -> None:
        async with three_versions(tmp_path / ".fleetctl") as ours:
            del ours.replicas["s1"].memory.listed[OLD]
            with pytest.raises(FleetError, match="left without answers") as refused:
                await rollback(
                    RollbackRequest("acme-support", to), ours.gateways, scribe(ours.state)
                )
            assert refused.value.diagnostics[0].command == "fleetctl reconcile --once"
            assert (await ours.gateways.read_table())[0].revision == 2
            found = await drill("acme-support", to, ours.gateways, scribe(ours.state))
            assert found.sentence.startswith(
                "acme-support could NOT go back to 2.1.0: smoke test FAILED 1/1"
            )
            assert found.next == "fleetctl reconcile --once"

    asyncio.run(scenario())


def test_a_server_that_does_not_answer_has_lost_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with three_versions(tmp_path / ".fleetctl") as ours:
            await ours.replicas["s1"].stop()
            seen, _ = await ours.gateways.read_table()
            assert await lost(seen, seen.aliases["acme-support"].shares) == frozenset()
            result = await rollback(
                RollbackRequest("acme-support"), ours.gateways, scribe(ours.state)
            )
            assert (result.target, result.complete) == (OLD, False)
            assert result.next == "fleetctl reconcile --once"

    asyncio.run(scenario())


def test_a_version_that_the_resolver_loads_is_not_lost(tmp_path: Path) -> None:
    """A server that restarted lists none, and its plug-in answers for the right bytes alone."""

    async def scenario() -> None:
        async with three_versions(tmp_path / ".fleetctl") as ours:
            folder, memory = tmp_path / "older", ours.replicas["s1"].memory
            write_adapter(folder, rank=4, seed="older")
            entry = {"path": str(folder), "digest": folder_digest(folder)}
            file = tmp_path / "adapters.json"
            file.write_text(json.dumps({OLDER: entry, OLD: entry | {"digest": "0" * 64}}))
            names = (*memory.config.names, RESOLVER_STAMP)
            memory.config = replace(
                memory.config, served_model_names=names, adapters_file=str(file)
            )
            for version in (OLD, OLDER):
                memory.listed.pop(version, None)
            seen, _ = await ours.gateways.read_table()
            assert await lost(seen, seen.aliases["acme-support"].shares) == {OLD}
            result = await rollback(
                RollbackRequest("acme-support"), ours.gateways, scribe(ours.state)
            )
            assert (result.target, result.complete) == (OLDER, True)

    asyncio.run(scenario())
