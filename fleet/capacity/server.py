"""Computes the memory of a server by part, and its throughput: law, not search."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import inf

from fleet.capacity.calibration import speed_of
from fleet.capacity.decode_law import MAX_NUM_SEQS, batch_of_step, capacity, step_within
from fleet.hardware import NO_BASIS, BaseShape, BaseSpec, Basis, DeviceSpec, Profile, Speed, is_cpu
from fleet.resources import ServerFlags
from fleet.spec import AdapterSpec, DemandSpec
from fleet.vllm import (
    USABLE,
    assumption,
    fully_sharded,
    kv_bytes_per_token,
    least_kv_bytes,
    lora_dtype,
    pool_bytes,
    reserve_bytes,
    servers_per_device_of,
    slot_bytes,
    unchecked,
    weight_bytes,
)

USUAL_PROMPT_WEIGHT = 0.3
"""Cost of a prompt token in decoded tokens, for loads that must not depend on the device.

Prompts are computed many tokens at a time: a fifth to two fifths by the estimates for common GPUs.
"""

LEAST_BATCH = 8
"""Lower bound of the batch that a promised latency must allow; below, the promise is left out."""

SPAN = 1.5
"""Upper bound of the longest answer of adapters that are alike, as a multiple of their shortest."""

LIST_CONTEXT = 64
"""Unit to which mean contexts are rounded up, in tokens: an edited adapter changes no server."""


@dataclass(frozen=True, slots=True)
class ServerShape:
    """A server without its name: base, kind and number of devices, flags."""

    base: BaseSpec
    device: DeviceSpec
    """The first of its devices; all are alike."""
    tensor_parallel: int
    servers_per_device: int
    slots: int
    rank: int
    shared: bool
    """Whether its memory is a part of the device, and not all that is usable."""

    @property
    def memory_share(self) -> float:
        """Part of a device's memory that the server may take."""
        return round(USABLE / self.servers_per_device, 3) if self.shared else USABLE


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """Bytes of a server on a device; None: not known."""

    weights: int | None
    slots: int | None
    reserve: int
    kv: int | None
    """Bytes of the KV cache: declared, or left by the other parts."""
    kv_tokens: float | None
    """Tokens that the KV cache of all devices together holds."""
    basis: Basis


@dataclass(frozen=True, slots=True, order=True)
class LatencyTarget:
    """A promised time, with the longest prompts and answers of the adapters that are alike."""

    slo_s: float
    prompt_tokens: int
    output_tokens: int

    @property
    def token_s(self) -> float:
        """Upper bound of a step's time, whatever the device."""
        return self.slo_s / (self.output_tokens + 1)


NO_PROMISES: frozenset[LatencyTarget] = frozenset()


@dataclass(frozen=True, slots=True)
class RequestMix:
    """Mean requests to the adapters of a base."""

    context: int
    """Tokens that a request keeps in the KV cache on average over its life."""
    targets: tuple[LatencyTarget, ...]
    """Promises of tiers, those with the most time for a token first; aims of classes are none."""

    def promise(self, adapter: AdapterSpec | None) -> LatencyTarget | None:
        """Return the promise for the answers of an adapter; None: nothing is promised."""
        if adapter is None or not adapter.promised:
            return None
        demand = adapter.demand or DemandSpec(0.0)
        alike = (target for target in self.targets if target.slo_s == adapter.slo_s)
        longer = (target for target in alike if target.output_tokens >= demand.output_tokens)
        return next(longer, None)


@dataclass(frozen=True, slots=True)
class Throughput:
    """Tokens a second of a server: `limit / (1 + spread * (active - 1))`."""

    limit: float
    """Decode-equivalent tokens per second with a single active adapter; infinite: not known."""
    spread: float
    basis: Basis

    def at(self, active: float) -> float:
        """Return tokens per second while `active` different adapters are in the batch."""
        return self.limit / (1 + self.spread * max(active - 1, 0.0))


def request_mix_of(adapters: Iterable[AdapterSpec]) -> Mapping[str, RequestMix]:
    """Return the request mix by base, sorted, from declared or observed demand."""
    groups: dict[str, list[tuple[AdapterSpec, DemandSpec]]] = {}
    for adapter in adapters:
        if adapter.demand is not None:
            groups.setdefault(adapter.name.base, []).append((adapter, adapter.demand))
    return {base: _request_mix(group) for base, group in sorted(groups.items())}


def _request_mix(group: Sequence[tuple[AdapterSpec, DemandSpec]]) -> RequestMix:
    promised = {
        (adapter.slo_s, demand.output_tokens, demand.prompt_tokens)
        for adapter, demand in group
        if adapter.promised
    }
    targets: list[LatencyTarget] = []
    for slo_s, output, prompt in sorted(promised, reverse=True):
        last = targets[-1] if targets else None
        if last and last.slo_s == slo_s and last.output_tokens + 1 <= SPAN * (output + 1):
            targets[-1] = replace(last, prompt_tokens=max(prompt, last.prompt_tokens))
        else:
            targets.append(LatencyTarget(slo_s, prompt, output))
    # A request holds its prompt all the time, and half of its answer on average.
    mean = sum(demand.prompt_tokens + demand.output_tokens / 2 for _, demand in group) / len(group)
    context = -int(-mean // LIST_CONTEXT) * LIST_CONTEXT
    most_time_first = sorted(targets, key=lambda target: (-target.token_s, target))
    return RequestMix(max(context, LIST_CONTEXT), tuple(most_time_first))


NO_REQUEST_MIX = RequestMix(512, ())
"""Request mix of a base without any known demand."""


@lru_cache(maxsize=65536)
def memory_of(shape: ServerShape) -> DeviceMemory:
    """Return a server's memory by part."""
    base, device, devices = shape.base, shape.device, shape.tensor_parallel
    measured = base.reserve(device.kind, devices, device.vllm)
    reserve = reserve_bytes(device, measured and measured[0])
    if base.shape is None:
        return DeviceMemory(None, None, reserve, base.kv_cache_bytes, None, NO_BASIS)
    weights = weight_bytes(base.shape, devices)
    version = device.vllm or (measured[1] if measured else "")
    pool = _pool(base.shape, shape, version)
    kv = base.kv_cache_bytes
    if kv is None and pool is not None:
        kv = int(device.memory_bytes * shape.memory_share) - weights - pool - reserve
    tokens = None if kv is None else max(kv, 0) / kv_bytes_per_token(base, devices)
    basis = _basis(pool, version, unchecked(base.shape), measured=measured is not None)
    return DeviceMemory(weights, pool, reserve, kv, tokens, basis)


def _basis(pool: int | None, version: str, doubt: str, *, measured: bool) -> Basis:
    """Return the basis of a server's bytes: that of the worst of their parts.

    `uncalibrated` alone stands for an engine of an unknown version too.
    """
    if pool is None:
        return NO_BASIS
    if doubt := doubt or (version and assumption(version)):
        return Basis("uncalibrated", doubt)
    return Basis("calibrated" if measured else "uncalibrated")


def _pool(base_shape: BaseShape, shape: ServerShape, version: str) -> int | None:
    """Return the bytes of a server's slots on a device; None: unknown architecture."""
    dtype = lora_dtype(shape.base)
    sharded = fully_sharded(shape.base)
    if not is_cpu(shape.device.kind):
        return pool_bytes(
            base_shape, shape.slots, shape.rank, dtype, shape.tensor_parallel,
            fully_sharded=sharded, vllm=version,
        )  # fmt: skip
    slot = slot_bytes(
        base_shape, shape.rank, dtype, shape.tensor_parallel, fully_sharded=sharded, vllm=version
    )
    return None if slot is None else slot * shape.slots


@lru_cache(maxsize=65536)
def least_bytes(shape: ServerShape) -> int:
    """Return the least bytes that a server needs on a device; an unknown part counts as 0."""
    memory = memory_of(shape)
    least = least_kv_bytes(shape.base, shape.tensor_parallel)
    return (memory.weights or 0) + (memory.slots or 0) + memory.reserve + least


@lru_cache(maxsize=65536)
def throughput_of(
    shape: ServerShape,
    request_mix: RequestMix,
    profiles: tuple[Profile, ...],
    utilization: float,
    promises: frozenset[LatencyTarget] = NO_PROMISES,
) -> Throughput:
    """Return the throughput of a server, of which load may take the part `utilization`.

    The batch is the largest that the KV cache, the engine and the `promises` for adapters on the
    server allow. A promise that the server cannot keep at all is left out, see `keeps`. Servers
    that share a device take turns.
    """
    speed, basis = speed_of(
        profiles, shape.base, shape.device, shape.tensor_parallel, shape.rank,
        vllm=shape.device.vllm,
    )  # fmt: skip
    tokens = memory_of(shape).kv_tokens
    if speed is None or tokens is None:
        return Throughput(inf, 0.0, NO_BASIS)
    servers = shape.servers_per_device
    batches = (_batch_within(speed, promise, servers) for promise in promises)
    promised_batch = min((size for size in batches if size >= LEAST_BATCH), default=MAX_NUM_SEQS)
    batch = int(min(promised_batch, MAX_NUM_SEQS))
    best = capacity(speed, tokens, request_mix.context, batch, 1) / servers
    return Throughput(utilization * best, speed.spread, basis)


def _batch_within(speed: Speed, promise: LatencyTarget, servers: int) -> float:
    """Return the largest batch that keeps a promise on a device that `servers` take turns on."""
    slo_s = promise.slo_s / servers
    step = step_within(speed, promise.prompt_tokens, promise.output_tokens, slo_s)
    return batch_of_step(speed, 1, step)


@lru_cache(maxsize=65536)
def keeps(shape: ServerShape, profiles: tuple[Profile, ...], promise: LatencyTarget) -> bool:
    """Say whether a server keeps a promise with `LEAST_BATCH` requests at a time; or is unknown."""
    speed, _ = speed_of(
        profiles, shape.base, shape.device, shape.tensor_parallel, shape.rank,
        vllm=shape.device.vllm,
    )  # fmt: skip
    return speed is None or _batch_within(speed, promise, shape.servers_per_device) >= LEAST_BATCH


def shape_of(base: BaseSpec, device: DeviceSpec, flags: ServerFlags) -> ServerShape:
    """Return the shape of a server with these flags, alone on its devices."""
    servers = servers_per_device_of(flags)
    return ServerShape(
        base, device, flags.tensor_parallel, servers, flags.max_loras, flags.max_lora_rank,
        shared=servers > 1,
    )  # fmt: skip
