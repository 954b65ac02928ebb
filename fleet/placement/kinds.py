"""Kinds: in how many ways the declared devices can be cut into servers of a base."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from math import inf

from fleet.budget import slots_rung
from fleet.capacity import NO_HABITS, Shape, least_bytes, throughput_of
from fleet.declared import Base, Device, Fleet, Host
from fleet.placement.bins import Hardware
from fleet.placement.flags import PARTS
from fleet.placement.replicas import NOWHERE, Ladder, Place

CARDS = (1, 2, 4, 8)
"""Devices that one server may stand on."""

Label = tuple[float, str, int, str, int, int]
"""Price, kind, memory and vLLM of the device; devices of a server; servers of a device."""

Seat = tuple[Host, tuple[Device, ...]]
"""Where one server can be opened."""


@dataclass(slots=True)
class Kind:
    """Equal places for servers of one base."""

    device: Device
    """One of them."""
    cards: int
    parts: int
    price: float
    """Of one server an hour."""
    seats: list[Seat] = field(default_factory=list)
    """Free ones, those on devices that are divided already first."""

    @property
    def label(self) -> Label:
        """Order of kinds: cheap ones first."""
        device = self.device
        its = device.kind, device.memory_bytes, device.vllm
        return (self.price, *its, self.cards, self.parts)


def every_kind(fleet: Fleet, base: Base) -> list[Kind]:
    """Return the kinds that could hold a server of a base if nothing else were there."""
    found: dict[Label, Kind] = {}
    for host in fleet.hosts.values():
        for kind, _ in cuts_of(fleet, base, 1, list(host.devices)):
            found.setdefault(kind.label, kind)
    return [found[label] for label in sorted(found)]


def cuts_of(
    fleet: Fleet, base: Base, rank: int, usable: list[Device]
) -> Iterator[tuple[Kind, tuple[Device, ...]]]:
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
                shape = Shape(base, group[0], cards, parts, slots, rank, shared=parts > 1)
                if least_bytes(shape) > int(group[0].memory_bytes * shape.memory_share):
                    continue
                fits = True
                price = sum(each.price_per_hour for each in group[:cards]) / parts
                for first in range(0, len(group) - cards + 1, cards):
                    devices = tuple(group[first : first + cards])
                    yield Kind(devices[0], cards, parts, price), devices
        if fits:
            return


def _parts(fleet: Fleet, base: Base, cards: int) -> tuple[int, ...]:
    shareable = fleet.policy.share_devices and base.kv_cache_bytes is None and cards == 1
    return PARTS if shareable else (1,)


def _alike(devices: list[Device]) -> list[list[Device]]:
    """Return the devices of each kind, neighbours side by side."""
    groups: dict[tuple[str, int, str, float], list[Device]] = {}
    for each in devices:
        its = each.kind, each.memory_bytes, each.vllm, each.price_per_hour
        groups.setdefault(its, []).append(each)
    return list(groups.values())


def cut_of(
    fleet: Fleet, base: Base, kind: Kind, rank: int, count: int, spare: int | None = None
) -> Shape | None:
    """Return the shape of a server for so many versions; None where they do not fit.

    Canary slots are kept free, except where not even one version would then find room.
    """
    blocked = 1 if kind.device.kind.startswith("cpu") else 0
    spare = fleet.policy.canary_slots if spare is None else spare
    for kept in (spare, 0) if count == 1 else (spare,):
        needed = count + blocked + kept
        slots = base.slots or slots_rung(needed) or 0
        if slots < needed:
            continue
        shape = Shape(base, kind.device, kind.cards, kind.parts, slots, rank, kind.parts > 1)
        if least_bytes(shape) <= int(kind.device.memory_bytes * shape.memory_share):
            return shape
    return None


def limits_of(
    fleet: Fleet, base: Base, rank: int, hardware: Hardware, hosts: Iterable[Host], *, apart: bool
) -> Ladder:
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
    habits = hardware.habits.get(base.name, NO_HABITS)
    found: list[Place] = []

    @cache
    def carried(kind: str, memory: int, vllm: str, cards: int, parts: int) -> float | None:
        """Return what one server carries; thousands of devices are of a few kinds."""
        one = alike[kind, memory, vllm, cards, parts]
        shape = cut_of(fleet, base, one, base.max_lora_rank or rank, 1)
        if shape is None:
            return None
        return throughput_of(shape, habits, fleet.profiles, fleet.policy.utilization).limit

    alike: dict[tuple[str, int, str, int, int], Kind] = {}
    for host in hosts:
        best: dict[str, Place] = {}
        usable = [each for each in host.devices if each.state != "draining"]
        for kind, devices in cuts_of(fleet, base, 1, usable):
            device = kind.device
            its = device.kind, device.memory_bytes, device.vllm, kind.cards, kind.parts
            alike.setdefault(its, kind)
            limit = carried(*its)
            if limit is not None:
                here = best.setdefault(devices[0].name, Place(0.0, 0.0))
                best[devices[0].name] = max(here, Place(limit, kind.price))
        found += [max(best.values())] if apart and best else list(best.values())
    unknown = any(each.limit == inf for each in found) or _attached(fleet, base)
    return NOWHERE if unknown else Ladder.of(found)


def _attached(fleet: Fleet, base: Base) -> bool:
    return any(each.base == base.name for host in fleet.hosts.values() for each in host.attached)
