"""Servers while they are being packed: their slots, and the memory of their devices."""

from collections import defaultdict
from dataclasses import dataclass, field

from fleet.budget import (
    USABLE,
    least_kv_bytes,
    rank_rung,
    reserve_bytes,
    slot_bytes,
    slots_rung,
)
from fleet.declared import Base, Device, Host
from fleet.resources import Server

SPARE = 2
"""Slots that a server is started with beyond what it holds, so that a canary needs no restart."""

PORT_STRIDE = 100
"""Ports between servers that share a device."""


@dataclass(frozen=True, slots=True)
class Item:
    """One adapter version to be placed, on `replicas` distinct devices."""

    adapter: str
    base: str
    rank: int
    """0 where it is not known; such a version stays where it is."""
    replicas: int
    pin: str | None
    prior: tuple[str, ...]
    """Servers that its route names or that hold it, in order of preference."""


@dataclass(slots=True, eq=False)
class Bin:
    """A server being packed."""

    name: str
    base: Base
    host: str
    device: Device | None
    """None on an attached server."""
    port: int
    slots: int = 0
    rank: int = 0
    fixed: bool = False
    """True while slots and rank are those of a running server and stay."""
    live: Server | None = None
    held: frozenset[str] = frozenset()
    """What a live server lists now and cannot let go before other things are loaded."""
    names: set[str] = field(default_factory=set)
    """Versions that take a slot at some time of the apply."""
    residents: set[str] = field(default_factory=set)
    """Versions that are placed here."""
    changed: str = ""
    """Why a running server must start with other flags; empty when it need not."""

    @property
    def spot(self) -> tuple[str, str]:
        """The device; replicas never share one."""
        return (self.host, self.device.name if self.device else self.name)

    @property
    def blocked(self) -> int:
        """Slots that stay empty: vLLM's CPU build computes base requests with the last one."""
        return 1 if self.device is not None and self.device.kind.startswith("cpu") else 0

    @property
    def exclusive(self) -> bool:
        """True when the server takes the whole device: its KV cache is not given in bytes."""
        return self.base.kv_cache_bytes is None

    def has_room(self, spare: int = 0) -> bool:
        """Say whether one more version fits into the slots there are."""
        return len(self.names) + 1 + self.blocked + spare <= self.slots

    def add(self, adapter: str) -> None:
        """Place a version here."""
        self.names.add(adapter)
        self.residents.add(adapter)

    def footprint(self, slots: int, rank: int) -> int:
        """Return the least bytes the server needs; what is unknown counts as nothing."""
        shape = self.base.shape
        per_slot = slot_bytes(shape, rank, self.base.dtype) if shape else None
        weights = shape.weight_bytes if shape else 0
        reserve = reserve_bytes(self.device) if self.device else 0
        return weights + least_kv_bytes(self.base) + (per_slot or 0) * slots + reserve


class Memory:
    """What is free on each device, as servers are opened and grown."""

    def __init__(self) -> None:
        """Start with every device empty."""
        self._bins: dict[tuple[str, str], list[Bin]] = defaultdict(list)

    def put(self, bin_: Bin) -> None:
        """Let a server take its device's memory."""
        self._bins[bin_.spot].append(bin_)

    def drop(self, bin_: Bin) -> None:
        """Give a server's memory back."""
        self._bins[bin_.spot].remove(bin_)

    def free(self, bin_: Bin) -> int:
        """Return the bytes that a server's device has for it, beside the others there."""
        if bin_.device is None:
            return 0
        others = [each for each in self._bins[bin_.spot] if each is not bin_]
        if others and any(each.exclusive for each in (bin_, *others)):
            return 0
        taken = sum(each.footprint(each.slots, each.rank) for each in others)
        return max(int(bin_.device.memory_bytes * USABLE) - taken, 0)

    def grow(self, bin_: Bin, rank: int, spare: int) -> bool:
        """Make room in a server for one more version of `rank`; say whether it worked.

        Slots and rank go up their ladders; declared ones are taken as they are.
        """
        base = bin_.base
        wider = max(bin_.rank, base.max_lora_rank or rank_rung(rank) or 0)
        needed = len(bin_.names) + 1 + bin_.blocked + spare
        slots = base.slots or max(bin_.slots, slots_rung(needed) or 0)
        if bin_.device is None or rank > wider or slots < needed:
            return False
        if bin_.footprint(slots, wider) > self.free(bin_):
            return False
        bin_.slots, bin_.rank = slots, wider
        return True

    def port(self, host: Host, device: Device) -> int:
        """Return the device's port, or one above it where another server has that one."""
        taken = {
            each.port for other in host.devices for each in self._bins[host.name, other.name]
        } | {each.port for each in host.devices if each is not device}
        port = device.port
        while port in taken:
            port += PORT_STRIDE
        return port
