"""Hardware."""

from collections import defaultdict
from collections.abc import Mapping

import numpy as np

from fleet.capacity import (
    HOURS,
    NO_REQUEST_MIX,
    RequestMix,
    ServerShape,
    Throughput,
    least_bytes,
    request_mix_of,
    throughput_of,
)
from fleet.hardware import DeviceSpec, HostSpec
from fleet.placement.host_memory import HostShortage, host_shortage
from fleet.placement.items import ACTIVE_UNIT, NOTHING, RATE_UNIT, Ints, Item
from fleet.placement.servers import FULL, PORT_STRIDE, DeviceId, ServerDraft, _takes_all
from fleet.spec import FleetSpec
from fleet.vllm import USABLE, cpu_loras_for, host_bytes, rank_bucket, slots_bucket


class Devices:
    """Devices, what stands on them, and what servers on them hold and carry."""

    def __init__(self, fleet: FleetSpec) -> None:
        """Start with every device empty."""
        self.fleet = fleet
        self.on: dict[DeviceId, list[ServerDraft]] = defaultdict(list)
        self.at: dict[str, list[ServerDraft]] = defaultdict(list)
        """By host."""
        self.going: dict[DeviceId, ServerDraft] = {}
        """Servers that stop in the end, and until then hold what is still in use."""
        self.now: Mapping[str, dict[str, int]] = {}
        """By host that declares its memory: what each server that runs there may list now."""
        self.habits: Mapping[str, RequestMix] = request_mix_of(fleet.adapters.values())

    def put(self, bin_: ServerDraft) -> None:
        """Let a server take its devices' memory."""
        self.at[bin_.host].append(bin_)
        for spot in bin_.spots:
            self.on[spot].append(bin_)

    def drop(self, bin_: ServerDraft) -> None:
        """Give a server's memory back."""
        self.at[bin_.host].remove(bin_)
        for spot in bin_.spots:
            self.on[spot].remove(bin_)

    def others(self, bin_: ServerDraft) -> list[ServerDraft]:
        """Return the other servers on a server's devices."""
        found = (draft for spot in sorted(bin_.spots) for draft in self.on[spot])
        return [draft for draft in found if draft is not bin_]

    def shape(self, bin_: ServerDraft, slots: int, rank: int) -> ServerShape:
        """Return how a managed server is cut with these slots."""
        assert bin_.device is not None
        parts = bin_.parts
        if bin_.base.kv_cache_bytes is not None and bin_.devices:
            parts = max(len({*map(id, self.others(bin_)), id(bin_)}), 1)
        return ServerShape(
            bin_.base, bin_.device, len(bin_.devices), parts, slots, rank, shared=bin_.shared
        )

    def free(self, bin_: ServerDraft) -> int:
        """Return the bytes that a server may take on each of its devices."""
        if bin_.device is None:
            return 0
        usable = int(bin_.device.memory_bytes * USABLE)
        taken = 0
        for spot in bin_.spots:
            others = [draft for draft in self.on[spot] if draft is not bin_]
            if others and any(_takes_all(draft) for draft in (bin_, *others)):
                return 0
            taken = max(taken, sum(self.taken(draft) for draft in others))
        return min(usable // bin_.parts, usable - taken) if bin_.shared else max(usable - taken, 0)

    def taken(self, bin_: ServerDraft) -> int:
        """Return the bytes that a server takes on each of its devices."""
        assert bin_.device is not None
        if bin_.shared:
            return int(bin_.device.memory_bytes * USABLE) // bin_.parts
        return least_bytes(self.shape(bin_, bin_.slots, bin_.rank))

    def grown(self, bin_: ServerDraft, item: Item, spare: int) -> tuple[int, int] | None:
        """Return the slots and rank with which a server holds one more item; None: it cannot.

        Slots and rank go up their ladders; declared ones are taken as they are.
        """
        base = bin_.base
        rung = base.max_lora_rank or rank_bucket(item.rank)
        if bin_.device is None or rung is None or item.rank > max(bin_.rank, rung):
            return None
        wider = max(bin_.rank, rung)
        needed = bin_.slots_needed(item) + spare
        slots = base.slots or max(bin_.slots, slots_bucket(needed) or 0)
        if slots < needed or least_bytes(self.shape(bin_, slots, wider)) > self.free(bin_):
            return None
        return slots, wider

    def throughput(self, bin_: ServerDraft, slots: int, rank: int) -> Throughput:
        """Return what a server carries at the declared utilization; attached ones: unknown."""
        if bin_.device is None:
            return Throughput(float("inf"), 0.0, "unknown")
        return throughput_of(
            self.shape(bin_, slots, rank),
            self.habits.get(bin_.base.name, NO_REQUEST_MIX),
            self.fleet.profiles,
            self.fleet.policy.utilization,
        )

    def used(
        self, bin_: ServerDraft, item: Item | None = None, cut: tuple[int, int] | None = None
    ) -> Ints:
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

    def carries(self, bin_: ServerDraft, item: Item, cut: tuple[int, int]) -> bool:
        """Say whether a server carries one more item, its neighbours too, and its host lists it."""
        if int(self.used(bin_, item, cut).max()) > FULL or self.host_shortage(bin_, item, cut[0]):
            return False
        if bin_.base.kv_cache_bytes is None:
            return True
        return all(int(self.used(draft).max()) <= FULL or not draft.residents
                   for draft in self.others(bin_))  # fmt: skip

    def listed_bytes(self, bin_: ServerDraft, item: Item | None = None, slots: int = 0) -> int:
        """Return the bytes of its host's memory that all takes which a server may list.

        A version whose size is not known counts as nothing.

        Args:
            bin_: The server.
            item: One more version on it.
            slots: Those that it then has, where it may still choose.
        """
        larger = slots > bin_.slots or (item is not None and item.rank > bin_.rank)
        starts = not bin_.fixed or larger
        names = {*(bin_.residents if starts else bin_.names)}
        names |= set() if item is None else {item.adapter}
        most = bin_.most_listed
        if most is None or starts:
            most = cpu_loras_for(max(slots, bin_.slots), len(names))
        versions = self.fleet.versions
        sizes = (versions[name].bytes for name in names if name in versions)
        return host_bytes(most, max(sizes, default=0), len(bin_.devices))

    def host_shortage(self, bin_: ServerDraft, item: Item, slots: int) -> HostShortage | None:
        """Return what a host lacks for one more version listed, at any step of the apply.

        None: the host lacks nothing, is not limited, or lists the version already.

        Args:
            bin_: The server that takes the version.
            item: The version.
            slots: The server's, then.
        """
        host = self.fleet.hosts.get(bin_.host)
        if host is None or host.memory_bytes is None or not bin_.devices:
            return None
        if item.adapter in bin_.names and slots <= bin_.slots:
            return None
        others = [server for server in self.at[bin_.host] if server is not bin_]
        return host_shortage(
            host.name,
            host.memory_bytes,
            (bin_.name, self.listed_bytes(bin_, item, slots)),
            self.now.get(host.name, {}),
            {server.name: self.listed_bytes(server) for server in others},
            {server.name for server in others if server.residents},
        )

    def waits_for(self, name: str, host: HostSpec, devices: tuple[DeviceSpec, ...]) -> bool:
        """Say whether a server cannot be opened on devices before another one has gone.

        One of the same name takes over from it: that is a restart.
        """
        there = (self.going.get((host.name, device.name)) for device in devices)
        return any(draft is not None and draft.name != name for draft in there)

    def port(self, name: str, host: HostSpec, device: DeviceSpec) -> int:
        """Return the device's port, or one above it where another server has that one."""
        there = [draft for its in host.devices for draft in self.on[host.name, its.name]]
        there += [draft for draft in self.going.values() if draft.host == host.name]
        taken = {draft.port for draft in there if draft.name != name} | {
            other.port for other in host.devices if other is not device
        }
        port = device.port
        while port in taken:
            port += PORT_STRIDE
        return port
