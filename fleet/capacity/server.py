"""Computes what one server holds and carries: its memory by part, and its throughput.

The figures are law, not search: placement, checks and `explain` all ask here.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import inf

from fleet.capacity.calibration import speed_of
from fleet.capacity.decode_law import MAX_NUM_SEQS, batch_of_step, capacity, step_within
from fleet.hardware import BaseShape, BaseSpec, DeviceSpec, Profile, is_cpu
from fleet.resources import ServerFlags
from fleet.spec import AdapterSpec
from fleet.vllm import (
    USABLE,
    assumption,
    fully_sharded,
    kv_bytes_per_token,
    least_kv_bytes,
    lora_dtype,
    parts_of,
    pool_bytes,
    reserve_bytes,
    slot_bytes,
    weight_bytes,
)

USUAL_PROMPT_WEIGHT = 0.3
"""Cost of a prompt token in decoded tokens, for loads that must not depend on the device.

Prompts are computed many tokens at a time, so a token of them costs a fraction of a decoded
one: between a fifth and two fifths by the estimates for common GPUs.
"""

LEAST_BATCH = 8
"""A promised latency that would allow fewer requests at a time counts as out of reach here."""

LIST_CONTEXT = 64
"""Mean contexts are rounded up to this, so that one edited adapter does not change a server."""


@dataclass(frozen=True, slots=True)
class ServerShape:
    """How one server is cut: what it runs, on which kind of device, with which flags."""

    base: BaseSpec
    device: DeviceSpec
    """One of its devices; all are alike."""
    tensor_parallel: int
    parts: int
    """Servers among which each device's time is divided."""
    slots: int
    rank: int
    shared: bool
    """Whether its memory is a part of the device, and not all that is usable."""

    @property
    def memory_share(self) -> float:
        """Part of each device's memory that the server may take."""
        return round(USABLE / self.parts, 3) if self.shared else USABLE


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """Bytes of one server on each of its devices; None: not known."""

    weights: int | None
    slots: int | None
    reserve: int
    kv: int | None
    """What is left for the KV cache, or what is declared for it."""
    kv_tokens: float | None
    """Tokens that the KV cache of all devices together holds."""
    basis: str
    """How good the figures are: `calibrated`, `uncalibrated`, `uncalibrated (…)`, or `unknown`."""


@dataclass(frozen=True, slots=True, order=True)
class LatencyTarget:
    """When a tier promises the answers of a latency class, and how long they are on average."""

    slo_s: float
    """Promised p95 of a whole answer, in seconds."""
    prompt_tokens: float
    output_tokens: float


@dataclass(frozen=True, slots=True)
class RequestMix:
    """How the adapters of one base are asked, on average."""

    context: int
    """Tokens that a request keeps in the KV cache on average over its life."""
    dues: tuple[LatencyTarget, ...]
    """What tiers promise, the shortest time first; what is only usual of a class binds nobody."""


@dataclass(frozen=True, slots=True)
class Throughput:
    """What one server carries: `limit / (1 + spread * (active - 1))` tokens a second."""

    limit: float
    """Decode-equivalent tokens per second while one adapter is active; infinite: not known."""
    spread: float
    basis: str
    """How good the figure is: `uncalibrated`, `calibrated, …` or `unknown`."""

    def at(self, active: float) -> float:
        """Return tokens per second while `active` different adapters are in the batch."""
        return self.limit / (1 + self.spread * max(active - 1, 0.0))


def request_mix_of(adapters: Iterable[AdapterSpec]) -> Mapping[str, RequestMix]:
    """Return the habits of every base's adapters, by base, from declared or observed demand."""
    groups: dict[str, list[AdapterSpec]] = {}
    for adapter in adapters:
        if adapter.demand is not None:
            groups.setdefault(adapter.name.base, []).append(adapter)
    return {base: _habits(its) for base, its in sorted(groups.items())}


def _habits(adapters: Iterable[AdapterSpec]) -> RequestMix:
    every: list[tuple[int, int]] = []
    promised: dict[float, list[tuple[int, int]]] = {}
    for adapter in adapters:
        if adapter.demand is not None:
            asked = (adapter.demand.prompt_tokens, adapter.demand.output_tokens)
            every.append(asked)
            if adapter.promised:
                promised.setdefault(adapter.slo_s, []).append(asked)
    # A request holds its prompt all the time, and half of its answer on average.
    mean = sum(prompt + output / 2 for prompt, output in every) / len(every)
    context = -int(-mean // LIST_CONTEXT) * LIST_CONTEXT
    dues = (
        LatencyTarget(
            slo,
            sum(prompt for prompt, _ in asked) / len(asked),
            sum(output for _, output in asked) / len(asked),
        )
        for slo, asked in promised.items()
    )
    return RequestMix(max(context, LIST_CONTEXT), tuple(sorted(dues)))


NO_REQUEST_MIX = RequestMix(512, ())
"""Of a base for whose adapters no demand is known."""


@lru_cache(maxsize=65536)
def memory_of(shape: ServerShape) -> DeviceMemory:
    """Return a server's memory by part."""
    base, device, cards = shape.base, shape.device, shape.tensor_parallel
    measured = base.reserve(device.kind, cards, device.vllm)
    reserve = reserve_bytes(device, measured and measured[0])
    if base.shape is None:
        return DeviceMemory(None, None, reserve, base.kv_cache_bytes, None, "unknown")
    weights = weight_bytes(base.shape, cards)
    vllm = device.vllm or (measured[1] if measured else "")
    pool = _pool(base.shape, shape, vllm)
    kv = base.kv_cache_bytes
    if kv is None and pool is not None:
        kv = int(device.memory_bytes * shape.memory_share) - weights - pool - reserve
    per_token = kv_bytes_per_token(base, cards)
    tokens = None if kv is None else max(kv, 0) / per_token
    return DeviceMemory(
        weights, pool, reserve, kv, tokens, _basis(pool, vllm, measured=measured is not None)
    )


def _basis(pool: int | None, vllm: str, *, measured: bool) -> str:
    """Say how good a server's figures are: as good as the worst of their parts.

    Where nothing is known of the engine, `uncalibrated` says enough.
    """
    if pool is None:
        return "unknown"
    doubt = assumption(vllm) if vllm else ""
    if doubt:
        return f"uncalibrated ({doubt})"
    return "calibrated" if measured else "uncalibrated"


def _pool(of: BaseShape, shape: ServerShape, vllm: str) -> int | None:
    """Return what a server's slots take of each device; None: unknown architecture."""
    base, cards, sharded = shape.base, shape.tensor_parallel, fully_sharded(shape.base)
    dtype = lora_dtype(base)
    if not is_cpu(shape.device.kind):
        return pool_bytes(
            of, shape.slots, shape.rank, dtype, cards, fully_sharded=sharded, vllm=vllm
        )
    slot = slot_bytes(of, shape.rank, dtype, cards, fully_sharded=sharded, vllm=vllm)
    return None if slot is None else slot * shape.slots


@lru_cache(maxsize=65536)
def least_bytes(shape: ServerShape) -> int:
    """Return the least bytes a server needs on each device; what is unknown counts as nothing."""
    found = memory_of(shape)
    least = least_kv_bytes(shape.base, shape.tensor_parallel)
    return (found.weights or 0) + (found.slots or 0) + found.reserve + least


@lru_cache(maxsize=65536)
def throughput_of(
    shape: ServerShape, habits: RequestMix, profiles: tuple[Profile, ...], utilization: float
) -> Throughput:
    """Return what a server carries, of which it may take the part `utilization`.

    The batch is the largest that the KV cache, the engine and those promised latencies allow
    that the device can keep at all; servers that share a device take turns on it.
    """
    speed, basis = speed_of(
        profiles,
        shape.base,
        shape.device,
        shape.tensor_parallel,
        shape.rank,
        vllm=shape.device.vllm,
    )
    tokens = memory_of(shape).kv_tokens
    if speed is None or tokens is None:
        return Throughput(inf, 0.0, "unknown")
    batches = [
        batch_of_step(
            speed, 1, step_within(speed, due.prompt_tokens, due.output_tokens, due.slo_s / parts)
        )
        for due in habits.dues
        for parts in [shape.parts]
    ]
    kept = min([size for size in batches if size >= LEAST_BATCH], default=MAX_NUM_SEQS)
    batch = int(min(kept, MAX_NUM_SEQS))
    best = capacity(speed, tokens, habits.context, batch, 1) / shape.parts
    return Throughput(utilization * best, speed.spread, basis)


def shape_of(base: BaseSpec, device: DeviceSpec, flags: ServerFlags) -> ServerShape:
    """Return how a server with these flags is cut, alone on its devices."""
    parts = parts_of(flags)
    return ServerShape(
        base, device, flags.tensor_parallel, parts, flags.max_loras, flags.max_lora_rank,
        shared=parts > 1,
    )  # fmt: skip
