"""Evaluations run beside the ticks: none is begun twice, and none holds up a stop."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from fleet.resources import State
from fleet.rollouts.evidence import GateTrial
from runtime.evals.context import EvalContext, ReportProgress, report_nothing
from runtime.gates.tick import Evaluations, TickContext, tick_context
from runtime.ledger.protocol import LedgerSnapshot
from tests.fleet.rollouts.test_trials import declared, live
from tests.runtime.gates.test_evidence import golden_set, office
from tests.runtime.gateway.stage import raw_server

NOON = datetime(2031, 5, 1, 12, tzinfo=UTC)


def scene(root: Path, seen: State) -> TickContext:
    return tick_context(declared(), seen, LedgerSnapshot(()), root, NOON)


def untold(trial: GateTrial) -> ReportProgress:
    del trial
    return report_nothing


def begun(evaluations: Evaluations, what: TickContext, where: EvalContext) -> int:
    return len(evaluations.start(what, lambda: where, untold))


def test_an_evaluation_is_begun_once_and_given_up_when_told_to_stop(tmp_path: Path) -> None:
    golden_set(tmp_path, {"regex": {}})

    async def scenario() -> None:
        async with raw_server(b"", waits=True) as (url, seen):
            what = scene(tmp_path, live(urls={"s1": url}))
            evaluations, stop = Evaluations(), asyncio.Event()
            assert begun(evaluations, what, office(tmp_path)) == 1
            assert begun(evaluations, what, office(tmp_path)) == 0
            assert await evaluations.finished() == []
            while not seen:  # noqa: ASYNC110 (over a socket)
                await asyncio.sleep(0)
            stop.set()
            assert await evaluations.finished(stop) == []
            assert evaluations.running == {}
            assert begun(evaluations, what, office(tmp_path)) == 1  # the next run takes it up
            await evaluations.stop()

    asyncio.run(scenario())


def test_what_has_ended_is_given_until_it_is_taken(tmp_path: Path) -> None:
    async def scenario() -> None:
        evaluations = Evaluations()
        what = scene(tmp_path, live(urls={"s1": "http://127.0.0.1:9"}))
        assert begun(evaluations, what, office(tmp_path)) == 1
        ((key, found),) = await evaluations.finished(asyncio.Event())
        assert "cannot be read" in found.judged[0].problem  # there is no golden set
        assert await evaluations.finished(asyncio.Event()) == [(key, found)]
        assert begun(evaluations, what, office(tmp_path)) == 0  # nobody is asked again meanwhile
        evaluations.taken(key)
        assert await evaluations.finished(asyncio.Event()) == []

    asyncio.run(scenario())


def test_an_evaluation_that_cannot_begin_has_a_reason_with_a_code_and_rests(tmp_path: Path) -> None:
    """Before, the error ended the round for all aliases, and no gate had a reason."""

    def make() -> EvalContext:
        raise KeyError("sk-secret")

    async def scenario() -> None:
        evaluations = Evaluations()
        what = scene(tmp_path, live(urls={"s1": "http://127.0.0.1:9"}))
        assert len(evaluations.start(what, make, untold)) == 1
        ((key, found),) = await evaluations.finished(asyncio.Event())
        (one,) = found.judged
        assert "fleetctl itself failed [FC1311]: KeyError at test_evaluations.py" in one.problem
        assert (one.failed, "sk-secret" in one.problem) == (False, False)
        evaluations.taken(key)
        assert begun(evaluations, what, office(tmp_path)) == 0
        later = replace(what, now=NOON + timedelta(hours=1))
        assert begun(evaluations, later, office(tmp_path)) == 1
        await evaluations.stop()

    asyncio.run(scenario())


def test_an_evaluation_that_raises_is_told_and_not_begun_anew_in_each_round(tmp_path: Path) -> None:
    """Before, the task was dropped without a message, and begun again: 3 times in 3 rounds."""
    golden_set(tmp_path, {"regex": {}})

    async def scenario() -> None:
        evaluations, rounds = Evaluations(), 0
        what = scene(tmp_path, live(urls={"s1": "http://127.0.0.1:9"}))
        bare = replace(what, fleet=replace(what.fleet, adapters={}))  # KeyError for the alias
        for _ in range(3):
            rounds += begun(evaluations, bare, office(tmp_path))
            for key, found in await evaluations.finished(asyncio.Event()):
                assert "[FC1311]: KeyError at offline.py" in found.judged[0].problem
                evaluations.taken(key)
        assert rounds == 1

    asyncio.run(scenario())


def test_an_evaluation_that_is_prevented_is_tried_in_the_next_round(tmp_path: Path) -> None:
    async def scenario() -> None:
        evaluations = Evaluations()
        what = scene(tmp_path, live(urls={"s1": "http://127.0.0.1:9"}))
        for _ in range(2):  # there is no golden set yet
            assert begun(evaluations, what, office(tmp_path)) == 1
            ((key, found),) = await evaluations.finished(asyncio.Event())
            assert "[FC4532]" in found.judged[0].problem
            evaluations.taken(key)

    asyncio.run(scenario())
