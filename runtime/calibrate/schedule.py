"""Which batches to measure, so that each constant of the law shows in some of them."""

from dataclasses import dataclass

SHORT_TOKENS = 8
"""Output of the short one of each pair of batches; what both have in common cancels out."""
PROMPT_TOKENS = 16


@dataclass(frozen=True, slots=True)
class Effort:
    """How much a calibration may cost."""

    rounds: int = 5
    """Times that every batch is measured; the least time counts."""
    tokens: int = 136
    """Output of the long one of each pair of batches."""
    largest_batch: int = 64
    minutes: float = 20.0
    """No new round is begun after this; one is always finished."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One batch to be measured: so many requests at a time, to so many different adapters."""

    batch: int
    adapters: int
    """0: all requests go to the base."""


def cells(largest: int, adapters: int) -> tuple[Cell, ...]:
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
    several = sorted({each for each in (-(-most // 4), -(-most // 2), most) if each > 1})
    ones = [Cell(size, 1) for size in sizes] if most else []
    return (*(Cell(size, 0) for size in sizes), *ones, *(Cell(largest, each) for each in several))


def largest_batch(wanted: int, kv_tokens: int | None, tokens_per_request: int) -> int:
    """Return the largest batch that the KV cache holds whole, up to `wanted`; at least 1."""
    if kv_tokens is None:
        return max(wanted, 1)
    return max(min(wanted, kv_tokens // max(tokens_per_request, 1)), 1)
