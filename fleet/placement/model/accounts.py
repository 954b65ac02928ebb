"""Accounts: versions, memory, load and price of every server of a placement.

The accounts are computed again from the declarations, the placement and the laws alone, so that
`explain` and the checks do not repeat the figures of the search.

Bytes are per device of a server; loads are decode-equivalent tokens per second.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import inf
from typing import Final

from fleet import capacity
from fleet.capacity import HOURS, USUAL_PROMPT_WEIGHT, Load
from fleet.hardware import NO_BASIS, Basis, is_cpu
from fleet.names import alias_of
from fleet.placement.model.state import PlacementResult
from fleet.plan import ServerMemory
from fleet.resources import Server, State
from fleet.spec import AdapterSpec, FleetSpec
from fleet.vllm import USABLE, rank_bucket


@dataclass(frozen=True, slots=True)
class AdapterAccount:
    """An adapter version on a server."""

    adapter: str
    server: str
    rank: int
    """0: not in the lock."""
    cached: bool
    """Waits in host memory for a slot, and has none of its own."""
    load: Load
    """The alias's load, divided by its replicas; versions of an alias share it on a server."""


@dataclass(frozen=True, slots=True)
class RankInflation:
    """Bytes that the largest ranks of a server cost in all its slots."""

    adapters: tuple[str, ...]
    """Those whose rank alone asks for the server's `max_lora_rank`, sorted."""
    rank: int
    without: int
    """The `max_lora_rank` that all others would need."""
    slots: int
    """Slots that are larger because of them."""
    bytes: int
    kv_tokens: int
    """Tokens that the KV cache would gain without them; 0 where its size is declared."""


@dataclass(frozen=True, slots=True)
class ServerAccount(ServerMemory):
    """A server with its versions; `limit` and `load` are in decode-equivalent tokens/s.

    Bytes are per device.
    """

    base: str
    kind: str
    """The devices' kind, such as `h100_80g`; empty on an attached server."""
    kept: int
    """Slots that stay empty: vLLM's CPU build computes base requests with the last slot."""
    rank: int
    """`max_lora_rank`."""
    residents: tuple[AdapterAccount, ...]
    """By name."""
    load: tuple[float, ...]
    """By hour of the day, UTC."""
    active: tuple[float, ...]
    """Expected different adapters in the running batch, by hour."""
    limit: tuple[float, ...]
    """Load that the server may carry by hour, utilisation included; infinite: not known."""
    kv_tokens: int | None
    """Tokens that the KV cache of all devices together holds."""
    kv_tokens_per_slot: int | None
    """Tokens of KV cache whose place a slot takes."""
    inflation: RankInflation | None
    """None where ranks are even, or sizes not known."""
    price_per_hour: float
    basis: Basis
    """Quality of the throughput figure."""
    memory_basis: Basis = NO_BASIS
    """Quality of the bytes."""
    vllm: str = ""
    """Version of its engine; empty: not known."""
    step_s: tuple[float, ...] = ()
    """Expected seconds of a decoding step, by hour; empty: not known."""
    prompt_s: float = 0.0
    """Seconds in which a token of a prompt is read; 0: not known."""
    allowed: float = 1.0
    """Part of its throughput that `limit` is, by the fleet's policy."""
    prompt_weight: float = USUAL_PROMPT_WEIGHT
    """Cost of a prompt token in decoded tokens."""

    @property
    def pinned(self) -> int:
        """Residents with a slot of their own."""
        return sum(not item.cached for item in self.residents)

    @property
    def cached(self) -> int:
        """Residents without a slot of their own."""
        return len(self.residents) - self.pinned

    @property
    def worst_hour(self) -> int:
        """The hour of the highest utilisation; of those equal to a tenth of a percent, the first.

        The plan's figures are rounded so, and both name the same hour.
        """
        return max(range(HOURS), key=lambda hour: (round(self.part(hour), 3), -hour))

    def utilization(self, hour: int) -> float:
        """Return load over limit in an hour; above 1: overloaded; 0 where no limit is known."""
        limit = self.limit[hour]
        return self.load[hour] / limit if limit > 0 else (inf if self.load[hour] > 0 else 0.0)

    def part(self, hour: int) -> float:
        """Return load over all that the server could carry, policy or not, in an hour."""
        return self.utilization(hour) * self.allowed

    @property
    def peak(self) -> float:
        """Utilisation in the worst hour."""
        return self.utilization(self.worst_hour)


def placement_accounts(fleet: FleetSpec, placement: PlacementResult) -> Mapping[str, ServerAccount]:
    """Return the account of every server of a placement, by name, sorted."""
    residents = residents_of(fleet, placement.bindings)
    return Accounting(fleet).accounts(dict(sorted(placement.servers.items())), residents)


def state_accounts(fleet: FleetSpec, state: State) -> Mapping[str, ServerAccount]:
    """Return the account of every server of a state, by name, sorted; adapters of others apart."""
    bindings: dict[str, tuple[str, ...]] = {}
    for item in state.adapters().values():
        if item.parts is not None:
            bindings[item.adapter] = (*bindings.get(item.adapter, ()), item.server)
    return Accounting(fleet).accounts(state.servers(), residents_of(fleet, bindings))


def residents_of(
    fleet: FleetSpec, bindings: Mapping[str, tuple[str, ...]]
) -> dict[str, tuple[AdapterAccount, ...]]:
    """Return the versions on every server by the bindings, by server."""
    residents: dict[str, list[AdapterAccount]] = defaultdict(list)
    most: dict[str, int] = defaultdict(int)
    for name, servers in bindings.items():
        most[alias_of(name)] = max(most[alias_of(name)], len(servers))
    loads = {
        alias: replica_load(fleet.adapters.get(alias), replicas) for alias, replicas in most.items()
    }
    for name, servers in sorted(bindings.items()):
        alias = alias_of(name)
        facts = fleet.versions.get(name)
        declared = fleet.adapters.get(alias)
        cached = declared is not None and declared.residency == "cached"
        rank = facts.rank if facts else 0
        for server in servers:
            residents[server].append(AdapterAccount(name, server, rank, cached, loads[alias]))
    return {server: tuple(accounts) for server, accounts in residents.items()}


def replica_load(adapter: AdapterSpec | None, replicas: int) -> capacity.Load:
    """Return the load of a replica of an adapter: the gateway spreads requests evenly.

    All versions together, so that a rollout may go to its end, or back, without a move. Where
    there are fewer `replicas` than declared, the rest is awaited. No adapter: not declared.
    """
    if adapter is None:
        return capacity.IDLE
    number = max(adapter.replicas, replicas, 1)
    return capacity.load_of(adapter.demand, capacity.USUAL_PROMPT_WEIGHT, adapter.slo_s, number)


_NO_SECONDS: Final = ((), 0.0, capacity.USUAL_PROMPT_WEIGHT)


class Accounting:
    """Inputs of the accounts of a fleet's servers."""

    def __init__(self, fleet: FleetSpec) -> None:
        """Read the mix of requests of the fleet's adapters once."""
        self.fleet = fleet
        self.request_mixes = capacity.request_mix_of(fleet.adapters.values())
        hosts = fleet.hosts.values()
        self.attached = {server.name: server for host in hosts for server in host.attached}
        self.devices = {
            (host.name, device.name): device for host in hosts for device in host.devices
        }

    def accounts(
        self, servers: Mapping[str, Server], residents: Mapping[str, tuple[AdapterAccount, ...]]
    ) -> dict[str, ServerAccount]:
        """Return the accounts of servers that run together, by name, with their residents."""
        count = Counter(
            (server.host, device) for server in servers.values() for device in server.devices
        )
        return {
            name: self.server(
                server,
                residents.get(name, ()),
                max((count[server.host, device] for device in server.devices), default=1),
            )
            for name, server in servers.items()
        }

    def server(
        self, server: Server, residents: tuple[AdapterAccount, ...], sharers: int
    ) -> ServerAccount:
        """Return the account of a server; `sharers` counts the server itself too."""
        theirs, flags = self.attached.get(server.name), server.flags
        size = theirs or flags
        shape = self.shape(server, sharers)
        load = summed(residents)
        rate, memory = capacity.Throughput(inf, 0.0, NO_BASIS), None
        per_slot = per_token = None
        if shape:
            mix = self.request_mixes.get(shape.base.name, capacity.NO_REQUEST_MIX)
            policy = self.fleet.policy
            adapters = (
                self.fleet.adapters.get(alias_of(resident.adapter)) for resident in residents
            )
            promises = (mix.promise(adapter) for adapter in adapters) if mix.targets else ()
            rate = capacity.throughput_of(
                shape,
                mix,
                self.fleet.profiles,
                policy.utilization,
                frozenset(filter(None, promises)),
            )
            memory = capacity.memory_of(shape)
            if shape.base.kv_cache_bytes is None and memory.kv and memory.kv_tokens:
                per_token = memory.kv / memory.kv_tokens
                if memory.slots is not None and shape.slots:
                    per_slot = int(memory.slots / shape.slots / per_token)
        steps, prompt, weight = self._seconds(shape, load) if shape else _NO_SECONDS
        return ServerAccount(
            server=server.name,
            base=server.base,
            host=server.host,
            devices=server.devices,
            kind=shape.device.kind if shape else "",
            slots=size.max_loras if size else 0,
            kept=1 if shape and is_cpu(shape.device.kind) else 0,
            rank=size.max_lora_rank if size else 0,
            residents=residents,
            load=load.tokens,
            active=load.concurrency,
            limit=tuple(rate.at(active) for active in load.concurrency),
            total_bytes=shape.device.memory_bytes if shape else None,
            weights_bytes=memory.weights if memory else None,
            slot_bytes=memory.slots if memory else None,
            kv_bytes=memory.kv if memory else None,
            reserve_bytes=memory.reserve if memory else None,
            kv_tokens=int(memory.kv_tokens) if memory and memory.kv_tokens is not None else None,
            kv_tokens_per_slot=per_slot,
            inflation=_inflation(shape, residents, per_token),
            price_per_hour=theirs.price_per_hour if theirs else self._price(server),
            basis=rate.basis,
            memory_basis=memory.basis if memory else NO_BASIS,
            vllm=shape.device.vllm if shape else (theirs.vllm if theirs else ""),
            step_s=steps,
            prompt_s=prompt,
            allowed=self.fleet.policy.utilization,
            prompt_weight=weight,
        )

    def shape(self, server: Server, sharers: int) -> capacity.ServerShape | None:
        """Return the shape of a managed server; None where flags, base or device are not known."""
        base = self.fleet.bases.get(server.base)
        flags = server.flags
        device = self.devices.get((server.host, server.devices[0])) if server.devices else None
        if flags is None or base is None or device is None:
            return None
        # A share of the memory tells among how many servers the device was divided, present or not.
        share = flags.memory_share
        parts = sharers if share is None else max(sharers, round(USABLE / share))
        return capacity.ServerShape(
            base, device, flags.tensor_parallel, parts, flags.max_loras, flags.max_lora_rank,
            shared=parts > 1 and share is not None,
        )  # fmt: skip

    def _seconds(
        self, shape: capacity.ServerShape, load: capacity.Load
    ) -> tuple[tuple[float, ...], float, float]:
        """Return the expected seconds of a step by hour, those of a prompt's token, its weight.

        Servers that share a device take turns on it. Empty, and 0: not known.
        """
        device = shape.device
        speed, _ = capacity.speed_of(
            self.fleet.profiles, shape.base, device, shape.tensor_parallel, shape.rank,
            vllm=device.vllm,
        )  # fmt: skip
        if speed is None:
            return _NO_SECONDS
        servers = shape.servers_per_device
        steps = tuple(
            servers * capacity.step_under_load(speed, tokens * servers, active)
            for tokens, active in zip(load.tokens, load.concurrency, strict=True)
        )
        return steps, servers * capacity.prompt_seconds(speed), speed.prompt_weight

    def _price(self, server: Server) -> float:
        devices = (self.devices.get((server.host, device)) for device in server.devices)
        return sum(device.price_per_hour for device in devices if device is not None)


def summed(residents: Iterable[AdapterAccount]) -> capacity.Load:
    """Return the load of all residents; the versions of an alias share their load.

    The sum of the concurrencies is the expected number of different adapters in the running batch,
    as the adapters' clients are independent.
    """
    loads = list({alias_of(item.adapter): item.load for item in residents}.values())
    if not loads:
        return capacity.IDLE
    return capacity.Load(
        tuple(map(sum, zip(*(load.tokens for load in loads), strict=True))),
        tuple(map(sum, zip(*(load.concurrency for load in loads), strict=True))),
    )


def _inflation(
    shape: capacity.ServerShape | None,
    residents: tuple[AdapterAccount, ...],
    per_token: float | None,
) -> RankInflation | None:
    """Return the cost of the largest residents, where the others would do with a smaller rank.

    `per_token` are the bytes, on a device, of a token of KV cache whose place slots take; None
    where slots take no such place: the size of the KV cache is declared, or not known.
    """
    if shape is None or shape.base.max_lora_rank is not None:
        return None
    buckets = {item.adapter: rank_bucket(item.rank) or 0 for item in residents}
    owners = tuple(sorted(name for name, bucket in buckets.items() if bucket == shape.rank))
    without = max((bucket for bucket in buckets.values() if bucket < shape.rank), default=0)
    if not owners or not without:
        return None
    large, small = (
        capacity.memory_of(shape).slots,
        capacity.memory_of(replace(shape, rank=without)).slots,
    )
    if large is None or small is None:
        return None
    return RankInflation(
        adapters=owners,
        rank=shape.rank,
        without=without,
        slots=max(shape.slots - len(owners), 0),
        bytes=large - small,
        kv_tokens=int((large - small) / per_token) if per_token else 0,
    )
