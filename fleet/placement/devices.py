"""Devices: which servers are on them, and what those hold and carry."""

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
    """The devices of a fleet, with the servers on them."""

    def __init__(self, fleet: FleetSpec) -> None:
        """Start with every device empty."""
        self.fleet = fleet
        self.on_device: dict[DeviceId, list[ServerDraft]] = defaultdict(list)
        self.on_host: dict[str, list[ServerDraft]] = defaultdict(list)
        """By host."""
        self.stopping: dict[DeviceId, ServerDraft] = {}
        """Servers that stop in the end, and until then hold versions in use."""
        self.listed_now: Mapping[str, dict[str, int]] = {}
        """By host that declares its memory: what each server that runs there may list now."""
        self.request_mixes: Mapping[str, RequestMix] = request_mix_of(fleet.adapters.values())

    def put(self, draft: ServerDraft) -> None:
        """Take the memory of its devices for a server."""
        self.on_host[draft.host].append(draft)
        for device_id in draft.device_ids:
            self.on_device[device_id].append(draft)

    def drop(self, draft: ServerDraft) -> None:
        """Give a server's memory back."""
        self.on_host[draft.host].remove(draft)
        for device_id in draft.device_ids:
            self.on_device[device_id].remove(draft)

    def others(self, draft: ServerDraft) -> list[ServerDraft]:
        """Return the other servers on a server's devices."""
        found = (
            other for device_id in sorted(draft.device_ids) for other in self.on_device[device_id]
        )
        return [other for other in found if other is not draft]

    def shape(self, draft: ServerDraft, slots: int, rank: int) -> ServerShape:
        """Return the shape of a managed server with these slots."""
        assert draft.device is not None
        parts = draft.parts
        if draft.base.kv_cache_bytes is not None and draft.devices:
            parts = max(len({*map(id, self.others(draft)), id(draft)}), 1)
        return ServerShape(
            draft.base, draft.device, len(draft.devices), parts, slots, rank, shared=draft.shared
        )

    def free(self, draft: ServerDraft) -> int:
        """Return the bytes that a server may take on each of its devices."""
        if draft.device is None:
            return 0
        usable = int(draft.device.memory_bytes * USABLE)
        taken = 0
        for device_id in draft.device_ids:
            others = [other for other in self.on_device[device_id] if other is not draft]
            if others and any(_takes_all(draft) for draft in (draft, *others)):
                return 0
            taken = max(taken, sum(self.taken(draft) for draft in others))
        return (
            min(usable // draft.parts, usable - taken) if draft.shared else max(usable - taken, 0)
        )

    def taken(self, draft: ServerDraft) -> int:
        """Return the bytes that a server takes on each of its devices."""
        assert draft.device is not None
        if draft.shared:
            return int(draft.device.memory_bytes * USABLE) // draft.parts
        return least_bytes(self.shape(draft, draft.slots, draft.rank))

    def shape_with(self, draft: ServerDraft, item: Item, spare: int) -> tuple[int, int] | None:
        """Return the slots and rank with which a server holds one more item; None: it cannot.

        Slots and rank go up in buckets; declared ones are taken as they are.
        """
        base = draft.base
        bucket = base.max_lora_rank or rank_bucket(item.rank)
        if draft.device is None or bucket is None or item.rank > max(draft.rank, bucket):
            return None
        wider = max(draft.rank, bucket)
        needed = draft.slots_needed(item) + spare
        slots = base.slots or max(draft.slots, slots_bucket(needed) or 0)
        if slots < needed or least_bytes(self.shape(draft, slots, wider)) > self.free(draft):
            return None
        return slots, wider

    def throughput(self, draft: ServerDraft, slots: int, rank: int) -> Throughput:
        """Return what a server carries at the declared utilization; attached ones: unknown."""
        if draft.device is None:
            return Throughput(float("inf"), 0.0, "unknown")
        return throughput_of(
            self.shape(draft, slots, rank),
            self.request_mixes.get(draft.base.name, NO_REQUEST_MIX),
            self.fleet.profiles,
            self.fleet.policy.utilization,
        )

    def used(
        self, draft: ServerDraft, item: Item | None = None, shape: tuple[int, int] | None = None
    ) -> Ints:
        """Return the part of what a server may carry that is taken, by hour, in millionths.

        Args:
            draft: The server.
            item: One more version on it.
            shape: Other slots and rank than its present ones.
        """
        found = self.throughput(draft, *(shape or (draft.slots, draft.rank)))
        more = draft.added_load(item) if item is not None else NOTHING
        tokens, active = draft.tokens + more.tokens, draft.active + more.active
        if not np.isfinite(found.limit):
            return np.zeros(HOURS, dtype=np.int64)
        if found.limit <= 0:
            return np.where(tokens > 0, np.int64(10**9), np.int64(0))
        crowd = 1 + found.spread * np.maximum(active / ACTIVE_UNIT - 1, 0)
        return np.ceil(tokens * crowd / (RATE_UNIT * found.limit) * 1e6).astype(np.int64)

    def carries(self, draft: ServerDraft, item: Item, shape: tuple[int, int]) -> bool:
        """Say whether a server carries one more item, its neighbours too, and its host lists it."""
        if int(self.used(draft, item, shape).max()) > FULL or self.host_shortage(
            draft, item, shape[0]
        ):
            return False
        if draft.base.kv_cache_bytes is None:
            return True
        return all(int(self.used(other).max()) <= FULL or not other.residents
                   for other in self.others(draft))  # fmt: skip

    def listed_bytes(self, draft: ServerDraft, item: Item | None = None, slots: int = 0) -> int:
        """Return the bytes of its host's memory that all takes which a server may list.

        A version whose size is not known counts as nothing.

        Args:
            draft: The server.
            item: One more version on it.
            slots: Those that it then has, where it may still choose.
        """
        larger = slots > draft.slots or (item is not None and item.rank > draft.rank)
        starts = not draft.fixed or larger
        names = {*(draft.residents if starts else draft.names)}
        names |= set() if item is None else {item.adapter}
        most = draft.most_listed
        if most is None or starts:
            most = cpu_loras_for(max(slots, draft.slots), len(names))
        versions = self.fleet.versions
        sizes = (versions[name].bytes for name in names if name in versions)
        return host_bytes(most, max(sizes, default=0), len(draft.devices))

    def host_shortage(self, draft: ServerDraft, item: Item, slots: int) -> HostShortage | None:
        """Return what a host lacks for one more version listed, at any step of the apply.

        None: the host lacks nothing, is not limited, or lists the version already.

        Args:
            draft: The server that takes the version.
            item: The version.
            slots: The server's, then.
        """
        host = self.fleet.hosts.get(draft.host)
        if host is None or host.memory_bytes is None or not draft.devices:
            return None
        if item.adapter in draft.names and slots <= draft.slots:
            return None
        others = [server for server in self.on_host[draft.host] if server is not draft]
        return host_shortage(
            host.name,
            host.memory_bytes,
            (draft.name, self.listed_bytes(draft, item, slots)),
            self.listed_now.get(host.name, {}),
            {server.name: self.listed_bytes(server) for server in others},
            {server.name for server in others if server.residents},
        )

    def waits_for(self, name: str, host: HostSpec, devices: tuple[DeviceSpec, ...]) -> bool:
        """Say whether a server cannot be opened on devices before another one has gone.

        One of the same name takes over from it: that is a restart.
        """
        there = (self.stopping.get((host.name, device.name)) for device in devices)
        return any(draft is not None and draft.name != name for draft in there)

    def port(self, name: str, host: HostSpec, device: DeviceSpec) -> int:
        """Return the device's port, or one above it where another server has that one."""
        there = [draft for card in host.devices for draft in self.on_device[host.name, card.name]]
        there += [draft for draft in self.stopping.values() if draft.host == host.name]
        taken = {draft.port for draft in there if draft.name != name} | {
            other.port for other in host.devices if other is not device
        }
        port = device.port
        while port in taken:
            port += PORT_STRIDE
        return port
