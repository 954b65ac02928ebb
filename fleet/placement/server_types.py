"""Server types: the ways in which declared devices can hold servers of a base."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from math import inf

from fleet.capacity import NO_REQUEST_MIX, ServerShape, least_bytes, throughput_of
from fleet.hardware import BaseSpec, DeviceSpec, HostSpec
from fleet.placement.devices import Devices
from fleet.placement.items import NOWHERE, ReplicaSlot, ReplicaSteps
from fleet.spec import FleetSpec
from fleet.vllm import PARTS, slots_bucket

TENSOR_PARALLEL_SIZES = (1, 2, 4, 8)
"""Numbers of devices that a server may stand on."""

ServerTypeKey = tuple[float, str, int, str, int, int]
"""Price, kind, memory and vLLM of the device; devices of a server; servers of a device."""

HostDevices = tuple[HostSpec, tuple[DeviceSpec, ...]]
"""A host, and some of its devices where a server can be opened."""


@dataclass(slots=True)
class ServerType:
    """Equal places for servers of a base."""

    device: DeviceSpec
    """A device of this type; all are alike."""
    tensor_parallel: int
    parts: int
    price: float
    """Price of a server an hour."""
    places: list[HostDevices] = field(default_factory=list)
    """Free places, those on devices that are divided already first."""

    @property
    def label(self) -> ServerTypeKey:
        """Order of types: cheap ones first."""
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


def every_server_type(fleet: FleetSpec, base: BaseSpec) -> list[ServerType]:
    """Return the types that could hold a server of a base on empty devices."""
    found: dict[ServerTypeKey, ServerType] = {}
    for host in fleet.hosts.values():
        for server_type, _ in server_types_on(fleet, base, 1, list(host.devices)):
            found.setdefault(server_type.label, server_type)
    return [found[label] for label in sorted(found)]


def server_types_on(
    fleet: FleetSpec, base: BaseSpec, rank: int, usable: list[DeviceSpec]
) -> Iterator[tuple[ServerType, tuple[DeviceSpec, ...]]]:
    """Yield the types, with devices of a host, in which a server of a base has a slot at least.

    More devices for a server than it needs only cost more.
    """
    groups: dict[tuple[str, int, str, float], list[DeviceSpec]] = defaultdict(list)
    for device in usable:
        alike = device.kind, device.memory_bytes, device.vllm, device.price_per_hour
        groups[alike].append(device)
    heads = base.shape.num_attention_heads if base.shape else 0
    shareable = fleet.policy.share_devices and base.kv_cache_bytes is None
    for number in (base.tensor_parallel,) if base.tensor_parallel else TENSOR_PARALLEL_SIZES:
        if heads % number:
            continue
        fits = False
        for parts in PARTS if shareable and number == 1 else (1,):
            for group in groups.values():
                price = sum(device.price_per_hour for device in group[:number]) / parts
                server_type = ServerType(group[0], number, parts, price)
                if len(group) < number or not server_type.shape(base, base.slots or 1, rank):
                    continue
                fits = True
                for first in range(0, len(group) - number + 1, number):
                    devices = tuple(group[first : first + number])
                    yield ServerType(devices[0], number, parts, price), devices
        if fits:
            return


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
    blocked = 1 if server_type.device.kind.startswith("cpu") else 0
    spare = fleet.policy.canary_slots if spare is None else spare
    for kept in (spare, 0) if count == 1 else (spare,):
        needed = count + blocked + kept
        slots = base.slots or slots_bucket(needed) or 0
        if slots >= needed and (shape := server_type.shape(base, slots, rank)):
            return shape
    return None


def limits_of(
    fleet: FleetSpec,
    base: BaseSpec,
    rank: int,
    hardware: Devices,
    hosts: Iterable[HostSpec],
    *,
    apart: bool,
) -> ReplicaSteps:
    """Return the places of an adapter's replicas on these hosts, on devices that are not draining.

    No place where attached servers could hold the adapter, or a throughput is not known.

    Args:
        fleet: The declarations.
        base: The adapter's base.
        rank: The adapter's rank.
        hardware: With the mix of requests of the fleet's adapters.
        hosts: Hosts that rules allow.
        apart: Whether replicas share no host.
    """
    mix = hardware.request_mixes.get(base.name, NO_REQUEST_MIX)
    limits: dict[tuple[str, int, str, int, int], float | None] = {}
    slots: list[ReplicaSlot] = []
    for host in hosts:
        best: dict[str, ReplicaSlot] = {}
        usable = [device for device in host.devices if device.state != "draining"]
        for server_type, devices in server_types_on(fleet, base, 1, usable):
            kind, name = server_type.kind, devices[0].name
            if kind not in limits:  # thousands of devices are of a few kinds
                shape = shape_for(fleet, base, server_type, base.max_lora_rank or rank, 1)
                policy = fleet.policy
                rate = shape and throughput_of(shape, mix, fleet.profiles, policy.utilization)
                limits[kind] = rate.limit if rate else None
            if (limit := limits[kind]) is not None:
                slot = ReplicaSlot(limit, server_type.price)
                best[name] = max(best.get(name, ReplicaSlot(0.0, 0.0)), slot)
        slots += [max(best.values())] if apart and best else list(best.values())
    attached = (server for host in fleet.hosts.values() for server in host.attached)
    if any(slot.limit == inf for slot in slots) or any(its.base == base.name for its in attached):
        return NOWHERE
    return ReplicaSteps.of(slots)
