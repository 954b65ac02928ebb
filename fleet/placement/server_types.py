"""Server types: the ways in which declared devices can hold servers of a base."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from math import inf

from fleet.capacity import NO_REQUEST_MIX, ServerShape, least_bytes, throughput_of
from fleet.hardware import BaseSpec, DeviceSpec, HostSpec
from fleet.placement.devices import Devices
from fleet.placement.items import NOWHERE, ReplicaSlot, ReplicaSteps
from fleet.spec import FleetSpec
from fleet.vllm import SERVERS_PER_DEVICE, slots_bucket

TENSOR_PARALLEL_SIZES = (1, 2, 4, 8)
"""Numbers of devices that a server may stand on."""

ServerTypeKey = tuple[float, str, int, str, int, int]
"""Price, kind, memory and vLLM of the device; devices of a server; servers of a device."""

HostDevices = tuple[HostSpec, tuple[DeviceSpec, ...]]
"""A host, and the devices on it where a server can be opened."""


@dataclass(slots=True)
class ServerType:
    """Equal places for servers of a base."""

    device: DeviceSpec
    """A device of this type; all are alike."""
    tensor_parallel: int
    parts: int
    price: float
    """Of one server an hour."""
    places: list[HostDevices] = field(default_factory=list)
    """Free ones, those on devices that are divided already first."""

    @property
    def label(self) -> ServerTypeKey:
        """Order of types: cheap ones first."""
        device = self.device
        its = device.kind, device.memory_bytes, device.vllm
        return (self.price, *its, self.tensor_parallel, self.parts)


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
    """Yield the types, with devices of a host, in which a server of a base has memory for one slot.

    More devices for a server than it needs only cost more.
    """
    slots = base.slots or 1
    for tensor_parallel in (
        (base.tensor_parallel,) if base.tensor_parallel else TENSOR_PARALLEL_SIZES
    ):
        if base.shape is not None and base.shape.num_attention_heads % tensor_parallel:
            continue
        fits = False
        for parts in _parts(fleet, base, tensor_parallel):
            for group in _alike(usable):
                if len(group) < tensor_parallel:
                    continue
                shape = ServerShape(
                    base, group[0], tensor_parallel, parts, slots, rank, shared=parts > 1
                )
                if least_bytes(shape) > int(group[0].memory_bytes * shape.memory_share):
                    continue
                fits = True
                price = sum(device.price_per_hour for device in group[:tensor_parallel]) / parts
                for first in range(0, len(group) - tensor_parallel + 1, tensor_parallel):
                    devices = tuple(group[first : first + tensor_parallel])
                    yield ServerType(devices[0], tensor_parallel, parts, price), devices
        if fits:
            return


def _parts(fleet: FleetSpec, base: BaseSpec, tensor_parallel: int) -> tuple[int, ...]:
    shareable = fleet.policy.share_devices and base.kv_cache_bytes is None and tensor_parallel == 1
    return SERVERS_PER_DEVICE if shareable else (1,)


def _alike(devices: list[DeviceSpec]) -> list[list[DeviceSpec]]:
    """Return the devices of each kind, neighbours side by side."""
    groups: dict[tuple[str, int, str, float], list[DeviceSpec]] = {}
    for device in devices:
        its = device.kind, device.memory_bytes, device.vllm, device.price_per_hour
        groups.setdefault(its, []).append(device)
    return list(groups.values())


def shape_for(
    fleet: FleetSpec,
    base: BaseSpec,
    server_type: ServerType,
    rank: int,
    count: int,
    spare: int | None = None,
) -> ServerShape | None:
    """Return the shape of a server for `count` versions; None where they do not fit.

    Canary slots are kept free, except where not even one version would then find room.
    """
    blocked = 1 if server_type.device.kind.startswith("cpu") else 0
    spare = fleet.policy.canary_slots if spare is None else spare
    for kept in (spare, 0) if count == 1 else (spare,):
        needed = count + blocked + kept
        slots = base.slots or slots_bucket(needed) or 0
        if slots < needed:
            continue
        shape = ServerShape(
            base,
            server_type.device,
            server_type.tensor_parallel,
            server_type.parts,
            slots,
            rank,
            server_type.parts > 1,
        )
        if least_bytes(shape) <= int(server_type.device.memory_bytes * shape.memory_share):
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
    """Return where servers could be opened on these hosts.

    One for each place that a replica may have, on devices that are not draining; none where
    something else than our own devices could hold it, or a throughput is not known.

    Args:
        fleet: The declarations.
        base: What the servers serve.
        rank: Of the adapter.
        hardware: With the mix of requests of the fleet's adapters.
        hosts: Where it may be.
        apart: Whether its replicas share no host.
    """
    mix = hardware.request_mixes.get(base.name, NO_REQUEST_MIX)
    found: list[ReplicaSlot] = []

    @cache
    def carried(
        server_type: str, memory: int, vllm: str, tensor_parallel: int, parts: int
    ) -> float | None:
        """Return what a server carries; thousands of devices are of a few kinds."""
        one = alike[server_type, memory, vllm, tensor_parallel, parts]
        shape = shape_for(fleet, base, one, base.max_lora_rank or rank, 1)
        if shape is None:
            return None
        return throughput_of(shape, mix, fleet.profiles, fleet.policy.utilization).limit

    alike: dict[tuple[str, int, str, int, int], ServerType] = {}
    for host in hosts:
        best: dict[str, ReplicaSlot] = {}
        usable = [device for device in host.devices if device.state != "draining"]
        for server_type, devices in server_types_on(fleet, base, 1, usable):
            device = server_type.device
            its = (
                device.kind,
                device.memory_bytes,
                device.vllm,
                server_type.tensor_parallel,
                server_type.parts,
            )
            alike.setdefault(its, server_type)
            limit = carried(*its)
            if limit is not None:
                here = best.setdefault(devices[0].name, ReplicaSlot(0.0, 0.0))
                best[devices[0].name] = max(here, ReplicaSlot(limit, server_type.price))
        found += [max(best.values())] if apart and best else list(best.values())
    unknown = any(slot.limit == inf for slot in found) or _attached(fleet, base)
    return NOWHERE if unknown else ReplicaSteps.of(found)


def _attached(fleet: FleetSpec, base: BaseSpec) -> bool:
    return any(
        attached.base == base.name for host in fleet.hosts.values() for attached in host.attached
    )
