"""The engine of our own: asks over HTTP, scores with the metrics in `fleet.evals.metrics`."""

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from fleet.errors import (
    EngineError,
    EngineRejectedError,
    EngineUnreachableError,
    EvalError,
    problem,
)
from fleet.evals import (
    ACCURACY,
    JUDGE,
    MUST_PASS,
    EvalSpec,
    EvalTarget,
    GoldenItem,
    GoldenSet,
    Sample,
    scored,
)
from runtime.engines.vllm_api import read_metrics
from runtime.evals.context import EvalContext
from runtime.evals.judge import JudgeClient, judge_client
from runtime.evals.probe import client_for
from runtime.evals.protocol import EngineAnswers, ReportProgress
from runtime.json_client import JsonClient

VERSION = "native 1"
ATTEMPTS = 3
BACKOFF_S = 0.2
RETRIES = 2
"""How often a `must_pass` item that failed is asked again; it fails when none is right.

Only where each item is asked once: several samples are repetitions enough.
"""
PAUSE_S = 1.0
"""Length of one pause in seconds, and upper bound of the age of a reading of the queue."""
MAX_PAUSED_S = 1800.0
"""Upper bound of all pauses of a run together, in seconds; then the run ends with FC4509."""
_METRICS_DEADLINE_S = 2.0
BUSY = frozenset({429, 502, 503, 504})
_SEEDS = 2**31


class Backpressure:
    """Holds the requests of one run back while requests of clients wait on the server."""

    def __init__(
        self,
        server: JsonClient,
        max_waiting: int,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare; nothing is sent.

        Args:
            server: Client of the server, not of a gateway before the server.
            max_waiting: Upper bound of the requests that may wait on the server.
            pause: Waits the given number of seconds.
            clock: Seconds that never run backwards.
        """
        self._server, self._max_waiting = server, max_waiting
        self._pause, self._clock = pause, clock
        self._probed_at: float | None = None
        self._lock = asyncio.Lock()
        self.paused_s = 0.0
        """Sum of all pauses so far, in seconds."""

    async def wait(self) -> None:
        """Return once the queue is short; a server that shows no queue is not waited for.

        Raises:
            EvalError: FC4509, the queue stayed long.
        """
        async with self._lock:  # the next task finds the answer of this one
            now = self._clock()
            if self._probed_at is not None and now - self._probed_at < PAUSE_S:
                return
            while (waiting := await self._waiting()) > self._max_waiting:
                if self.paused_s >= MAX_PAUSED_S:
                    raise _busy(self._server.url, waiting, self.paused_s)
                await self._pause(PAUSE_S)
                self.paused_s += PAUSE_S
            self._probed_at = self._clock()

    async def _waiting(self) -> int:
        metrics = await read_metrics(self._server, _METRICS_DEADLINE_S, attempts=1)
        return metrics.waiting or 0


def _busy(url: str, waiting: int, paused_s: float) -> EvalError:
    return EvalError(
        problem(
            "FC4509",
            "The server is too busy to be evaluated",
            f"{waiting} requests wait on {url}, after pauses of {paused_s / 60:g} minutes "
            "together.",
            hint="Run it again in a quieter hour, or raise `evals.pause_above`; clients then wait "
            "longer.",
        )
    )


class NativeEngine:
    """Keeps the contract of `runtime.evals.protocol.EvalEngine`."""

    def __init__(self, context: EvalContext) -> None:
        """Prepare; nothing is sent."""
        self._context = context

    async def run(
        self,
        target: EvalTarget,
        golden: GoldenSet,
        spec: EvalSpec,
        folder: Path,
        report: ReportProgress,
    ) -> EngineAnswers:
        """Ask every item `spec.samples` times, `spec.concurrency` at a time."""
        del folder
        judged = any(c.metric == JUDGE for item in golden.items for c in item.checks.values())
        async with (
            client_for(target, spec.timeout_s) as client,
            JsonClient(target.server or target.url) as server,
            judge_client(spec, self._context.secret, needed=judged) as judge,
        ):
            backpressure = Backpressure(server, spec.pause_above)
            total = len(golden.items) * spec.samples
            run = _Run(client, target, spec, judge, report, total, backpressure)
            turns = [(item, k) for item in golden.items for k in range(spec.samples)]
            try:
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(run.turn(item, k)) for item, k in turns]
            except* EvalError as failed:
                raise failed.exceptions[0] from None
        samples = [sample for task in tasks for sample in task.result()]
        return EngineAnswers(tuple(samples), VERSION)


class _Run:
    """What the turns of one run share."""

    def __init__(
        self,
        client: JsonClient,
        target: EvalTarget,
        spec: EvalSpec,
        judge: JudgeClient | None,
        report: ReportProgress,
        total: int,
        backpressure: Backpressure,
    ) -> None:
        self._client, self._target, self._spec = client, target, spec
        self._judge, self._report, self._total = judge, report, total
        self._backpressure = backpressure
        self._room = asyncio.Semaphore(spec.concurrency)
        self._done = 0

    async def turn(self, item: GoldenItem, number: int) -> list[Sample]:
        """Ask an item once, and a `must_pass` item that failed some times more."""
        async with self._room:
            await self._backpressure.wait()
            samples = [await self._sample(item, number)]
            if MUST_PASS in item.tags and self._spec.samples == 1:
                for again in range(RETRIES):
                    if samples[-1].scores.get(ACCURACY) == 1.0:
                        break
                    later = self._spec.samples + number * RETRIES + again
                    samples.append(await self._sample(item, later, retry=True))
            self._done += 1
            self._report(self._done, self._total)
            return samples

    async def _sample(self, item: GoldenItem, number: int, *, retry: bool = False) -> Sample:
        began = time.monotonic()
        path, body = request(item, number, self._target, self._spec)
        try:
            reply = await self._ask(path, body)
            answer, finish = parse_answer(reply)
        except EngineError as error:
            detail = error.diagnostics[0].detail
            return Sample(item.id, number, retry=retry, error=detail or "not answered")
        except ValueError as error:
            return Sample(item.id, number, retry=retry, error=str(error))
        usage = reply.get("usage") or {}
        sample = Sample(
            item.id,
            number,
            answer,
            finish=finish,
            output_tokens=usage.get("completion_tokens"),
            seconds=round(time.monotonic() - began, 4),
            model=str(reply.get("model", "")),
            fingerprint=str(reply.get("system_fingerprint") or ""),
            retry=retry,
        )
        judged = await self._judge.scores(item, answer) if self._judge else {}
        return scored(item, sample, judged)

    async def _ask(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Ask; again while the server is busy or the connection breaks."""
        for attempt in range(1, ATTEMPTS):
            try:
                return _document(await self._client.post(path, body))
            except EngineRejectedError as error:
                if error.status not in BUSY:
                    raise
            except EngineUnreachableError:
                pass
            await asyncio.sleep(BACKOFF_S * 2**attempt)
        return _document(await self._client.post(path, body))


def request(
    item: GoldenItem, number: int, target: EvalTarget, spec: EvalSpec
) -> tuple[str, dict[str, Any]]:
    """Return path and body of one question.

    Never asks for log probabilities of the prompt: with LoRA they can kill the server.
    """
    body: dict[str, Any] = {
        "model": target.model,
        "max_tokens": item.max_tokens,
        "temperature": spec.temperature,
    }
    if spec.temperature:
        text = f"{spec.seed}/{item.id}/{number}"
        body["seed"] = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]) % _SEEDS
    if item.prompt:
        return "/v1/completions", body | {"prompt": item.prompt}
    return "/v1/chat/completions", body | {"messages": list(item.messages)}


def parse_answer(reply: Mapping[str, Any]) -> tuple[str, str]:
    """Return text and finish reason of an answer.

    Raises:
        ValueError: it has another form.
    """
    try:
        choice = reply["choices"][0]
        text = choice["message"]["content"] if "message" in choice else choice["text"]
    except (KeyError, IndexError, TypeError):
        raise ValueError("an answer of another form") from None
    return str(text or ""), str(choice.get("finish_reason") or "")


def _document(reply: Any) -> dict[str, Any]:
    return reply if isinstance(reply, dict) else {}
