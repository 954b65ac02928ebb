"""Figures that others published, and what our laws say in their place."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fleet.budget import GIB, kv_bytes_per_token, slot_bytes, weight_bytes
from fleet.declared import BaseShape
from fleet.throughput import Point, expected_active, expected_busy

DATA = Path(__file__).parents[2] / "data"

LLAMA_31_8B = BaseShape(
    "LlamaForCausalLM", 4096, 14336, 32, 32, 8, 128, 128256, 131072, 16_060_522_496
)
QWEN25_7B = BaseShape(
    "Qwen2ForCausalLM", 3584, 18944, 28, 28, 4, 128, 152064, 32768, 15_231_233_024
)
SHAPES = {"llama-3.1-8b": LLAMA_31_8B, "qwen-2.5-7b": QWEN25_7B}
CONTEXTS = {"llama-3.1-8b": 131072, "qwen-2.5-7b": 32768}


def rows(name: str) -> Iterator[dict[str, str]]:
    """The rows of a table in `tests/data`, its comments left out."""
    with (DATA / name).open(encoding="utf-8") as file:
        yield from csv.DictReader(line for line in file if not line.startswith("#"))


@dataclass(frozen=True, slots=True)
class Startup:
    """One start of a server, and what our law gives for it."""

    model: str
    max_loras: int
    max_lora_rank: int
    started: bool
    kv_bytes: float | None
    loaded_bytes: float | None

    @property
    def law_loaded(self) -> int:
        """Weights and slots by our law.

        That version reserved 3 x 256 x hidden more per Llama slot, for `lora_extra_vocab_size`,
        which later ones do not have.
        """
        shape = SHAPES[self.model]
        slot = slot_bytes(shape, self.max_lora_rank)
        assert slot is not None
        extra = 3 * 256 * shape.hidden_size * 2 if self.model.startswith("llama") else 0
        return weight_bytes(shape) + self.max_loras * (slot + extra)


def startups() -> list[Startup]:
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
    return found


def usable_bytes(model: str) -> float:
    """What weights, slots and KV cache share on that card: the one figure that is fitted.

    The middle of the range over the start-ups of a model; the rest is the reserve.
    """
    sums = [
        each.kv_bytes + each.law_loaded
        for each in startups()
        if each.model == model and each.kv_bytes is not None
    ]
    return (min(sums) + max(sums)) / 2


@dataclass(frozen=True, slots=True)
class Series:
    """One model at one output length: step times by number of adapters with traffic."""

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


@dataclass(frozen=True, slots=True)
class Starvation:
    """One run that met its demand: did its adapters wait, and would a rule have said so?"""

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
