"""Evaluations run beside the ticks: none is begun twice, and none holds up a stop."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

from fleet.resources import State
from fleet.rollouts.trials import GateTrial
from runtime.evals.context import EvalContext, ReportProgress, report_nothing
from runtime.gates.tick import Evaluations, TickContext, tick_context
from runtime.ledger.snapshot import LedgerSnapshot
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
