"""An evaluation waits while clients do, and never for ever."""

import asyncio
from pathlib import Path

import pytest

from fleet.errors import EvalError
from fleet.spec import EvalSpec
from runtime.evals.engines import native
from runtime.evals.engines.native import PAUSE_S, Backpressure
from runtime.evals.evaluate import evaluate
from runtime.json_client import JsonClient
from tests.runtime.evals.scripted import Peer, eval_context, peer, simple, target


def answer(_: str, question: str, __: int) -> str:
    return question.replace("q", "a")


async def turns(server: Peer, most: int, count: int = 1) -> float:
    """Take so many turns at once, of a clock that only pauses move; return the seconds."""
    now = 0.0

    async def pause(seconds: float) -> None:
        nonlocal now
        now += seconds

    async with JsonClient(server.url) as client:
        made = Backpressure(client, most, pause, lambda: now)
        await asyncio.gather(*(made.wait() for _ in range(count)))
        assert made.paused_s == now
    return now


@pytest.mark.parametrize(
    ("waiting", "most", "seconds"),
    [([0], 0, 0), ([4], 4, 0), ([5, 4], 4, 1), ([9, 9, 9, 0], 4, 3), ([1, 0], 0, 1)],
)
def test_nothing_is_asked_while_the_queue_is_longer_than_allowed(
    waiting: list[int], most: int, seconds: float
) -> None:
    with peer(answer) as server:
        server.waiting = waiting
        assert asyncio.run(turns(server, most)) == seconds * PAUSE_S


def test_turns_at_the_same_time_look_once() -> None:
    with peer(answer) as server:
        server.waiting = [9, 0, 9, 0]
        asyncio.run(turns(server, 4, count=8))
        assert server.waiting == [9, 0]


def test_a_queue_that_stays_long_ends_the_run_with_a_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(native, "MAX_PAUSED_S", 120.0)  # usually half an hour
    with peer(answer) as server:
        server.waiting = [12]
        with pytest.raises(EvalError) as caught:
            asyncio.run(turns(server, 4))
    (told,) = caught.value.diagnostics
    assert told.code == "FC4509"
    assert f"12 requests wait on {server.url}" in told.detail
    assert "after pauses of 2 minutes" in told.detail


def test_a_server_that_shows_no_queue_is_not_waited_for() -> None:
    async def scenario() -> None:
        async with JsonClient("http://127.0.0.1:9") as client:
            await Backpressure(client, 0).wait()

    asyncio.run(scenario())


def test_a_run_pauses_and_then_asks_everything(tmp_path: Path) -> None:
    with peer(answer) as server:
        server.waiting = [9, 0]
        made = evaluate(target(server), simple(3), EvalSpec(pause_above=4), eval_context(tmp_path))
        run = asyncio.run(made)
        assert len(run.samples) == 3
        assert server.waiting == [0]
