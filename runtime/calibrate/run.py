"""Runs a calibration: check, warm up, measure in rounds, fit, write the profile.

Profile files are `calibration/<base>-<kind>-r<rank>.json`; `fleet.capacity` reads them.
"""

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import count
from typing import Self

from fleet.capacity import PROFILE_FORMAT, WORST_RESIDUAL, Point, estimate_speed, fit, step_seconds
from fleet.errors import EngineRejectedError
from fleet.hardware import Profile, Speed, is_cpu
from fleet.vllm import fully_sharded, kv_bytes_per_token, lora_dtype, pool_bytes, weight_bytes
from runtime.calibrate.measure import (
    PROMPT_BATCH,
    PROMPT_TOKENS,
    SHORT_TOKENS,
    BatchMeter,
    BatchPlan,
    CalibrationBudget,
    CalibrationTarget,
    ReportProgress,
    ServedNames,
    batch_plans,
    foreign_traffic,
    largest_batch,
    require_adapters,
    require_idle,
    require_times,
)
from runtime.engines.vllm_api import ServerMetrics, observe_server, read_metrics
from runtime.json_client import JsonClient

CONNECTIONS = 16
"""Upper bound of open requests of an HTTP client."""
DEADLINE_S = 600.0
_FIRST_TOKEN = 10
"""Lower bound of token numbers in prompts; lower numbers are special tokens."""


class LoadGenerator:
    """Sends batches to a server and times them."""

    def __init__(self, url: str, peer: str, vocabulary: int) -> None:
        """Prepare; prompts have token numbers below `vocabulary`, `peer` stands in error texts."""
        self._url, self._peer = url, peer
        self._vocabulary = max(vocabulary, _FIRST_TOKEN + 2)
        self._clients: list[JsonClient] = []
        self._number = count(1)
        self.sent = 0
        """Requests sent so far."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(client.close() for client in self._clients))

    async def batch_seconds(
        self, models: Sequence[str], prompt_tokens: int, output_tokens: int
    ) -> float:
        """Send a request per model at the same time; return the seconds until all are answered.

        Prompts differ from their first token on, so that no cached prefix helps. An answer of
        another length than requested is an error: the time would be worthless.

        Raises:
            EngineError: a request failed or was answered with another number of tokens.
        """
        while len(self._clients) * CONNECTIONS < len(models):
            self._clients.append(JsonClient(self._url, peer=self._peer))
        began = time.monotonic()
        tasks = [
            asyncio.ensure_future(
                self._ask(self._clients[at // CONNECTIONS], model, prompt_tokens, output_tokens)
            )
            for at, model in enumerate(models)
        ]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return time.monotonic() - began

    async def _ask(self, http: JsonClient, model: str, prompt_tokens: int, tokens: int) -> None:
        self.sent += 1
        body = {
            "model": model,
            "prompt": self._prompt(prompt_tokens),
            "max_tokens": tokens,
            "ignore_eos": True,
            "temperature": 0,
        }
        answer = await http.post("/v1/completions", body, timeout_s=DEADLINE_S)
        try:
            counted = int(answer["usage"]["completion_tokens"])
        except (KeyError, TypeError, ValueError):
            counted = -1
        if counted != tokens:
            detail = (
                f"{self._peer} was asked for {tokens} tokens of `{model}` and gave "
                f"{'no count' if counted < 0 else counted}; its speed is unknown."
            )
            hint = "Check that it is a vLLM server and takes `ignore_eos`."
            raise EngineRejectedError.of("FC4004", "Answer not understood", detail, hint=hint)

    def _prompt(self, length: int) -> list[int]:
        """Return token numbers that no earlier prompt had: the stride changes."""
        number = next(self._number)
        span = self._vocabulary - _FIRST_TOKEN
        stride = 1 + number // span % max(span - 1, 1)
        return [_FIRST_TOKEN + (number + at * stride) % span for at in range(length)]


FOLDER = "calibration"
"""Folder of the profiles in a project."""
MOST_ROUNDS = 3
"""Upper bound of rounds while the law does not fit, as a multiple of `rounds`: on a busy
machine the shortest times are found late."""
_USUAL_VOCABULARY = 1000
_USUAL_LENGTH = 2048
_USUAL_SHARE = 0.92


@dataclass(frozen=True, slots=True)
class MeasuredRow:
    """A batch: time measured, and time by the fitted law."""

    batch: int
    adapters: int
    measured_s: float
    fitted_s: float

    @property
    def error(self) -> float:
        """Relative error of the law for this batch."""
        return self.fitted_s / self.measured_s - 1


@dataclass(frozen=True, slots=True)
class Calibration:
    """The result: profile, measured rows, cost."""

    profile: Profile
    rows: tuple[MeasuredRow, ...]
    requests: int
    seconds: float
    notes: tuple[str, ...]
    """Remarks for readers, such as that clients used the server meanwhile."""


async def calibrate(
    target: CalibrationTarget,
    budget: CalibrationBudget,
    report: ReportProgress,
    *,
    force: bool = False,
) -> Calibration:
    """Measure a running server; with `force` also while clients use it, which the result notes.

    Raises:
        EngineError: the server does not answer, is in use or holds no adapter that could run, or a
            request failed.
    """
    began = time.monotonic()
    async with JsonClient(target.url, peer=f"server `{target.server}`") as http:
        snapshot = await observe_server(http)
        before = await read_metrics(http)
        require_adapters(target, snapshot.listing.adapters)
        require_idle(target, None if force else before.in_flight)
        adapters = sorted(snapshot.listing.adapters)[: target.usable_slots]
        room = _longest_prompt(target) - PROMPT_TOKENS
        tokens = max(min(budget.tokens, room), SHORT_TOKENS + 1)
        most = largest_batch(budget.largest_batch, before.kv_tokens, PROMPT_TOKENS + tokens)
        plan = batch_plans(most, len(adapters))
        names = ServedNames(snapshot.listing.names[0], tuple(adapters))
        shape = target.base.shape
        vocabulary = shape.vocab_size if shape else _USUAL_VOCABULARY
        async with LoadGenerator(target.url, http.peer, vocabulary) as generator:
            meter = BatchMeter(generator.batch_seconds, names, tokens, report)
            await meter.warm_up(plan)
            notes: tuple[str, ...] = ()
            for number in range(MOST_ROUNDS * budget.rounds):
                if number and time.monotonic() > began + 60 * budget.minutes:
                    report(f"Time is up after {number} of {budget.rounds} rounds.")
                    break
                if number >= budget.rounds:
                    reason = _misfit(target, meter.steps(plan))
                    if not reason:
                        break
                    report(f"{reason}: once more.")
                await meter.round(plan, f"round {number + 1} of {max(budget.rounds, number + 1)}")
                await meter.prompts(min(PROMPT_BATCH, most), _longest_prompt(target))
                # After every round, so that a spoilt measurement ends at once.
                notes = foreign_traffic(
                    target, before, await read_metrics(http), generator.sent, force=force
                )
            requests = generator.sent
    steps = meter.steps(plan)
    require_times(target, steps.values())
    speed, residual = _fitted(target, steps, meter.prompt_seconds(min(PROMPT_BATCH, most)))
    rows = tuple(
        MeasuredRow(
            batch_plan.batch,
            batch_plan.adapters,
            step,
            step_seconds(speed, batch_plan.batch, batch_plan.adapters),
        )
        for batch_plan, step in steps.items()
    )
    profile = Profile(
        base=target.base.name,
        kind=target.kind,
        tensor_parallel=target.tensor_parallel,
        max_lora_rank=target.max_lora_rank,
        vllm=snapshot.version,
        dtype=target.base.dtype,
        speed=speed,
        residual=residual,
        reserve_bytes=reserve(target, before, snapshot.version),
        weight_bytes=target.base.shape.weight_bytes if target.base.shape else None,
    )
    return Calibration(profile, rows, requests, time.monotonic() - began, notes)


def _misfit(target: CalibrationTarget, steps: Mapping[BatchPlan, float]) -> str:
    """Return the reason for more rounds; empty if the law fits the times so far."""
    if min(steps.values()) <= 0:
        return "A batch was too short to tell"
    off = _fitted(target, steps, None)[1]
    return f"The law is off by {100 * off:.0f} % somewhere" if off > WORST_RESIDUAL else ""


def _fitted(
    target: CalibrationTarget, steps: Mapping[BatchPlan, float], prompt_s: float | None
) -> tuple[Speed, float]:
    """Fit the law; figures that were not measured come from the estimate."""
    guess = estimate_speed(target.base, target.kind, target.tensor_parallel, target.max_lora_rank)
    largest = max(
        (batch_plan for batch_plan in steps if not batch_plan.adapters),
        key=lambda batch_plan: batch_plan.batch,
    )
    decoded = steps[largest] / largest.batch
    usual = guess.prompt_weight if guess else 0.1
    return fit(
        (Point(batch_plan.batch, batch_plan.adapters, step) for batch_plan, step in steps.items()),
        prompt_weight=usual if prompt_s is None else prompt_s / decoded,
        spread=guess.spread if guess else 0.0,
    )


def _longest_prompt(target: CalibrationTarget) -> int:
    """Return the upper bound of a prompt's tokens, with an answer of 1 token."""
    shape = target.base.shape
    usual = shape.max_position_embeddings if shape else _USUAL_LENGTH
    return (target.base.max_model_len or usual) - 2


def reserve(target: CalibrationTarget, metrics: ServerMetrics, vllm: str) -> int | None:
    """Return the memory beside weights, slots and KV cache, in bytes per device.

    None if unknown: on a processor, or with a KV cache that is declared in bytes.
    """
    base, device, shape = target.base, target.device, target.base.shape
    given = base.kv_cache_bytes is not None or is_cpu(target.kind)
    if given or device is None or shape is None or metrics.kv_tokens is None:
        return None
    cards = target.tensor_parallel
    pool = pool_bytes(
        shape,
        target.max_loras,
        target.max_lora_rank,
        lora_dtype(base),
        cards,
        fully_sharded=fully_sharded(base),
        vllm=vllm,
    )
    if pool is None:
        return None
    share = target.memory_share or metrics.memory_share or _USUAL_SHARE
    known = weight_bytes(shape, cards) + pool
    cache = metrics.kv_tokens * kv_bytes_per_token(base, cards)
    return max(int(device.memory_bytes * share) - known - cache, 0)


def file_name(profile: Profile) -> str:
    """Return the name of a profile's file: base, kind of device, number of devices, rank."""
    cards = f"-tp{profile.tensor_parallel}" if profile.tensor_parallel > 1 else ""
    return f"{profile.base}-{profile.kind}{cards}-r{profile.max_lora_rank}.json"


def profile_text(calibration: Calibration, server: str, measured: datetime) -> str:
    """Return the text of a profile file, with the measured server and the time."""
    document = {
        "format": PROFILE_FORMAT,
        **asdict(calibration.profile),
        "server": server,
        "measured": measured.isoformat(timespec="seconds"),
        "points": [
            {"batch": row.batch, "active": row.adapters, "step_s": row.measured_s}
            for row in calibration.rows
        ],
        "notes": list(calibration.notes),
    }
    return json.dumps(document, indent=2) + "\n"
