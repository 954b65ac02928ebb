"""Runs the engine `native`: asks over HTTP, scores with the metrics of `fleet.evals`."""

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

from fleet.errors import EngineError, EngineRejectedError, EngineUnreachableError, EvalError
from fleet.evals import ACCURACY, JUDGE, MUST_PASS, EvalTarget, GoldenItem, Sample, scored
from fleet.spec import EvalSpec
from runtime.engines.vllm_api import read_metrics
from runtime.evals.context import PARTS, EngineAnswers, EngineJob, client_for
from runtime.evals.judge import JudgeClient, all_of, judge_client
from runtime.json_client import JsonClient

VERSION = "native 1"
ATTEMPTS = 3
BACKOFF_S = 0.2
RETRIES = 2
"""Upper bound of the repetitions of a `must_pass` item that failed.

Only where items are asked once: several samples are repetitions enough.
"""
PAUSE_S = 1.0
"""Length of a pause in seconds, and upper bound of the age of a reading of the queue."""
MAX_PAUSED_S = 1800.0
"""Upper bound of all pauses of a run together, in seconds; then the run ends with FC4509."""
_METRICS_DEADLINE_S = 2.0
BUSY = frozenset({429, 502, 503, 504})
_SEEDS = 2**31


@dataclass(eq=False)
class Backpressure:
    """Holds back the requests of a run while requests of clients wait on the server."""

    server: JsonClient
    """A client of the server, not of a gateway before the server."""
    max_waiting: int
    """Upper bound of the requests that may wait on the server."""
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep
    clock: Callable[[], float] = time.monotonic
    """Returns seconds that never run backwards."""
    paused_s: float = field(default=0.0, init=False)
    """Sum of all pauses so far, in seconds."""
    _probed_at: float | None = field(default=None, init=False)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    async def wait(self) -> None:
        """Return once the queue is short; a server that shows no queue is not waited for.

        Raises:
            EvalError: FC4509, the queue stayed long.
        """
        async with self._lock:  # the next task finds the answer of this one
            now = self.clock()
            if self._probed_at is not None and now - self._probed_at < PAUSE_S:
                return
            while (waiting := await self._waiting()) > self.max_waiting:
                if self.paused_s >= MAX_PAUSED_S:
                    raise self._busy(waiting)
                await self.pause(PAUSE_S)
                self.paused_s += PAUSE_S
            self._probed_at = self.clock()

    async def _waiting(self) -> int:
        metrics = await read_metrics(self.server, _METRICS_DEADLINE_S, attempts=1)
        return metrics.waiting or 0

    def _busy(self, waiting: int) -> EvalError:
        detail = (
            f"{waiting} requests wait on {self.server.url}, after pauses of "
            f"{self.paused_s / 60:g} minutes together."
        )
        hint = "Run it again in a quieter hour, or raise `evals.pause_above`; clients then wait "
        hint += "longer."
        return EvalError.of("FC4509", "The server is too busy to be evaluated", detail, hint=hint)


async def run_native(job: EngineJob) -> EngineAnswers:
    """Ask every item `spec.samples` times, `spec.concurrency` at a time."""
    target, spec, items = job.target, job.spec, job.golden.items
    judged = any(check.metric == JUDGE for item in items for check in item.checks.values())
    async with (
        client_for(target, spec.timeout_s) as client,
        JsonClient(target.server or target.url) as server,
        judge_client(spec, job.context.secret) if judged else nullcontext() as judge,
    ):
        room = asyncio.Semaphore(spec.concurrency)
        run = _Run(job, client, judge, Backpressure(server, spec.pause_above), room)
        samples: tuple[Sample, ...] = ()
        for part in job.golden.parts(PARTS) if job.enough else (items,):
            turns = await all_of(run.turn(item, k) for item in part for k in range(spec.samples))
            samples += tuple(sample for turn in turns for sample in turn)
            if job.enough and len(samples) < job.total and job.enough(samples):
                break
    return samples, VERSION


@dataclass
class _Run:
    """The clients and the progress that the turns of a run share."""

    job: EngineJob
    client: JsonClient
    judge: JudgeClient | None
    backpressure: Backpressure
    room: asyncio.Semaphore
    done: int = 0

    async def turn(self, item: GoldenItem, number: int) -> list[Sample]:
        """Ask an item once, and a `must_pass` item that failed some times more."""
        spec = self.job.spec
        async with self.room:
            await self.backpressure.wait()
            samples = [await self._sample(item, number)]
            if MUST_PASS in item.tags and spec.samples == 1:
                for again in range(RETRIES):
                    if samples[-1].scores.get(ACCURACY) == 1.0:
                        break
                    later = spec.samples + number * RETRIES + again
                    samples.append(await self._sample(item, later, retry=True))
            self.done += 1
            self.job.report(self.done, self.job.total)
            return samples

    async def _sample(self, item: GoldenItem, number: int, *, retry: bool = False) -> Sample:
        began = time.monotonic()
        path, body = request(item, number, self.job.target, self.job.spec)
        try:
            reply = await self._ask(path, body)
            answer, finish = parse_answer(reply)
        except (EngineError, ValueError) as error:
            failed = error.diagnostics[0].detail if isinstance(error, EngineError) else str(error)
            return Sample(item.id, number, retry=retry, error=failed or "not answered")
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
        judged = await self.judge.scores(item, answer) if self.judge else {}
        return scored(item, sample, judged)

    async def _ask(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the reply; ask again while the server is busy or the connection breaks."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                reply = await self.client.post(path, body)
            except (EngineRejectedError, EngineUnreachableError) as error:
                busy = not isinstance(error, EngineRejectedError) or error.status in BUSY
                if not busy or attempt == ATTEMPTS:
                    raise
                await asyncio.sleep(BACKOFF_S * 2**attempt)
            else:
                break
        return reply if isinstance(reply, dict) else {}


def request(
    item: GoldenItem, number: int, target: EvalTarget, spec: EvalSpec
) -> tuple[str, dict[str, Any]]:
    """Return path and body of a question.

    Log probabilities of the prompt are never asked for: with LoRA they can kill the server.
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
        ValueError: the answer has another form.
    """
    try:
        choice = reply["choices"][0]
        text = choice["message"]["content"] if "message" in choice else choice["text"]
    except (KeyError, IndexError, TypeError):
        raise ValueError("an answer of another form") from None
    return str(text or ""), str(choice.get("finish_reason") or "")
