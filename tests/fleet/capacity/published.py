"""Published figures, and the figures of our laws in their place."""

import csv
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from math import exp
from pathlib import Path

from fleet.capacity.calibration import Point
from fleet.capacity.decode_law import expected_active
from fleet.hardware import BaseShape
from fleet.vllm.lora_slots import (
    GIB,
    kv_bytes_per_token,
    pool_bytes,
    slot_bytes,
    slot_tensors,
    taken,
    weight_bytes,
)

DATA = Path(__file__).parents[2] / "data"

LLAMA_31_8B = BaseShape(
    "LlamaForCausalLM", 4096, 14336, 32, 32, 8, 128, 128256, 131072, 16_060_522_496
)
QWEN25_7B = BaseShape(
    "Qwen2ForCausalLM", 3584, 18944, 28, 28, 4, 128, 152064, 32768, 15_231_233_024
)
SHAPES = {"llama-3.1-8b": LLAMA_31_8B, "qwen-2.5-7b": QWEN25_7B}
VLLM = "0.8.5"
"""The release of before the build that the published start-ups were of."""
CONTEXTS = {"llama-3.1-8b": 131072, "qwen-2.5-7b": 32768}


def rows(name: str) -> Iterator[dict[str, str]]:
    """The rows of a table in `tests/data`, its comments left out."""
    with (DATA / name).open(encoding="utf-8") as file:
        yield from csv.DictReader(line for line in file if not line.startswith("#"))


@dataclass(frozen=True, slots=True)
class Startup:
    """A start of a server, and the figures of our law."""

    model: str
    max_loras: int
    max_lora_rank: int
    started: bool
    kv_bytes: float | None
    loaded_bytes: float | None

    @property
    def tensors(self) -> int:
        """Bytes of the tensors of weights and slots."""
        shape = SHAPES[self.model]
        slot = slot_bytes(shape, self.max_lora_rank, vllm=VLLM)
        assert slot is not None
        return weight_bytes(shape) + self.max_loras * slot

    @property
    def allocated(self) -> int:
        """Bytes of the blocks that hold them, as `Model loading took` counts."""
        return taken([*weights(self.model), *slots(self)]).allocated

    @property
    def law(self) -> int:
        """Weights and slots as the planner counts them."""
        shape = SHAPES[self.model]
        pool = pool_bytes(shape, self.max_loras, self.max_lora_rank, vllm=VLLM)
        assert pool is not None
        return weight_bytes(shape) + pool


def weights(model: str) -> Iterator[int]:
    """Yield the bytes of a model's 16 bit tensors, in the order in which vLLM makes them."""
    shape, halves = SHAPES[model], 2
    hidden, inner = shape.hidden_size * halves, shape.intermediate_size
    rows = (shape.num_attention_heads + 2 * shape.num_key_value_heads) * shape.head_dim
    yield shape.vocab_size * hidden
    for _ in range(shape.num_hidden_layers):
        yield rows * hidden
        if shape.architecture.startswith("Qwen"):
            yield rows * halves
        yield shape.num_attention_heads * shape.head_dim * hidden
        yield from (2 * inner * hidden, inner * hidden, hidden, hidden)
    yield from (hidden, shape.vocab_size * hidden)
    yield CONTEXTS[model] * shape.head_dim * halves


def slots(startup: "Startup") -> list[int]:
    """Bytes of the tensors of all slots of a start-up."""
    shape, unit = SHAPES[startup.model], 2 * startup.max_loras
    tensors = slot_tensors(shape, vllm=VLLM)
    wide = 3 if startup.model.startswith("llama") else 0
    return [each * startup.max_lora_rank * unit for each in tensors] + [
        256 * shape.hidden_size * unit
    ] * wide


@cache
def startups() -> tuple[Startup, ...]:
    found = []
    for row in rows("startups.csv"):
        per_token = kv_bytes_per_token(SHAPES[row["model"]])
        kv = float(row["kv_tokens"]) * per_token if row["kv_tokens"] else None
        if row["kv_gib"]:
            kv = float(row["kv_gib"]) * GIB
        found.append(
            Startup(
                row["model"],
                int(row["max_loras"]),
                int(row["max_lora_rank"]),
                row["started"] == "yes",
                kv,
                float(row["loaded_gib"]) * GIB if row["loaded_gib"] else None,
            )
        )
    return tuple(found)


def usable_bytes(model: str, law: Callable[[Startup], int]) -> float:
    """Return the bytes of weights, slots and KV cache on that card: the single fitted figure.

    The middle of the range over the start-ups of a model; the rest is the reserve.
    """
    sums = [
        each.kv_bytes + law(each)
        for each in startups()
        if each.model == model and each.kv_bytes is not None
    ]
    return (min(sums) + max(sums)) / 2


@dataclass(frozen=True, slots=True)
class Series:
    """A model at an output length: step times by number of adapters with traffic."""

    model: str
    output_tokens: int
    points: tuple[Point, ...]
    residents: tuple[Point, ...]
    """The same with the number of resident adapters in the place of the active ones."""


def series() -> list[Series]:
    groups: dict[tuple[str, int], list[tuple[Point, Point]]] = {}
    for row in rows("step_times.csv"):
        batch, adapters = int(row["batch"]), int(row["adapters"])
        active = expected_active([1 / adapters] * adapters, batch)
        step = float(row["step_ms"]) / 1000
        pair = (Point(batch, active, step), Point(batch, adapters, step))
        groups.setdefault((row["model"], int(row["output_tokens"])), []).append(pair)
    return [
        Series(model, tokens, *zip(*pairs, strict=True))
        for (model, tokens), pairs in groups.items()
    ]


def expected_busy(rates: Iterable[float], seconds: float) -> float:
    """Return the number of different adapters to be expected with a request in flight.

    Adapters wait for each other where this number is above `max_loras`.

    Args:
        rates: Requests per second of the adapters.
        seconds: Seconds that a request stays.

    Source:
        Poisson arrivals: an adapter is idle with `exp(-rate * seconds)`. On the 119 published
        runs that met their demand, more than `max_loras` catches 51 of the 52 whose median time
        to first token was over 1 s, with 11 false alarms of 67; more than 0.9 * `max_loras`
        misses none (Agulló et al. 2025, arXiv:2508.08343).
    """
    return sum(1 - exp(-rate * seconds) for rate in rates)


@dataclass(frozen=True, slots=True)
class Starvation:
    """A run that met its demand: whether its adapters waited, and the figures of the rule."""

    slow: bool
    busy: float
    """Adapters expected in flight."""
    adapters: int
    max_loras: int


def starvation_runs() -> list[Starvation]:
    found = []
    for row in rows("starvation_runs.csv"):
        adapters, served = int(row["adapters"]), float(row["served_rps"])
        answer = float(row["output_tokens_per_s"]) / served
        seconds = answer * float(row["itl_ms"]) / 1000
        rate = float(row["demand_rps"]) / adapters
        found.append(
            Starvation(
                slow=float(row["ttft_p50_ms"]) > 1000,
                busy=expected_busy([rate] * adapters, seconds),
                adapters=adapters,
                max_loras=int(row["max_loras"]),
            )
        )
    return found
