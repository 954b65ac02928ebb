"""Servers while they are being packed: who is on them, their slots, load and memory."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from fleet.budget import USABLE, rank_rung, slots_rung
from fleet.capacity import (
    NO_HABITS,
    Habits,
    Shape,
    Throughput,
    habits_of,
    least_bytes,
    throughput_of,
)
from fleet.declared import Base, Device, Fleet, Host
from fleet.demand import HOURS
from fleet.placement.items import (
    ACTIVE_UNIT,
    NOTHING,
    RATE_UNIT,
    Asks,
    Ints,
    Item,
    slots_for_cached,
)
from fleet.placement.listing import lacking
from fleet.resources import Server

PORT_STRIDE = 100
"""Ports between servers that share a device."""

Spot = tuple[str, str]
"""Host and device; on a server that someone else runs, its name stands for the device."""


@dataclass(slots=True, eq=False)
class Bin:
    """A server being packed."""

    name: str
    base: Base
    host: str
    devices: tuple[Device, ...]
    """Empty on an attached server."""
    port: int
    slots: int = 0
    rank: int = 0
    parts: int = 1
    """Servers among which its devices are divided; 1 where it takes them whole."""
    most_listed: int | None = None
    """`max_cpu_loras` of a running server; None: chosen from what it holds."""
    fixed: bool = False
    """True while slots and rank are those of a running server and stay."""
    closed: bool = False
    """Takes nothing new: its device is cordoned or draining."""
    leaving: str = ""
    """Why what is here leaves, such as `is draining`; empty when it may stay."""
    live: Server | None = None
    held: frozenset[str] = frozenset()
    """What a live server lists now and cannot let go before other things are loaded."""
    names: set[str] = field(default_factory=set)
    """Versions that are listed at some time of the apply."""
    residents: dict[str, Item] = field(default_factory=dict)
    """Versions that are placed here."""
    cached: set[str] = field(default_factory=set)
    """Of `names`: those that take no slot of their own."""
    party: str | None = None
    """Who may be here; None: nobody is yet."""
    aliases: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """Placed versions by alias."""
    tokens: Ints = field(default_factory=lambda: np.zeros(HOURS, dtype=np.int64))
    active: Ints = field(default_factory=lambda: np.zeros(HOURS, dtype=np.int64))
    changed: str = ""
    """Why a running server must start with other flags; empty when it need not."""

    @property
    def device(self) -> Device | None:
        """Its first device; all are alike."""
        return self.devices[0] if self.devices else None

    @property
    def spots(self) -> frozenset[Spot]:
        """The devices; replicas never share one."""
        names = tuple(each.name for each in self.devices) or (self.name,)
        return frozenset((self.host, each) for each in names)

    @property
    def blocked(self) -> int:
        """Slots that stay empty: vLLM's CPU build computes base requests with the last one."""
        return 1 if self.devices and self.devices[0].kind.startswith("cpu") else 0

    @property
    def shared(self) -> bool:
        """True when its memory is a part of the devices and its KV cache what that leaves."""
        return self.base.kv_cache_bytes is None and self.parts > 1

    def asks_more(self, item: Item) -> Asks:
        """Return what an item adds: nothing where another version of its alias is here."""
        return NOTHING if item.alias in self.aliases else item.asks

    def slots_needed(self, item: Item | None = None) -> int:
        """Return the slots that all who are here take, with one more item."""
        names = len(self.names) - len(self.cached & self.names)
        waiting = [each for each in self.residents.values() if each.cached] if self.cached else []
        if item is not None and item.adapter not in self.names:
            if item.cached:
                waiting.append(item)
            else:
                names += 1
        return names + self.blocked + slots_for_cached(waiting)

    def has_room(self, item: Item, spare: int = 0) -> bool:
        """Say whether one more version fits into the slots there are."""
        if item.adapter in self.names:
            return True
        enough = self.most_listed is None or len(self.names) < self.most_listed
        return enough and self.slots_needed(item) + spare <= self.slots

    def add(self, item: Item) -> None:
        """Place a version here."""
        if item.adapter in self.residents:
            return
        more = self.asks_more(item)
        self.tokens = self.tokens + more.tokens
        self.active = self.active + more.active
        self.names.add(item.adapter)
        if item.cached:
            self.cached.add(item.adapter)
        self.residents[item.adapter] = item
        self.party = item.party
        self.aliases[item.alias] += 1

    def remove(self, item: Item) -> None:
        """Take a placed version away; what a live server lists stays listed for the apply."""
        del self.residents[item.adapter]
        if not self.residents:
            self.party = None
        self.aliases[item.alias] -= 1
        if not self.aliases[item.alias]:
            del self.aliases[item.alias]
            self.tokens = self.tokens - item.asks.tokens
            self.active = self.active - item.asks.active
        if item.adapter not in self.held:
            self.names.discard(item.adapter)
            self.cached.discard(item.adapter)


class Hardware:
    """Devices, what stands on them, and what servers on them hold and carry."""

    def __init__(self, fleet: Fleet) -> None:
        """Start with every device empty."""
        self.fleet = fleet
        self.on: dict[Spot, list[Bin]] = defaultdict(list)
        self.at: dict[str, list[Bin]] = defaultdict(list)
        """By host."""
        self.going: dict[Spot, Bin] = {}
        """Servers that stop in the end, and until then hold what is still in use."""
        self.now: Mapping[str, dict[str, int]] = {}
        """By host that declares its memory: what each server that runs there may list now."""
        self.habits: Mapping[str, Habits] = habits_of(fleet.adapters.values())

    def put(self, bin_: Bin) -> None:
        """Let a server take its devices' memory."""
        self.at[bin_.host].append(bin_)
        for spot in bin_.spots:
            self.on[spot].append(bin_)

    def drop(self, bin_: Bin) -> None:
        """Give a server's memory back."""
        self.at[bin_.host].remove(bin_)
        for spot in bin_.spots:
            self.on[spot].remove(bin_)

    def others(self, bin_: Bin) -> list[Bin]:
        """Return the other servers on a server's devices."""
        found = (each for spot in sorted(bin_.spots) for each in self.on[spot])
        return [each for each in found if each is not bin_]

    def shape(self, bin_: Bin, slots: int, rank: int) -> Shape:
        """Return how a managed server is cut with these slots."""
        assert bin_.device is not None
        parts = bin_.parts
        if bin_.base.kv_cache_bytes is not None and bin_.devices:
            parts = max(len({*map(id, self.others(bin_)), id(bin_)}), 1)
        return Shape(
            bin_.base, bin_.device, len(bin_.devices), parts, slots, rank, shared=bin_.shared
        )

    def free(self, bin_: Bin) -> int:
        """Return the bytes that a server may take on each of its devices."""
        if bin_.device is None:
            return 0
        usable = int(bin_.device.memory_bytes * USABLE)
        taken = 0
        for spot in bin_.spots:
            others = [each for each in self.on[spot] if each is not bin_]
            if others and any(_takes_all(each) for each in (bin_, *others)):
                return 0
            taken = max(taken, sum(self.taken(each) for each in others))
        return min(usable // bin_.parts, usable - taken) if bin_.shared else max(usable - taken, 0)

    def taken(self, bin_: Bin) -> int:
        """Return the bytes that a server takes on each of its devices."""
        assert bin_.device is not None
        if bin_.shared:
            return int(bin_.device.memory_bytes * USABLE) // bin_.parts
        return least_bytes(self.shape(bin_, bin_.slots, bin_.rank))

    def grown(self, bin_: Bin, item: Item, spare: int) -> tuple[int, int] | None:
        """Return the slots and rank with which a server holds one more item; None: it cannot.

        Slots and rank go up their ladders; declared ones are taken as they are.
        """
        base = bin_.base
        rung = base.max_lora_rank or rank_rung(item.rank)
        if bin_.device is None or rung is None or item.rank > max(bin_.rank, rung):
            return None
        wider = max(bin_.rank, rung)
        needed = bin_.slots_needed(item) + spare
        slots = base.slots or max(bin_.slots, slots_rung(needed) or 0)
        if slots < needed or least_bytes(self.shape(bin_, slots, wider)) > self.free(bin_):
            return None
        return slots, wider

    def throughput(self, bin_: Bin, slots: int, rank: int) -> Throughput:
        """Return what a server carries at the declared utilization; attached ones: unknown."""
        if bin_.device is None:
            return Throughput(float("inf"), 0.0, "unknown")
        return throughput_of(
            self.shape(bin_, slots, rank),
            self.habits.get(bin_.base.name, NO_HABITS),
            self.fleet.profiles,
            self.fleet.policy.utilization,
        )

    def used(self, bin_: Bin, item: Item | None = None, cut: tuple[int, int] | None = None) -> Ints:
        """Return the part of what a server may carry that is taken, by hour, in millionths.

        Args:
            bin_: The server.
            item: One more version on it.
            cut: Other slots and rank than its present ones.
        """
        found = self.throughput(bin_, *(cut or (bin_.slots, bin_.rank)))
        more = bin_.asks_more(item) if item is not None else NOTHING
        tokens, active = bin_.tokens + more.tokens, bin_.active + more.active
        if not np.isfinite(found.limit):
            return np.zeros(HOURS, dtype=np.int64)
        if found.limit <= 0:
            return np.where(tokens > 0, np.int64(10**9), np.int64(0))
        crowd = 1 + found.spread * np.maximum(active / ACTIVE_UNIT - 1, 0)
        return np.ceil(tokens * crowd / (RATE_UNIT * found.limit) * 1e6).astype(np.int64)

    def carries(self, bin_: Bin, item: Item, cut: tuple[int, int]) -> bool:
        """Say whether a server carries one more item, its neighbours too, and its host lists it."""
        if int(self.used(bin_, item, cut).max()) > FULL or lacking(self, bin_, item, cut[0]):
            return False
        if bin_.base.kv_cache_bytes is None:
            return True
        return all(int(self.used(each).max()) <= FULL or not each.residents
                   for each in self.others(bin_))  # fmt: skip

    def waits_for(self, name: str, host: Host, devices: tuple[Device, ...]) -> bool:
        """Say whether a server cannot be opened on devices before another one has gone.

        One of the same name takes over from it: that is a restart.
        """
        there = (self.going.get((host.name, each.name)) for each in devices)
        return any(each is not None and each.name != name for each in there)

    def port(self, name: str, host: Host, device: Device) -> int:
        """Return the device's port, or one above it where another server has that one."""
        there = [each for its in host.devices for each in self.on[host.name, its.name]]
        there += [each for each in self.going.values() if each.host == host.name]
        taken = {each.port for each in there if each.name != name} | {
            each.port for each in host.devices if each is not device
        }
        port = device.port
        while port in taken:
            port += PORT_STRIDE
        return port


FULL = 1_000_000
"""All of what a server may carry, in millionths."""


def percent(part: float) -> str:
    """Return a part of 1 as `62 %`."""
    return f"{100 * part:.0f} %"


def _takes_all(bin_: Bin) -> bool:
    return bin_.base.kv_cache_bytes is None and bin_.parts == 1
