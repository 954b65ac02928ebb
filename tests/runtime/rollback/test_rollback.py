"""Rollback: the routing table is all it needs, and what is down does not stop it."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fleet.errors import FleetError, LockHeldError, problem
from fleet.history import Entry, FallbackCheck, StepStarted, fallback_check, fold_entries
from fleet.spec import GatewaySpec
from plans.reports.history import render_text
from runtime.gateway.admin.protocol import READ_S, Note
from runtime.gateway.admin.state_dir import read_table
from runtime.gateway.control.control import LocalGateways
from runtime.gateway.table.table import AliasEntry, RoutingTable
from runtime.ledger import open_ledger
from runtime.ledger.outbox import LedgerOutbox
from runtime.ledger.protocol import Ledger
from runtime.rollback.rollback import RollbackRequest, RollbackResult, rollback
from runtime.smoke import recorded_inputs
from tests.runtime.gateway.stage import MAIN, NEW, OLD, Stage, alias, chat, raw_server, stage, table

OLDER = "acme-support-tiny-v2.0.0"
REFUSES = b"HTTP/1.1 500 Broken\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}"
NOON = datetime(2031, 5, 1, 12, tzinfo=UTC)


def ledger(state: Path) -> Ledger:
    return open_ledger(state, run="r", by="tester", clock=lambda: NOON)


def scribe(state: Path) -> LedgerOutbox:  # waits as long as a busy disk takes
    return LedgerOutbox(lambda: ledger(state), limit_s=60)


async def back(ours: Stage, to: str | None = None, **more: Any) -> RollbackResult:
    words = {key: more.pop(key) for key in ("reason", "forward") if key in more}
    given: dict[str, Any] = {"gateways": ours.gateways, "outbox": scribe(ours.state)} | more
    return await rollback(RollbackRequest("acme-support", to, **words), **given)


@pytest.mark.parametrize("new", [10, 50, 100])
def test_all_traffic_is_back_on_the_version_before(tmp_path: Path, new: int) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl", new=new) as ours:
            result = await back(ours, reason="wrong refunds")
            assert result.complete
            assert result.target == OLD
            assert result.before == ((NEW, new), (OLD, 100 - new))
            assert result.acknowledged == ("main",)
            assert (result.smoke.passed, result.smoke.total) == (1, 1)
            assert (result.warnings, result.failures) == ((), ())
            assert {(await ours.send(chat(user=f"u{n}"))).version for n in range(20)} == {OLD}
            assert (await ours.gateways.read_table())[0].revision == result.revision == 2
            past = fold_entries(ledger(ours.state).read())
            (hold,) = past.holds["acme-support"].values()
            assert (hold.adapter, hold.reason, hold.by) == (NEW, "wrong refunds", "tester")
            done, checked = ledger(ours.state).read()
            assert (done.event.kind, checked.event.kind) == ("rolled_back", "rollback_checked")
            assert done.document()["decided"] == checked.document()["decided"] == result.decided
            assert checked.document()["smoke"] == {"passed": 1, "total": 1, "telling": 1}
            assert checked.document()["smoke_ok_s"] >= checked.document()["all_gateways_s"] > 0

    asyncio.run(scenario())


def test_the_sentence_says_how_long_it_took(tmp_path: Path) -> None:
    ticks = iter(range(100))

    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl", new=10) as ours:
            result = await back(ours, seconds=lambda: float(next(ticks)), inputs=lambda: ["a", "b"])
            assert result.sentence == (
                "acme-support back on 2.1.0 in 1.00 s (1 gateway acknowledged), "
                "smoke test passed 2/2 in 1.0 s"
            )

    asyncio.run(scenario())


def test_a_second_rollback_moves_nothing_and_says_how_to_go_further_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl", new=100) as ours:
            three = alias("acme", (NEW, 100, ("s1",)), (OLD, 0, ("s1",)), (OLDER, 0, ("s1",)))
            ours.replicas["s1"].memory.listed[OLDER] = "/store/older"
            start = table(ours.servers, revision=2)
            aliases = {"acme-support": three}
            await ours.gateways.publish(start.model_copy(update={"aliases": aliases}))
            assert (await back(ours)).target == OLD

            def knows(names: tuple[str, ...]) -> FallbackCheck:
                past = fold_entries(ledger(ours.state).read())
                return fallback_check(past, "acme-support", {}, names)

            twice = await back(ours, doubts=knows)
            assert (twice.target, twice.revision, twice.complete) == (OLD, 3, True)
            assert "--to 2.0.0" in twice.warnings[0]
            second = await back(ours, "2.0.0", doubts=knows)
            assert (second.target, second.held) == (OLDER, (NEW, OLD))
            assert (await back(ours, doubts=knows)).target == OLDER
            with pytest.raises(FleetError, match="the oldest that is loaded"):
                await back(ours)
            assert (await ours.gateways.read_table())[0].revision == 4
            assert set(fold_entries(ledger(ours.state).read()).holds["acme-support"]) == {NEW, OLD}

    asyncio.run(scenario())


def test_a_newer_version_is_given_all_traffic_only_on_purpose(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl", new=10) as ours:
            with pytest.raises(FleetError, match="no older"):  # it is a canary
                await back(ours, "2.2.0")
            assert (await back(ours)).target == OLD
            with pytest.raises(FleetError, match="no older"):  # it is held
                await back(ours, "2.2.0")
            assert (await ours.send(chat())).version == OLD
            forward = await back(ours, "2.2.0", forward=True)
            assert ledger(ours.state).read()[-2].document()["forward"] is True
            assert (forward.target, forward.held, forward.before) == (
                NEW,
                (),
                ((NEW, 0), (OLD, 100)),
            )
            assert (await back(ours, OLD)).target == OLD
            assert set(fold_entries(ledger(ours.state).read()).holds["acme-support"]) == {NEW}

    asyncio.run(scenario())


def test_going_back_to_where_it_is_writes_no_new_table(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours:
            result = await back(ours, "2.1.0")
            assert (result.revision, result.complete) == (1, True)
            assert (await ours.gateways.read_table())[0].revision == 1

    asyncio.run(scenario())


REFUSED = {
    "unknown": ("acme-suport", None, "did you mean `acme-support`"),
    "not resident": ("acme-support", "1.0.0", "Resident: 2.2.0 (10 %), 2.1.0 (90 %)"),
    "only one": ("globex-dates", None, "the oldest that is loaded"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_done_is_refused_and_changes_nothing(tmp_path: Path, case: str) -> None:
    name, to, said = REFUSED[case]

    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl", new=10) as ours:
            with pytest.raises(FleetError) as caught:
                await rollback(RollbackRequest(name, to), ours.gateways, scribe(ours.state))
            (shown,) = caught.value.diagnostics
            assert said in f"{shown.detail} {shown.hint}"
            assert (await ours.gateways.read_table())[0] == table(ours.servers, new=10)
            assert ledger(ours.state).read() == []

    asyncio.run(scenario())


def test_a_dead_replica_and_a_gateway_that_is_down_do_not_stop_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl", servers=2, new=100) as ours:
            await ours.replicas["s2"].stop()
            result = await back(ours)
            assert result.complete
            assert (result.smoke.passed, result.smoke.total) == (1, 1)
            assert ["cannot be reached" in each for each in result.warnings] == [True]
        gateways = LocalGateways(ours.state, {"main": MAIN})
        down = await back(ours, "2.2.0", forward=True, gateways=gateways)
        await gateways.close()
        assert not down.complete  # no server is left to answer the smoke test
        assert down.acknowledged == ()
        assert "no gateway is running" in down.sentence
        table_now = read_table(ours.state)
        assert table_now is not None
        assert table_now.aliases["acme-support"].shares[0].percent == 100

    asyncio.run(scenario())


def test_a_dead_ledger_is_a_warning(tmp_path: Path) -> None:
    def dead() -> Ledger:
        raise FleetError(problem("X", "The ledger's home is down", "no route to host"))

    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl", new=10) as ours:
            result = await back(ours, outbox=LedgerOutbox(dead))
            assert (result.complete, result.target) == (True, OLD)
            (warning,) = result.warnings
            assert "could not be recorded" in warning
            assert (await ours.send(chat())).version == OLD

    asyncio.run(scenario())


def test_a_model_that_does_not_answer_well_is_reported_after_the_flip(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl", new=10) as ours:
            for _ in range(4):  # the version and its base, each asked twice
                ours.replicas["s1"].memory.faults.refuse("generate")
            result = await back(ours)
            assert (result.complete, result.next) == (False, "fleetctl reconcile --once")
            assert "smoke test FAILED 1/1" in result.sentence
            now, _ = await ours.gateways.read_table()
            assert [each.percent for each in now.aliases["acme-support"].shares] == [0, 100]

    asyncio.run(scenario())


class Meddled(LocalGateways):
    """Another run writes the table each time between reading and publishing."""

    meddling = 0

    async def read_table(self, within_s: float = READ_S) -> tuple[RoutingTable, tuple[Note, ...]]:
        found = await super().read_table(within_s)
        if self.meddling:
            self.meddling -= 1
            dates: AliasEntry = found[0].aliases["globex-dates"]
            other = dates.model_copy(update={"salt": f"meddled {self.meddling}"})
            aliases = {**found[0].aliases, "globex-dates": other}
            update = {"revision": found[0].revision + 1, "aliases": aliases}
            await self.publish(found[0].model_copy(update=update))
        return found


def test_a_table_written_meanwhile_is_read_again_and_kept(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl", new=10) as ours:
            meddled = Meddled(ours.state, {"main": MAIN})
            meddled.meddling = 3
            mine = scribe(ours.state)
            result = await rollback(RollbackRequest("acme-support"), meddled, mine)
            await meddled.close()
            assert (result.complete, result.revision) == (True, 5)
            now, _ = await ours.gateways.read_table()
            assert now.aliases["globex-dates"].salt == "meddled 0"
            assert (await ours.send(chat())).version == OLD

    asyncio.run(scenario())


def test_the_lease_s_token_stays_so_that_a_late_writer_stays_out(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours:
            await ours.gateways.publish(table(ours.servers, new=10, revision=2, token=7))
            assert (await back(ours)).revision == 3
            with pytest.raises(LockHeldError):
                await ours.gateways.publish(table(ours.servers, new=50, revision=4, token=6))
            assert (await ours.send(chat())).version == OLD

    asyncio.run(scenario())


def test_known_inputs_come_from_the_last_plan_that_tested_the_alias() -> None:
    def entry(seq: int, name: str, *inputs: str) -> Entry:
        operation = {"verb": "smoke", "adapter": {"adapter": name}, "inputs": list(inputs)}
        event = StepStarted(operation=operation)
        return Entry(seq, NOON + timedelta(seconds=seq), event, "r", "b", 1, "", "")

    entries = [
        entry(1, OLD, "a"),
        entry(2, NEW, "b", "c"),
        entry(3, "globex-dates-tiny-v1.0.0", "d"),
        entry(4, NEW),
    ]
    assert recorded_inputs(entries, "acme-support") == ("b", "c")
    assert recorded_inputs(entries, "globex-dates") == ("d",)
    assert recorded_inputs(entries, "acme-triage") == ()


def test_a_gateway_that_refuses_is_counted_and_not_called_absent(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl", new=10) as ours, raw_server(REFUSES) as (url, _):
            both = LocalGateways(
                ours.state, {"main": MAIN, "stuck": GatewaySpec("stuck", "127.0.0.1:0", url)}
            )
            result = await back(ours, gateways=both)
            alone = LocalGateways(ours.state, {"stuck": GatewaySpec("stuck", "127.0.0.1:0", url)})
            nobody = await back(ours, "2.1.0", gateways=alone)
            await both.close()
            await alone.close()
            assert "acme-support back on 2.1.0" in result.sentence
            assert "1 of 2 gateways acknowledged" in result.sentence
            assert "acme-support NOT yet back on 2.1.0" in nobody.sentence
            found = [(each.complete, len(each.failures)) for each in (result, nobody)]
            assert found == [(False, 1), (False, 1)]
            told = render_text(ledger(ours.state).read())
            assert "1 gateway did NOT take it, the others after" in told

    asyncio.run(scenario())
