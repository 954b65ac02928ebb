"""Server types: the ways in which devices can hold servers of a base, with loads and prices."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import inf, lcm

import numpy as np

from fleet.capacity import (
    NO_REQUEST_MIX,
    LatencyTarget,
    RequestMix,
    ServerShape,
    keeps,
    least_bytes,
    throughput_of,
)
from fleet.hardware import BaseSpec, DeviceSpec, HostSpec, is_cpu
from fleet.packing import PRICE_UNIT, Reals, Stock
from fleet.placement.model.devices import Devices
from fleet.placement.model.items import NOWHERE, RATE_UNIT, Ints, Item, ReplicaSlot, ReplicaSteps
from fleet.placement.model.state import PlacementState
from fleet.spec import FleetSpec
from fleet.vllm import RANKS, SERVERS_PER_DEVICE, rank_bucket, slots_bucket

TENSOR_PARALLEL_SIZES = (1, 2, 4, 8)
"""Numbers of devices that a server may stand on."""

ServerTypeKey = tuple[float, str, int, str, int, int]
"""Price, kind, memory and vLLM of the device; devices of a server; servers of a device."""


DevicePool = tuple[str, int, str, float]
"""Kind, memory, vLLM and price of devices that are alike."""


def pool_of(device: DeviceSpec) -> DevicePool:
    """Return the pool of a device."""
    return device.kind, device.memory_bytes, device.vllm, device.price_per_hour


@dataclass(slots=True)
class ServerType:
    """Equal places for servers of a base."""

    device: DeviceSpec
    """A device of this type; all are alike."""
    tensor_parallel: int
    parts: int
    price: float
    """Price of a server an hour."""
    places: list[tuple[HostSpec, tuple[DeviceSpec, ...]]] = field(default_factory=list)
    """Free places, those on devices that are divided already first."""

    @property
    def label(self) -> ServerTypeKey:
        """Order of types: the cheapest first."""
        return (self.price, *self.kind)

    @property
    def kind(self) -> tuple[str, int, str, int, int]:
        """The label without the price; servers of a kind carry the same load."""
        device = self.device
        return device.kind, device.memory_bytes, device.vllm, self.tensor_parallel, self.parts

    def shape(self, base: BaseSpec, slots: int, rank: int) -> ServerShape | None:
        """Return the shape of a server with these slots; None: the memory does not hold them."""
        shared = self.parts > 1
        shape = ServerShape(
            base, self.device, self.tensor_parallel, self.parts, slots, rank, shared=shared
        )
        fits = least_bytes(shape) <= int(self.device.memory_bytes * shape.memory_share)
        return shape if fits else None


def every_server_type(
    fleet: FleetSpec, base: BaseSpec, wide: Collection[int] = ()
) -> list[ServerType]:
    """Return the types that could hold a server of a base on empty devices.

    `wide`: as in `server_types_on`.
    """
    types: dict[ServerTypeKey, ServerType] = {}
    for host in fleet.hosts.values():
        for server_type, _ in server_types_on(fleet, base, 1, list(host.devices), wide):
            types.setdefault(server_type.label, server_type)
    return [types[label] for label in sorted(types)]


def server_types_on(
    fleet: FleetSpec,
    base: BaseSpec,
    rank: int,
    usable: list[DeviceSpec],
    wide: Collection[int] = (),
) -> Iterator[tuple[ServerType, tuple[DeviceSpec, ...]]]:
    """Yield the types, with devices of a host, in which a server of a base has a slot at least.

    More devices for a server than its memory needs only cost more, and so are left out, but for the
    numbers in `wide`: servers on as many devices keep a promise that others break.
    """
    groups: dict[DevicePool, list[DeviceSpec]] = defaultdict(list)
    for device in usable:
        groups[pool_of(device)].append(device)
    heads = base.shape.num_attention_heads if base.shape else 0
    shareable = fleet.policy.share_devices and base.kv_cache_bytes is None
    fits = False
    for number in (base.tensor_parallel,) if base.tensor_parallel else TENSOR_PARALLEL_SIZES:
        if heads % number or (fits and number not in wide):
            continue
        for parts in SERVERS_PER_DEVICE if shareable and number == 1 else (1,):
            for group in groups.values():
                price = sum(device.price_per_hour for device in group[:number]) / parts
                server_type = ServerType(group[0], number, parts, price)
                if len(group) < number or not server_type.shape(base, base.slots or 1, rank):
                    continue
                fits = True
                for first in range(0, len(group) - number + 1, number):
                    devices = tuple(group[first : first + number])
                    yield ServerType(devices[0], number, parts, price), devices


def shape_for(
    fleet: FleetSpec,
    base: BaseSpec,
    server_type: ServerType,
    rank: int,
    count: int,
    spare: int | None = None,
) -> ServerShape | None:
    """Return the shape of a server for `count` versions; None where they do not fit.

    Canary slots are kept free, except where not a single version would then find room.
    """
    blocked = 1 if is_cpu(server_type.device.kind) else 0
    spare = fleet.policy.canary_slots if spare is None else spare
    for spare_slots in (spare, 0) if count == 1 else (spare,):
        needed = count + blocked + spare_slots
        slots = base.slots or slots_bucket(needed) or 0
        if slots >= needed and (shape := server_type.shape(base, slots, rank)):
            return shape
    return None


def promises_in_reach(
    fleet: FleetSpec, mixes: Mapping[str, RequestMix], width: int = 1
) -> frozenset[tuple[str, LatencyTarget]]:
    """Return the bases with promises that a server on some device of the fleet keeps.

    Or a server on as many devices as `width` says, which is not less than its memory needs; a speed
    that is not known keeps no promise there.
    """
    promises = set()
    for name, base in fleet.bases.items():
        mix = mixes.get(name, NO_REQUEST_MIX)
        shapes = [
            shape
            for server_type in (every_server_type(fleet, base, (width,)) if mix.targets else ())
            if width in {1, server_type.tensor_parallel}
            if (shape := server_type.shape(base, base.slots or 1, base.max_lora_rank or RANKS[0]))
            if width == 1 or throughput_of(shape, mix, fleet.profiles, 1.0).limit < inf
        ]
        promises |= {
            (name, promise)
            for promise in mix.targets
            if any(keeps(shape, fleet.profiles, promise) for shape in shapes)
        }
    return frozenset(promises)


def limits_of(
    fleet: FleetSpec,
    base: BaseSpec,
    rank: int,
    hardware: Devices,
    hosts: Iterable[HostSpec],
    promise: LatencyTarget | None,
    *,
    one_per_host: bool,
) -> ReplicaSteps:
    """Return the places of an adapter's replicas on these hosts, on devices that are not draining.

    No place where attached servers could hold the adapter, or a throughput is not known. `promise`
    is that of the adapter; `one_per_host` says that replicas share no host.
    """
    promises = frozenset({promise} if promise else ())
    mix = hardware.request_mixes.get(base.name, NO_REQUEST_MIX)
    limits: dict[tuple[str, int, str, int, int], float | None] = {}
    slots: list[ReplicaSlot] = []
    for host in hosts:
        best: dict[str, ReplicaSlot] = {}
        usable = [device for device in host.devices if device.state != "draining"]
        for server_type, devices in server_types_on(fleet, base, 1, usable):
            kind = server_type.kind
            name = devices[0].name
            if kind not in limits:  # thousands of devices are of a few kinds
                shape = shape_for(fleet, base, server_type, base.max_lora_rank or rank, 1)
                policy = fleet.policy
                rate = shape and throughput_of(
                    shape, mix, fleet.profiles, policy.utilization, promises
                )
                limits[kind] = rate.limit if rate else None
            if (limit := limits[kind]) is not None:
                slot = ReplicaSlot(limit, server_type.price)
                best[name] = max(best.get(name, ReplicaSlot(0.0, 0.0)), slot)
        slots += [max(best.values())] if one_per_host and best else list(best.values())
    attached = (server for host in fleet.hosts.values() for server in host.attached)
    if any(slot.limit == inf for slot in slots) or any(
        server.base == base.name for server in attached
    ):
        return NOWHERE
    return ReplicaSteps.of(slots)


MOST_SLOTS = 128
"""Upper bound of the versions on a new server in the table."""
UNLIMITED = 1 << 40
"""Load in place of an unknown throughput, in `RATE_UNIT`ths of a token per second."""


def server_table(
    state: PlacementState,
    base: BaseSpec,
    server_types: Sequence[ServerType],
    ranks: Sequence[int],
    versions: int,
    promises: Sequence[LatencyTarget] = (),
    spare: int | None = None,
) -> tuple[Ints, Reals]:
    """Return the load that a server carries in any hour, by type, rank and number of versions.

    Where there are `promises`, those with the most time first, a rank has a row for every number of
    them that a server has to keep, see `Instance.hastes`.

    0: as many versions find no room. The load, in the unit of loads, is that with a single active
    adapter; the second array has the slow-down by a further one, by type and rank. `spare` slots
    stay free, by default those for canaries.
    """
    mix = state.hardware.request_mixes.get(base.name, NO_REQUEST_MIX)
    utilization, profiles = state.fleet.policy.utilization, state.fleet.profiles
    most = min(MOST_SLOTS, versions)
    rows = list(product(ranks, range(len(promises) + 1)))
    table = np.zeros((len(server_types), len(rows), most + 1), dtype=np.int64)
    spread = np.zeros(table.shape[:2])
    for (row, server_type), (width, (rank, haste)) in product(
        enumerate(server_types), enumerate(rows)
    ):
        due = frozenset(promises[:haste])
        for count in range(1, most + 1):
            shape = shape_for(state.fleet, base, server_type, rank, count, spare)
            if shape is None or not all(keeps(shape, profiles, promise) for promise in due):
                break
            rate = throughput_of(shape, mix, profiles, utilization, due)
            load = rate.limit * RATE_UNIT
            table[row, width, count] = int(load) if np.isfinite(load) else UNLIMITED
            spread[row, width] = rate.spread
    return table, spread


def rank_bucket_of(base: BaseSpec, item: Item) -> int:
    """Return `--max-lora-rank` of a new server for a version; 0 where no rank will do."""
    bucket = base.max_lora_rank or rank_bucket(item.rank) or 0
    return bucket if bucket >= item.rank else 0


def prices(hourly_prices: Iterable[float]) -> Ints:
    """Return prices as the packer's integers; where all are 0, the number of servers counts."""
    units = np.array([round(price * PRICE_UNIT) for price in hourly_prices], dtype=np.int64)
    return units if units.any() else np.ones(len(units), dtype=np.int64)


def stock_of(server_types: Sequence[ServerType]) -> Stock:
    """Return the free devices of the types' places; a pool is a kind of device.

    A device counts a unit for every server that it could be divided among.
    """
    pools: dict[DevicePool, set[tuple[str, str]]] = defaultdict(set)
    keys = []
    for server_type in server_types:
        keys.append(pool_of(server_type.device))
        pools[keys[-1]].update(
            (host.name, device.name) for host, devices in server_type.places for device in devices
        )
    unit = lcm(*(server_type.parts for server_type in server_types))
    order = list(pools)
    units = [
        unit * server_type.tensor_parallel // server_type.parts for server_type in server_types
    ]
    return Stock(
        np.array([order.index(key) for key in keys], dtype=np.int64),
        np.array(units, dtype=np.int64),
        np.array([unit * len(pools[key]) for key in order], dtype=np.int64),
    )
