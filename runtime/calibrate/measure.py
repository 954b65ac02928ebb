"""Which batches to measure, so that every constant of the law shows, and their step times."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

SHORT_TOKENS = 8
"""Output of the short one of each pair of batches; what both have in common cancels out."""
PROMPT_TOKENS = 16


@dataclass(frozen=True, slots=True)
class CalibrationBudget:
    """Upper bounds of what a calibration costs."""

    rounds: int = 5
    """Times that every batch is measured; the least time counts."""
    tokens: int = 136
    """Output of the long one of each pair of batches."""
    largest_batch: int = 64
    minutes: float = 20.0
    """No new round is begun after this; one is always finished."""


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """One batch to be measured: so many requests at a time, to so many different adapters."""

    batch: int
    adapters: int
    """0: all requests go to the base."""


def batch_plans(largest: int, adapters: int) -> tuple[BatchPlan, ...]:
    """Return what to measure, cheapest first.

    Args:
        largest: Requests at a time that the server can take.
        adapters: Adapters that it can run at a time.

    The base alone at three sizes shows what a step and a request cost, and whether that is a
    line; one adapter at the same sizes, what both cost with LoRA; more adapters in the largest,
    what each of them adds.
    """
    sizes = sorted({max(largest // 8, 1), max(largest // 2, 1), largest})
    most = min(adapters, largest)
    several = sorted({count for count in (-(-most // 4), -(-most // 2), most) if count > 1})
    ones = [BatchPlan(size, 1) for size in sizes] if most else []
    return (
        *(BatchPlan(size, 0) for size in sizes),
        *ones,
        *(BatchPlan(largest, count) for count in several),
    )


def largest_batch(wanted: int, kv_tokens: int | None, tokens_per_request: int) -> int:
    """Return the largest batch that the KV cache holds whole, up to `wanted`; at least 1."""
    if kv_tokens is None:
        return max(wanted, 1)
    return max(min(wanted, kv_tokens // max(tokens_per_request, 1)), 1)


LONG_PROMPT = 256
PROMPT_BATCH = 8

ReportProgress = Callable[[str], None]


class Batches(Protocol):
    """Sends batches and times them; `LoadGenerator` does so on a server."""

    async def batch_seconds(
        self, models: Sequence[str], prompt_tokens: int, output_tokens: int
    ) -> float:
        """Send one request per model at once; return the seconds until all are answered."""
        ...


@dataclass(frozen=True, slots=True)
class ServedNames:
    """Names that requests go to."""

    base: str
    adapters: tuple[str, ...]

    def of(self, batch_plan: BatchPlan) -> list[str]:
        """Return the name for each request of a batch, adapters in turn."""
        if not batch_plan.adapters:
            return [self.base] * batch_plan.batch
        return [self.adapters[at % batch_plan.adapters] for at in range(batch_plan.batch)]


class BatchMeter:
    """Measures one server; keeps the least time of each batch over the rounds.

    The least, because whatever else a machine does can only add to a time.
    """

    def __init__(
        self, generator: Batches, names: ServedNames, tokens: int, report: ReportProgress
    ) -> None:
        """Prepare; nothing is sent.

        Args:
            generator: Sends the batches.
            names: Names that requests go to.
            tokens: Output of the long one of each pair of batches; more than `SHORT_TOKENS`.
            report: Takes a line per measurement.
        """
        self._generator, self._names, self._tokens, self._report = generator, names, tokens, report
        self._least: dict[tuple[BatchPlan, int], float] = {}
        self._prompts: dict[int, float] = {}

    async def warm_up(self, plan: Sequence[BatchPlan]) -> None:
        """Run each batch once: adapters come into their slots, kernels are compiled."""
        for batch_plan in plan:
            self._report(f"warming up: {words(batch_plan)}")
            await self._generator.batch_seconds(
                self._names.of(batch_plan), PROMPT_TOKENS, SHORT_TOKENS
            )

    async def round(self, plan: Sequence[BatchPlan], label: str) -> None:
        """Measure every batch once, so that a slow minute does not fall on one of them alone."""
        for batch_plan in plan:
            models = self._names.of(batch_plan)
            for tokens in (SHORT_TOKENS, self._tokens):
                seconds = await self._generator.batch_seconds(models, PROMPT_TOKENS, tokens)
                self._least[batch_plan, tokens] = min(
                    seconds, self._least.get((batch_plan, tokens), seconds)
                )
            step = self.step_seconds(batch_plan)
            told = f"{1000 * step:.2f} ms per step" if step > 0 else "too short to tell"
            self._report(f"{label}: {words(batch_plan)}: {told}")

    async def prompts(self, batch: int, longest: int) -> None:
        """Measure what prompts cost; nothing where the server takes none longer than usual."""
        if (length := min(LONG_PROMPT, longest)) <= PROMPT_TOKENS:
            return
        for tokens in (PROMPT_TOKENS, length):
            seconds = await self._generator.batch_seconds([self._names.base] * batch, tokens, 1)
            self._prompts[tokens] = min(seconds, self._prompts.get(tokens, seconds))

    def step_seconds(self, batch_plan: BatchPlan) -> float:
        """Return the seconds between two tokens of a request of such a batch.

        From the difference of a long and a short one, which leaves the steps alone: prompts,
        network and the wait for the first token cancel out. 0 or less where the machine was so
        busy that the short one took no less.
        """
        longer = self._least[batch_plan, self._tokens] - self._least[batch_plan, SHORT_TOKENS]
        return longer / (self._tokens - SHORT_TOKENS)

    def steps(self, plan: Sequence[BatchPlan]) -> dict[BatchPlan, float]:
        """Return the seconds of a step of each batch."""
        return {batch_plan: self.step_seconds(batch_plan) for batch_plan in plan}

    def prompt_seconds(self, batch: int) -> float | None:
        """Return the seconds that a prompt token costs; None where it was not measured."""
        if not self._prompts:
            return None
        short, long = min(self._prompts), max(self._prompts)
        return max(self._prompts[long] - self._prompts[short], 0.0) / (batch * (long - short))


def words(batch_plan: BatchPlan) -> str:
    """Return the description of a batch for people."""
    many = f"{batch_plan.batch} request{'s' if batch_plan.batch > 1 else ''} at a time"
    match batch_plan.adapters:
        case 0:
            return f"base alone, {many}"
        case 1:
            return f"1 adapter, {many}"
        case more:
            return f"{more} adapters, {many}"
