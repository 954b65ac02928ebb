"""Server drafts: servers during a search, with versions, slots and load.

`OpenServers` has those of a base in the order in which they suit a version.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from fleet.capacity import HOURS, LatencyTarget
from fleet.hardware import BaseSpec, DeviceSpec, is_cpu
from fleet.placement.model.items import NOTHING, Ints, Item, ItemLoad, slots_for_cached
from fleet.resources import Server

DeviceId = tuple[str, str]
"""Host and device; on an attached server, its name stands for the device."""
SlotShape = tuple[int, int]
"""Slots and rank of a server."""


@dataclass(slots=True, eq=False)
class ServerDraft:
    """A server during a search."""

    name: str
    base: BaseSpec
    host: str
    devices: tuple[DeviceSpec, ...]
    """Empty on an attached server."""
    port: int
    slots: int = 0
    rank: int = 0
    parts: int = 1
    """Servers among which the devices are divided; 1: the server takes them whole."""
    most_listed: int | None = None
    """`max_cpu_loras` of a running server; None: chosen by the versions placed here."""
    fixed: bool = False
    """True while slots and rank are those of a running server and stay."""
    closed: bool = False
    """True if no new version comes here, such as on a cordoned or draining device."""
    leaving: str = ""
    """Why versions leave, such as `is draining`; empty when they may stay."""
    live: Server | None = None
    held: frozenset[str] = frozenset()
    """Versions that a live server lists now and cannot unload before others are loaded."""
    names: set[str] = field(default_factory=set)
    """Versions that are listed at some time of the apply."""
    residents: dict[str, Item] = field(default_factory=dict)
    """Versions that are placed here."""
    cached: set[str] = field(default_factory=set)
    """Versions of `names` that take no slot of their own."""
    isolation_group: str | None = None
    """Isolation group of the versions here; None: no version is here yet."""
    aliases: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """Placed versions by alias."""
    tokens: Ints = field(default_factory=lambda: np.zeros(HOURS, dtype=np.int64))
    active: Ints = field(default_factory=lambda: np.zeros(HOURS, dtype=np.int64))
    changed: str = ""
    """Why a running server must start with other flags; empty when it need not."""

    @property
    def device(self) -> DeviceSpec | None:
        """The first device; all are alike."""
        return self.devices[0] if self.devices else None

    @property
    def device_ids(self) -> frozenset[DeviceId]:
        """The devices, which replicas never share."""
        names = tuple(device.name for device in self.devices) or (self.name,)
        return frozenset((self.host, name) for name in names)

    @property
    def blocked(self) -> int:
        """Slots that stay empty: vLLM's CPU build computes base requests with the last slot."""
        return 1 if self.devices and is_cpu(self.devices[0].kind) else 0

    @property
    def shared(self) -> bool:
        """True when the KV cache takes the rest of the server's part of its devices."""
        return self.base.kv_cache_bytes is None and self.parts > 1

    @property
    def promises(self) -> frozenset[LatencyTarget]:
        """The promised latencies of the versions here."""
        return frozenset(item.promise for item in self.residents.values() if item.promise)

    def is_movable(self, item: Item) -> bool:
        """Say whether a version is new on the server, and may move."""
        alone = self.aliases[item.alias] == 1
        return not item.prior and item.pin is None and alone and item.adapter not in self.held

    def added_load(self, item: Item) -> ItemLoad:
        """Return the load that an item adds, 0 where another version of its alias is here."""
        return NOTHING if item.alias in self.aliases else item.load

    def slots_needed(self, item: Item | None = None) -> int:
        """Return the slots that all versions here take, with a further item."""
        names = len(self.names) - len(self.cached & self.names)
        waiting = [item for item in self.residents.values() if item.cached] if self.cached else []
        if item is not None and item.adapter not in self.names:
            if item.cached:
                waiting.append(item)
            else:
                names += 1
        return names + self.blocked + slots_for_cached(waiting)

    def has_slot_for(self, item: Item, spare: int = 0) -> bool:
        """Say whether another version fits into the slots there are."""
        if item.adapter in self.names:
            return True
        enough = self.most_listed is None or len(self.names) < self.most_listed
        return enough and self.slots_needed(item) + spare <= self.slots

    def add(self, item: Item) -> None:
        """Place a version here."""
        if item.adapter in self.residents:
            return
        more = self.added_load(item)
        self.tokens = self.tokens + more.tokens
        self.active = self.active + more.active
        self.names.add(item.adapter)
        if item.cached:
            self.cached.add(item.adapter)
        self.residents[item.adapter] = item
        self.isolation_group = item.isolation_group
        self.aliases[item.alias] += 1

    def remove(self, item: Item) -> None:
        """Take a placed version away; a live server's versions stay listed for the apply."""
        del self.residents[item.adapter]
        if not self.residents:
            self.isolation_group = None
        self.aliases[item.alias] -= 1
        if not self.aliases[item.alias]:
            del self.aliases[item.alias]
            self.tokens = self.tokens - item.load.tokens
            self.active = self.active - item.load.active
        if item.adapter not in self.held:
            self.names.discard(item.adapter)
            self.cached.discard(item.adapter)


FULL = 1_000_000
"""The limit of a server's load, in millionths of the limit."""


def percent(part: float) -> str:
    """Return a part of 1 as `62 %`."""
    return f"{100 * part:.0f} %"


class OpenServers:
    """Servers with their loads and ranks, so that thousands are compared at a time."""

    def __init__(self, drafts: Iterable[ServerDraft] = ()) -> None:
        """Take servers of a base."""
        self.drafts = sorted(drafts, key=lambda draft: draft.name)
        self._at = {draft.name: place for place, draft in enumerate(self.drafts)}
        shape = len(self.drafts), HOURS
        self._tokens: Ints = np.array([draft.tokens for draft in self.drafts]).reshape(shape)
        self._peaks: Ints = self._tokens.max(axis=1)
        self._ranks: Ints = np.array([draft.rank for draft in self.drafts], dtype=np.int64)

    def suiting(self, item: Item) -> Iterator[ServerDraft]:
        """Yield the servers that suit a version best first, whether or not there is room.

        Servers of the lowest sufficient rank come first, so that no slot is wider than necessary;
        among them the server whose load is most unlike the version's, so that peaks do not meet.
        """
        alike = np.zeros(len(self.drafts))
        if item.peak and len(self.drafts):
            together = (self._tokens + item.load.tokens).max(axis=1)
            alike = np.where(self._peaks > 0, together / (self._peaks + item.peak), 0.0)
        keys = (np.round(alike, 6), self._ranks, self._ranks < item.rank)
        return (self.drafts[place] for place in np.lexsort(keys).tolist())

    def refresh(self, draft: ServerDraft) -> None:
        """Take over a server's load and rank after a change."""
        place = self._at[draft.name]
        self._tokens[place], self._ranks[place] = draft.tokens, draft.rank
        self._peaks[place] = draft.tokens.max()


def by_base(drafts: Iterable[ServerDraft]) -> dict[str, OpenServers]:
    """Return the servers of every base."""
    pools: dict[str, list[ServerDraft]] = defaultdict(list)
    for draft in drafts:
        pools[draft.base.name].append(draft)
    return defaultdict(OpenServers, {name: OpenServers(pool) for name, pool in pools.items()})
