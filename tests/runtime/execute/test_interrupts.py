"""What ends a run early: interrupts, a lost lease, silence, a full disk."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from fleet.errors import EngineUnreachableError, LockHeldError, problem
from runtime.execute.outcome import ApplyOutcome, StepOutcome
from tests.runtime.execute.bench import Bench, Killed
from tests.runtime.execute.memory_gateways import UnsafeError
from tests.runtime.execute.small_fleet import FAQ, NEW, OLD, declared, on, verdicts


def test_a_lost_answer_is_looked_up_and_counts_when_its_effect_is_there(bench: Bench) -> None:
    lost = EngineUnreachableError(problem("T", "No connection", "It broke."))
    with bench.faults(on(f"after load {OLD}", lost)):
        outcome = asyncio.run(bench.apply(declared(OLD)))
    assert outcome.exit_code == 0


def test_a_server_that_falls_silent_leaves_the_step_unfinished(bench: Bench) -> None:
    asyncio.run(bench.apply(declared(OLD)))
    engine = bench.engines["laptop"]

    def silence(_: int, label: str) -> BaseException | None:
        if label.startswith(f"before load {NEW}"):
            engine.silent.add("tiny-laptop-cpu0")
            return EngineUnreachableError(problem("T", "No connection", "It broke."))
        return None

    with bench.faults(silence):
        outcome = asyncio.run(bench.apply(declared(NEW)))
    step = f"load adapter/{NEW}@tiny-laptop-cpu0"
    assert outcome.exit_code == 4
    assert outcome.results[step].unsure
    assert list(bench.history().unfinished) == [step]
    engine.silent.clear()
    assert asyncio.run(bench.apply(declared(NEW))).exit_code == 0
    assert bench.history().unfinished == {}
    assert bench.shares("acme-support") == {"1.1.0": 10, "1.0.0": 90}


def test_the_first_interrupt_finishes_the_running_step_and_no_other_begins(bench: Bench) -> None:
    async def interrupted() -> ApplyOutcome:
        stop = asyncio.Event()

        def fault(_: int, label: str) -> None:
            if label.startswith(f"before load {OLD}"):
                stop.set()

        with bench.faults(fault):
            return await bench.apply(declared(OLD, FAQ), stop=stop)

    outcome = asyncio.run(interrupted())
    found = verdicts(outcome)
    assert outcome.exit_code == 130
    assert found[f"load adapter/{OLD}@tiny-laptop-cpu0"] == "done"
    assert found["set route/acme-support"] == "not_run"
    assert "interrupted" in {each.type for each in bench.events}
    assert bench.history().unfinished == {}
    assert asyncio.run(bench.apply(declared(OLD, FAQ))).exit_code == 0


def test_the_second_interrupt_ends_at_once_and_the_next_run_goes_on(bench: Bench) -> None:
    async def cancelled() -> None:
        def fault(_: int, label: str) -> None:
            if label.startswith(f"before load {OLD}"):
                task.cancel()

        with bench.faults(fault):
            task = asyncio.create_task(bench.apply(declared(OLD, FAQ)))
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(cancelled())
    assert list(bench.history().unfinished) == [f"load adapter/{OLD}@tiny-laptop-cpu0"]
    assert asyncio.run(bench.apply(declared(OLD, FAQ))).exit_code == 0


def test_a_run_that_lost_its_lease_begins_nothing_more(bench: Bench) -> None:
    def usurp(_: int, label: str) -> None:
        if label.startswith(f"after load {OLD}"):
            bench.now += timedelta(minutes=2)
            with bench.ledger().lease("somebody else"):
                pass

    with bench.faults(usurp):
        outcome = asyncio.run(bench.apply(declared(OLD, FAQ)))
    assert outcome.exit_code == 5
    assert outcome.lost is not None
    assert outcome.lost.code == "FC5105"
    assert StepOutcome.NOT_RUN in {each.verdict for each in outcome.results.values()}
    assert bench.gateways.table.aliases == {}
    assert asyncio.run(bench.apply(declared(OLD, FAQ))).exit_code == 0


def test_the_lease_is_renewed_beside_the_work(bench: Bench) -> None:
    bench.timings = replace(bench.timings, renew=0.0)

    async def fine() -> ApplyOutcome:
        return await bench.apply(declared(OLD, FAQ))

    def later(_: int, label: str) -> None:
        if label.startswith("before load"):
            bench.now += timedelta(seconds=50)

    with bench.faults(later):
        assert asyncio.run(fine()).exit_code == 0


def test_a_table_written_under_a_newer_lease_is_never_overwritten(bench: Bench) -> None:
    bench.gateways.table = bench.gateways.table.model_copy(update={"token": 9, "revision": 4})
    outcome = asyncio.run(bench.apply(declared(OLD)))
    assert outcome.exit_code == 5
    assert (bench.gateways.table.token, bench.gateways.table.revision) == (9, 4)


def test_two_applies_at_the_same_time_are_not_possible(bench: Bench) -> None:
    with bench.ledger().lease("anna"), pytest.raises(LockHeldError, match="anna"):
        asyncio.run(bench.apply(declared(OLD)))
    assert bench.ledger().read() == []


def test_a_broken_rule_is_not_swallowed(bench: Bench) -> None:
    with bench.faults(on("before load", UnsafeError())), pytest.raises(UnsafeError):
        asyncio.run(bench.apply(declared(OLD)))
    with bench.faults(on("before load", Killed())), pytest.raises(Killed):
        asyncio.run(bench.apply(declared(OLD)))


def test_a_ledger_on_a_full_disk_stops_everything_before_it_happens(bench: Bench) -> None:
    def full(_: int, label: str) -> BaseException | None:
        started = label.startswith("before append") and "step_started" in label
        return OSError(28, "No space left on device") if started else None

    with bench.faults(full):
        outcome = asyncio.run(bench.apply(declared(OLD)))
    assert outcome.exit_code == 4
    failed = [each for each in outcome.results.values() if each.verdict is StepOutcome.FAILED]
    assert {each.diagnostics[0].code for each in failed} == {"FC5106"}
    assert (bench.engines["laptop"].servers, bench.gateways.published) == ({}, 0)
