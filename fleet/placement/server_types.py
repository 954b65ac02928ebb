"""Kinds: in how many ways the declared devices can be cut into servers of a base."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from math import inf

from fleet.capacity import NO_REQUEST_MIX, ServerShape, least_bytes, throughput_of
from fleet.hardware import BaseSpec, DeviceSpec, HostSpec
from fleet.placement.devices import Devices
from fleet.placement.items import NOWHERE, ReplicaSlot, ReplicaSteps
from fleet.spec import FleetSpec
from fleet.vllm import PARTS, slots_bucket

CARDS = (1, 2, 4, 8)
"""Devices that one server may stand on."""

ServerTypeKey = tuple[float, str, int, str, int, int]
"""Price, kind, memory and vLLM of the device; devices of a server; servers of a device."""

HostDevices = tuple[HostSpec, tuple[DeviceSpec, ...]]
"""Where one server can be opened."""


@dataclass(slots=True)
class ServerType:
    """Equal places for servers of one base."""

    device: DeviceSpec
    """One of them."""
    cards: int
    parts: int
    price: float
    """Of one server an hour."""
    seats: list[HostDevices] = field(default_factory=list)
    """Free ones, those on devices that are divided already first."""

    @property
    def label(self) -> ServerTypeKey:
        """Order of kinds: cheap ones first."""
        device = self.device
        its = device.kind, device.memory_bytes, device.vllm
        return (self.price, *its, self.cards, self.parts)


def every_kind(fleet: FleetSpec, base: BaseSpec) -> list[ServerType]:
    """Return the kinds that could hold a server of a base if nothing else were there."""
    found: dict[ServerTypeKey, ServerType] = {}
    for host in fleet.hosts.values():
        for kind, _ in cuts_of(fleet, base, 1, list(host.devices)):
            found.setdefault(kind.label, kind)
    return [found[label] for label in sorted(found)]


def cuts_of(
    fleet: FleetSpec, base: BaseSpec, rank: int, usable: list[DeviceSpec]
) -> Iterator[tuple[ServerType, tuple[DeviceSpec, ...]]]:
    """Yield every cut of a host's devices in which a server of a base has room for one slot.

    More cards for a server than it needs only cost more.
    """
    slots = base.slots or 1
    for cards in (base.tensor_parallel,) if base.tensor_parallel else CARDS:
        if base.shape is not None and base.shape.num_attention_heads % cards:
            continue
        fits = False
        for parts in _parts(fleet, base, cards):
            for group in _alike(usable):
                if len(group) < cards:
                    continue
                shape = ServerShape(base, group[0], cards, parts, slots, rank, shared=parts > 1)
                if least_bytes(shape) > int(group[0].memory_bytes * shape.memory_share):
                    continue
                fits = True
                price = sum(device.price_per_hour for device in group[:cards]) / parts
                for first in range(0, len(group) - cards + 1, cards):
                    devices = tuple(group[first : first + cards])
                    yield ServerType(devices[0], cards, parts, price), devices
        if fits:
            return


def _parts(fleet: FleetSpec, base: BaseSpec, cards: int) -> tuple[int, ...]:
    shareable = fleet.policy.share_devices and base.kv_cache_bytes is None and cards == 1
    return PARTS if shareable else (1,)


def _alike(devices: list[DeviceSpec]) -> list[list[DeviceSpec]]:
    """Return the devices of each kind, neighbours side by side."""
    groups: dict[tuple[str, int, str, float], list[DeviceSpec]] = {}
    for device in devices:
        its = device.kind, device.memory_bytes, device.vllm, device.price_per_hour
        groups.setdefault(its, []).append(device)
    return list(groups.values())


def cut_of(
    fleet: FleetSpec,
    base: BaseSpec,
    kind: ServerType,
    rank: int,
    count: int,
    spare: int | None = None,
) -> ServerShape | None:
    """Return the shape of a server for so many versions; None where they do not fit.

    Canary slots are kept free, except where not even one version would then find room.
    """
    blocked = 1 if kind.device.kind.startswith("cpu") else 0
    spare = fleet.policy.canary_slots if spare is None else spare
    for kept in (spare, 0) if count == 1 else (spare,):
        needed = count + blocked + kept
        slots = base.slots or slots_bucket(needed) or 0
        if slots < needed:
            continue
        shape = ServerShape(base, kind.device, kind.cards, kind.parts, slots, rank, kind.parts > 1)
        if least_bytes(shape) <= int(kind.device.memory_bytes * shape.memory_share):
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
        hardware: With the habits of the fleet's adapters.
        hosts: Where it may be.
        apart: Whether its replicas share no host.
    """
    habits = hardware.habits.get(base.name, NO_REQUEST_MIX)
    found: list[ReplicaSlot] = []

    @cache
    def carried(kind: str, memory: int, vllm: str, cards: int, parts: int) -> float | None:
        """Return what one server carries; thousands of devices are of a few kinds."""
        one = alike[kind, memory, vllm, cards, parts]
        shape = cut_of(fleet, base, one, base.max_lora_rank or rank, 1)
        if shape is None:
            return None
        return throughput_of(shape, habits, fleet.profiles, fleet.policy.utilization).limit

    alike: dict[tuple[str, int, str, int, int], ServerType] = {}
    for host in hosts:
        best: dict[str, ReplicaSlot] = {}
        usable = [device for device in host.devices if device.state != "draining"]
        for kind, devices in cuts_of(fleet, base, 1, usable):
            device = kind.device
            its = device.kind, device.memory_bytes, device.vllm, kind.cards, kind.parts
            alike.setdefault(its, kind)
            limit = carried(*its)
            if limit is not None:
                here = best.setdefault(devices[0].name, ReplicaSlot(0.0, 0.0))
                best[devices[0].name] = max(here, ReplicaSlot(limit, kind.price))
        found += [max(best.values())] if apart and best else list(best.values())
    unknown = any(slot.limit == inf for slot in found) or _attached(fleet, base)
    return NOWHERE if unknown else ReplicaSteps.of(found)


def _attached(fleet: FleetSpec, base: BaseSpec) -> bool:
    return any(
        attached.base == base.name for host in fleet.hosts.values() for attached in host.attached
    )
