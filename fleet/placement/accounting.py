"""Accounting: the account of every server of a placement.

The accounts are computed again from the declarations, the placement and the laws alone, so that
`explain` and the checks do not repeat what the search believed.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from math import inf

from fleet.capacity import (
    IDLE,
    NO_REQUEST_MIX,
    USUAL_PROMPT_WEIGHT,
    Load,
    ServerShape,
    Throughput,
    load_of,
    memory_of,
    prompt_seconds,
    request_mix_of,
    speed_of,
    step_under_load,
    throughput_of,
)
from fleet.hardware import AttachedServerSpec, DeviceSpec, Speed
from fleet.names import alias_of
from fleet.placement.accounts import AdapterAccount, RankInflation, ServerAccount
from fleet.placement.result import PlacementResult
from fleet.resources import Server
from fleet.spec import AdapterSpec, FleetSpec
from fleet.vllm import USABLE, rank_bucket


def placement_accounts(fleet: FleetSpec, placement: PlacementResult) -> Mapping[str, ServerAccount]:
    """Return the account of every server of a placement, by name, sorted."""
    ledger = Accounting(fleet)
    held = residents_of(fleet, placement.bindings)
    crowd = crowds(placement.servers.values())
    return {
        name: ledger.server(server, held.get(name, ()), crowd[name])
        for name, server in sorted(placement.servers.items())
    }


def crowds(servers: Iterable[Server]) -> dict[str, int]:
    """Return how many servers share a server's fullest device, itself included, by name."""
    every = list(servers)
    count: dict[tuple[str, str], int] = defaultdict(int)
    for server in every:
        for device in server.devices:
            count[server.host, device] += 1
    return {
        server.name: max((count[server.host, device] for device in server.devices), default=1)
        for server in every
    }


def residents_of(
    fleet: FleetSpec, bindings: Mapping[str, tuple[str, ...]]
) -> dict[str, tuple[AdapterAccount, ...]]:
    """Return what each server holds by the bindings, by server."""
    found: dict[str, list[AdapterAccount]] = defaultdict(list)
    most: dict[str, int] = defaultdict(int)
    for name, servers in bindings.items():
        most[alias_of(name)] = max(most[alias_of(name)], len(servers))
    loads = {
        alias: replica_load(fleet.adapters.get(alias), replicas) for alias, replicas in most.items()
    }
    for name, servers in sorted(bindings.items()):
        alias, facts = alias_of(name), fleet.versions.get(name)
        declared = fleet.adapters.get(alias)
        cached = declared is not None and declared.residency == "cached"
        rank = facts.rank if facts else 0
        for server in servers:
            found[server].append(AdapterAccount(name, server, rank, cached, loads[alias]))
    return {server: tuple(loads) for server, loads in found.items()}


def replica_load(adapter: AdapterSpec | None, replicas: int) -> Load:
    """Return what each replica of an adapter is asked: the gateway spreads requests evenly.

    All versions together, so that a rollout may go to its end, or back, without a move.

    Args:
        adapter: None: not declared, and so not asked for.
        replicas: Servers that hold it; where that is less than declared, the rest is awaited.
    """
    demand = adapter.demand if adapter else None
    if adapter is None or demand is None:
        return IDLE
    part = 1 / max(adapter.replicas, replicas, 1)
    observed = demand.observed and tuple(share * part for share in demand.observed)
    less = replace(demand, peak_rpm=demand.peak_rpm * part, observed=observed)
    return load_of(less, USUAL_PROMPT_WEIGHT, adapter.slo_s)


class Accounting:
    """Inputs of the accounts of a fleet's servers."""

    def __init__(self, fleet: FleetSpec) -> None:
        """Read the mix of requests of the fleet's adapters once."""
        self.fleet = fleet
        self.request_mixes = request_mix_of(fleet.adapters.values())
        self.attached = {
            attached.name: attached for host in fleet.hosts.values() for attached in host.attached
        }
        self.devices = {
            (host.name, device.name): device
            for host in fleet.hosts.values()
            for device in host.devices
        }

    def server(
        self, server: Server, residents: tuple[AdapterAccount, ...], crowd: int
    ) -> ServerAccount:
        """Return the account of one server.

        Args:
            server: With its flags, or an attached one.
            residents: What it holds, by name.
            crowd: Servers that share its fullest device, itself included.
        """
        theirs = self.attached.get(server.name)
        shape = self.shape(server, crowd)
        slots, rank = _size(server, theirs)
        load = summed(residents)
        made = self.throughput(shape)
        memory = memory_of(shape) if shape else None
        per_slot = _kv_tokens_per_slot(shape)
        return ServerAccount(
            server=server.name,
            base=server.base,
            host=server.host,
            devices=server.devices,
            kind=shape.device.kind if shape else "",
            slots=slots,
            kept=1 if shape and shape.device.kind.startswith("cpu") else 0,
            rank=rank,
            residents=residents,
            load=load.tokens,
            active=load.concurrency,
            limit=tuple(made.at(active) for active in load.concurrency),
            total_bytes=shape.device.memory_bytes if shape else None,
            weights_bytes=memory.weights if memory else None,
            slot_bytes=memory.slots if memory else None,
            kv_bytes=memory.kv if memory else None,
            reserve_bytes=memory.reserve if memory else None,
            kv_tokens=int(memory.kv_tokens) if memory and memory.kv_tokens is not None else None,
            kv_tokens_per_slot=per_slot,
            inflation=_inflation(shape, residents),
            price_per_hour=theirs.price_per_hour if theirs else self._price(server),
            basis=made.basis,
            memory_basis=memory.basis if memory else "unknown",
            vllm=shape.device.vllm if shape else (theirs.vllm if theirs else ""),
            step_s=self._steps(shape, load) if shape else (),
            prompt_s=self._prompts(shape) if shape else 0.0,
            allowed=self.fleet.policy.utilization,
        )

    def shape(self, server: Server, crowd: int) -> ServerShape | None:
        """Return the shape of a managed server; None where flags, base or device are not known."""
        base, device = self.fleet.bases.get(server.base), self._device(server)
        if server.flags is None or base is None or device is None:
            return None
        flags = server.flags
        parts = _parts(server, crowd)
        return ServerShape(
            base, device, flags.tensor_parallel, parts, flags.max_loras, flags.max_lora_rank,
            shared=parts > 1 and flags.memory_share is not None,
        )  # fmt: skip

    def throughput(self, shape: ServerShape | None) -> Throughput:
        """Return what a server of that shape carries."""
        if shape is None:
            return Throughput(inf, 0.0, "unknown")
        mix = self.request_mixes.get(shape.base.name, NO_REQUEST_MIX)
        return throughput_of(shape, mix, self.fleet.profiles, self.fleet.policy.utilization)

    def _steps(self, shape: ServerShape, load: Load) -> tuple[float, ...]:
        """Return the expected seconds of a step by hour; of servers on one device, in turns."""
        speed = self._speed(shape)
        if speed is None:
            return ()
        hours = zip(load.tokens, load.concurrency, strict=True)
        servers = shape.servers_per_device
        return tuple(
            servers * step_under_load(speed, tokens * servers, active) for tokens, active in hours
        )

    def _prompts(self, shape: ServerShape) -> float:
        """Return the seconds in which a token of a prompt is read; 0: not known."""
        speed = self._speed(shape)
        return shape.servers_per_device * prompt_seconds(speed) if speed is not None else 0.0

    def _speed(self, shape: ServerShape) -> Speed | None:
        device = shape.device
        tensor_parallel, rank = shape.tensor_parallel, shape.rank
        return speed_of(
            self.fleet.profiles, shape.base, device, tensor_parallel, rank, vllm=device.vllm
        )[0]

    def _device(self, server: Server) -> DeviceSpec | None:
        return self.devices.get((server.host, server.devices[0])) if server.devices else None

    def _price(self, server: Server) -> float:
        found = (self.devices.get((server.host, device)) for device in server.devices)
        return sum(device.price_per_hour for device in found if device is not None)


def summed(residents: Iterable[AdapterAccount]) -> Load:
    """Return the load of all together; the versions of an alias share theirs."""
    loads = list({alias_of(item.adapter): item.load for item in residents}.values())
    if not loads:
        return IDLE
    return Load(
        tuple(map(sum, zip(*(load.tokens for load in loads), strict=True))),
        tuple(map(sum, zip(*(load.concurrency for load in loads), strict=True))),
    )


def _size(server: Server, theirs: AttachedServerSpec | None) -> tuple[int, int]:
    """Return `max_loras` and `max_lora_rank`; 0 where they are not known."""
    if theirs is not None:
        return theirs.max_loras, theirs.max_lora_rank
    flags = server.flags
    return (flags.max_loras, flags.max_lora_rank) if flags else (0, 0)


def _parts(server: Server, crowd: int) -> int:
    """Return among how many servers the devices' time is divided.

    A share of the memory tells how many servers the device was divided among, present or not.
    """
    share = server.flags.memory_share if server.flags else None
    return crowd if share is None else max(crowd, round(USABLE / share))


def _displaced(shape: ServerShape) -> float | None:
    """Return the bytes, on each device, of a token that slots take the place of.

    None where they take the place of none: the size of the KV cache is declared, or not known.
    """
    memory = memory_of(shape)
    if shape.base.kv_cache_bytes is not None or not memory.kv or not memory.kv_tokens:
        return None
    return memory.kv / memory.kv_tokens


def _kv_tokens_per_slot(shape: ServerShape | None) -> int | None:
    per_token = _displaced(shape) if shape else None
    pool = memory_of(shape).slots if shape else None
    if shape is None or per_token is None or pool is None or not shape.slots:
        return None
    return int(pool / shape.slots / per_token)


def _inflation(
    shape: ServerShape | None, residents: tuple[AdapterAccount, ...]
) -> RankInflation | None:
    """Return what the largest residents cost, where the others would do with a smaller rank."""
    if shape is None or shape.base.max_lora_rank is not None:
        return None
    steps = {item.adapter: rank_bucket(item.rank) or 0 for item in residents}
    owners = tuple(sorted(name for name, bucket in steps.items() if bucket == shape.rank))
    without = max((bucket for bucket in steps.values() if bucket < shape.rank), default=0)
    if not owners or not without:
        return None
    large, small = memory_of(shape).slots, memory_of(replace(shape, rank=without)).slots
    if large is None or small is None:
        return None
    per_token = _displaced(shape)
    return RankInflation(
        adapters=owners,
        rank=shape.rank,
        without=without,
        slots=max(shape.slots - len(owners), 0),
        bytes=large - small,
        kv_tokens=int((large - small) / per_token) if per_token else 0,
    )
