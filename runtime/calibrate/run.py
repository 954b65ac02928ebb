"""One calibration: check, warm up, measure in rounds, fit."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fleet.capacity import WORST_RESIDUAL, Point, estimate_speed, fit, step_seconds
from fleet.hardware import Profile, Speed, is_cpu
from fleet.vllm import fully_sharded, kv_bytes_per_token, lora_dtype, pool_bytes, weight_bytes
from runtime.calibrate.load_generator import LoadGenerator
from runtime.calibrate.measure import (
    PROMPT_BATCH,
    PROMPT_TOKENS,
    SHORT_TOKENS,
    BatchMeter,
    BatchPlan,
    CalibrationBudget,
    Say,
    ServedNames,
    cells,
    largest_batch,
)
from runtime.calibrate.preconditions import foreign, require_adapters, require_idle, require_times
from runtime.calibrate.target import CalibrationTarget
from runtime.engines.vllm_api import look
from runtime.engines.vllm_metrics import ServerMetrics, read_metrics
from runtime.json_client import JsonClient

MOST_ROUNDS = 3
"""Up to so many times the rounds asked for, while the law does not fit: on a busy machine the least
times are found late."""
_USUAL_VOCABULARY = 1000
_USUAL_LENGTH = 2048
_USUAL_SHARE = 0.92


@dataclass(frozen=True, slots=True)
class MeasuredRow:
    """One batch as measured and as the fitted law has it."""

    batch: int
    adapters: int
    measured_s: float
    fitted_s: float

    @property
    def error(self) -> float:
        """Relative error of the law here."""
        return self.fitted_s / self.measured_s - 1


@dataclass(frozen=True, slots=True)
class Calibration:
    """What came out."""

    profile: Profile
    rows: tuple[MeasuredRow, ...]
    requests: int
    seconds: float
    notes: tuple[str, ...]
    """What a reader should know, such as that clients used the server meanwhile."""


async def calibrate(
    subject: CalibrationTarget,
    effort: CalibrationBudget,
    say: Say,
    *,
    force: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> Calibration:
    """Measure a running server.

    Args:
        subject: The server.
        effort: What it may cost.
        say: Told of each measurement.
        force: Also while clients use the server; the result says so.
        clock: Seconds that never run backwards.

    Raises:
        EngineError: it does not answer, is in use, holds no adapter that it could run, or a
            request failed.
    """
    began = clock()
    async with JsonClient(subject.url, peer=f"server `{subject.server}`") as http:
        sighting = await look(http)
        before = await read_metrics(http)
        require_adapters(subject, sighting.listing.adapters)
        require_idle(subject, None if force else before.in_flight)
        adapters = sorted(sighting.listing.adapters)[: subject.usable_slots]
        tokens = _output_tokens(subject, effort)
        most = largest_batch(effort.largest_batch, before.kv_tokens, PROMPT_TOKENS + tokens)
        plan = cells(most, len(adapters))
        names = ServedNames(sighting.listing.names[0], tuple(adapters))
        async with LoadGenerator(subject.url, http.peer, _vocabulary(subject), clock) as crowd:
            meter = BatchMeter(crowd, names, tokens, say)
            await meter.warm_up(plan)
            notes: tuple[str, ...] = ()
            for number in range(MOST_ROUNDS * effort.rounds):
                if number and clock() > began + 60 * effort.minutes:
                    say(f"Time is up after {number} of {effort.rounds} rounds.")
                    break
                if number >= effort.rounds:
                    reason = _misfit(subject, meter.steps(plan))
                    if not reason:
                        break
                    say(f"{reason}: once more.")
                await meter.round(plan, f"round {number + 1} of {max(effort.rounds, number + 1)}")
                await meter.prompts(min(PROMPT_BATCH, most), _longest_prompt(subject))
                # Looked at after every round, so that a spoilt measurement ends at once.
                notes = foreign(subject, before, await read_metrics(http), crowd.sent, force=force)
            requests = crowd.sent
    steps = meter.steps(plan)
    require_times(subject, steps.values())
    speed, residual = _fitted(subject, steps, meter.prompt_seconds(min(PROMPT_BATCH, most)))
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
        base=subject.base.name,
        kind=subject.kind,
        tensor_parallel=subject.tensor_parallel,
        max_lora_rank=subject.max_lora_rank,
        vllm=sighting.version,
        dtype=subject.base.dtype,
        speed=speed,
        residual=residual,
        reserve_bytes=reserve(subject, before, sighting.version),
    )
    return Calibration(profile, rows, requests, clock() - began, notes)


def _misfit(subject: CalibrationTarget, steps: Mapping[BatchPlan, float]) -> str:
    """Say what is wrong with the times so far; empty when the law fits them."""
    if min(steps.values()) <= 0:
        return "A batch was too short to tell"
    off = _fitted(subject, steps, None)[1]
    return f"The law is off by {100 * off:.0f} % somewhere" if off > WORST_RESIDUAL else ""


def _fitted(
    subject: CalibrationTarget, steps: Mapping[BatchPlan, float], prompt_s: float | None
) -> tuple[Speed, float]:
    """Fit the law; what was not measured is taken from the estimate."""
    guess = estimate_speed(
        subject.base, subject.kind, subject.tensor_parallel, subject.max_lora_rank
    )
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


def _vocabulary(subject: CalibrationTarget) -> int:
    return subject.base.shape.vocab_size if subject.base.shape else _USUAL_VOCABULARY


def _longest_prompt(subject: CalibrationTarget) -> int:
    """Return the tokens that a prompt may have beside an answer of one."""
    shape = subject.base.shape
    usual = shape.max_position_embeddings if shape else _USUAL_LENGTH
    return (subject.base.max_model_len or usual) - 2


def _output_tokens(subject: CalibrationTarget, effort: CalibrationBudget) -> int:
    room = _longest_prompt(subject) - PROMPT_TOKENS
    return max(min(effort.tokens, room), SHORT_TOKENS + 1)


def reserve(subject: CalibrationTarget, metrics: ServerMetrics, vllm: str) -> int | None:
    """Return what is neither weights nor slots nor KV cache, in bytes per device.

    None where that does not follow: a KV cache that is given in bytes says nothing of the rest,
    nor does a processor's memory.
    """
    base, device, shape = subject.base, subject.device, subject.base.shape
    given = base.kv_cache_bytes is not None or is_cpu(subject.kind)
    if given or device is None or shape is None or metrics.kv_tokens is None:
        return None
    cards = subject.tensor_parallel
    pool = pool_bytes(
        shape,
        subject.max_loras,
        subject.max_lora_rank,
        lora_dtype(base),
        cards,
        fully_sharded=fully_sharded(base),
        vllm=vllm,
    )
    if pool is None:
        return None
    share = subject.memory_share or metrics.memory_share or _USUAL_SHARE
    known = weight_bytes(shape, cards) + pool
    cache = metrics.kv_tokens * kv_bytes_per_token(base, cards)
    return max(int(device.memory_bytes * share) - known - cache, 0)
