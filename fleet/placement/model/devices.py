"""Devices: the servers on devices and hosts, with the bytes and loads that they take there."""

from collections import defaultdict
from collections.abc import Mapping

import numpy as np

from fleet.capacity import (
    HOURS,
    NO_PROMISES,
    NO_REQUEST_MIX,
    LatencyTarget,
    RequestMix,
    ServerShape,
    Throughput,
    keeps,
    least_bytes,
    request_mix_of,
    throughput_of,
)
from fleet.hardware import NO_BASIS, PORT_STRIDE, DeviceSpec, HostSpec
from fleet.placement.model.causes import Limit, Obstacle, size
from fleet.placement.model.items import ACTIVE_UNIT, NOTHING, RATE_UNIT, Ints, Item
from fleet.placement.model.servers import FULL, DeviceId, ServerDraft, SlotShape, percent
from fleet.spec import AdapterSpec, FleetSpec
from fleet.vllm import USABLE, cpu_loras_for, host_bytes, rank_bucket, slots_bucket


class Devices:
    """The devices of a fleet, with the servers on them."""

    def __init__(self, fleet: FleetSpec) -> None:
        """Start with every device empty."""
        self.fleet = fleet
        self.on_device: dict[DeviceId, list[ServerDraft]] = defaultdict(list)
        self.on_host: dict[str, list[ServerDraft]] = defaultdict(list)
        self.stopping: dict[DeviceId, ServerDraft] = {}
        """Servers that stop in the end, and until then hold versions in use."""
        self.in_use: set[DeviceId] = set()
        """Devices of servers that have to hand over their versions before another server starts."""
        self.listed_now: Mapping[str, dict[str, int]] = {}
        """By host that declares its memory, and server: bytes that the server may list now."""
        self.request_mixes: Mapping[str, RequestMix] = request_mix_of(fleet.adapters.values())
        self.in_reach: frozenset[tuple[str, LatencyTarget]] = frozenset()
        """Bases with promises that some kind of device keeps: other devices do not get them, as
        long as such a device is free."""

    def promise(self, adapter: AdapterSpec, base: str) -> LatencyTarget | None:
        """Return the promise for the answers of an adapter on a base; None: nothing is promised."""
        return self.request_mixes.get(base, NO_REQUEST_MIX).promise(adapter)

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

    def neighbours(self, draft: ServerDraft) -> list[ServerDraft]:
        """Return the other servers on a server's devices."""
        return [
            other
            for device_id in sorted(draft.device_ids)
            for other in self.on_device[device_id]
            if other.name != draft.name
        ]

    def shape(self, draft: ServerDraft, slots: int, rank: int) -> ServerShape:
        """Return the shape of a managed server with these slots."""
        assert draft.device is not None
        parts = draft.parts
        if draft.base.kv_cache_bytes is not None and draft.devices:
            parts = max(len({*map(id, self.neighbours(draft)), id(draft)}), 1)
        return ServerShape(
            draft.base, draft.device, len(draft.devices), parts, slots, rank, shared=draft.shared
        )

    def free(self, draft: ServerDraft) -> int:
        """Return the bytes that a server may take on a device."""
        if draft.device is None:
            return 0
        usable = int(draft.device.memory_bytes * USABLE)
        taken_bytes = 0
        for device_id in draft.device_ids:
            neighbours = [other for other in self.on_device[device_id] if other is not draft]
            if neighbours and any(
                server.base.kv_cache_bytes is None and server.parts == 1
                for server in (draft, *neighbours)
            ):
                return 0  # a server there takes all
            taken_bytes = max(taken_bytes, sum(self.bytes_of(draft) for draft in neighbours))
        free_bytes = usable - taken_bytes
        return min(usable // draft.parts, free_bytes) if draft.shared else max(free_bytes, 0)

    def bytes_of(self, draft: ServerDraft) -> int:
        """Return the bytes that a server takes on a device."""
        assert draft.device is not None
        if draft.shared:
            return int(draft.device.memory_bytes * USABLE) // draft.parts
        return least_bytes(self.shape(draft, draft.slots, draft.rank))

    def shape_with(self, draft: ServerDraft, item: Item, spare: int) -> SlotShape | None:
        """Return the slots and rank with which a server holds a further item; None: it cannot.

        Slots and rank go up in buckets; declared values are taken as they are.
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

    def throughput(
        self,
        draft: ServerDraft,
        slots: int,
        rank: int,
        promises: frozenset[LatencyTarget] | None = None,
    ) -> Throughput:
        """Return the load that a server carries at the declared utilization; attached: unknown.

        `promises` are those that the server has to keep; None: those of its versions.
        """
        if draft.device is None:
            return Throughput(float("inf"), 0.0, NO_BASIS)
        mix = self.request_mixes.get(draft.base.name, NO_REQUEST_MIX)
        if promises is None:
            promises = draft.promises if mix.targets else NO_PROMISES
        return throughput_of(
            self.shape(draft, slots, rank),
            mix,
            self.fleet.profiles,
            self.fleet.policy.utilization,
            promises,
        )

    def breaks(self, draft: ServerDraft, item: Item, shape: SlotShape) -> bool:
        """Say whether a server would break a promise that another kind of device keeps."""
        return (item.base, item.promise) in self.in_reach and not self.keeps(draft, item, shape)

    def keeps(self, draft: ServerDraft, item: Item, shape: SlotShape | None = None) -> bool:
        """Say whether a server, with the slots and rank of a `shape` if given, keeps a promise."""
        if item.promise is None or draft.device is None:
            return True
        server_shape = self.shape(draft, *(shape or (draft.slots, draft.rank)))
        return keeps(server_shape, self.fleet.profiles, item.promise)

    def used(
        self, draft: ServerDraft, item: Item | None = None, shape: SlotShape | None = None
    ) -> Ints:
        """Return the part of a server's limit that its load takes, by hour, in millionths.

        With a further `item`, and with the slots and rank of a `shape`, if given.
        """
        due = draft.promises | {item.promise} if item and item.promise else None
        rate = self.throughput(draft, *(shape or (draft.slots, draft.rank)), due)
        more = draft.added_load(item) if item is not None else NOTHING
        tokens, active = draft.tokens + more.tokens, draft.active + more.active
        if not np.isfinite(rate.limit):
            return np.zeros(HOURS, dtype=np.int64)
        if rate.limit <= 0:
            return np.where(tokens > 0, np.int64(10**9), np.int64(0))
        slowdown = 1 + rate.spread * np.maximum(active / ACTIVE_UNIT - 1, 0)
        return np.ceil(tokens * slowdown / (RATE_UNIT * rate.limit) * 1e6).astype(np.int64)

    def peak_percent(self, used: Ints) -> str:
        """Return the largest part of `used`, of all that a server could carry, as `62 %`."""
        return percent(int(used.max()) * self.fleet.policy.utilization / FULL)

    def carries(self, draft: ServerDraft, item: Item, shape: SlotShape) -> bool:
        """Say whether a server, its neighbours and its host's memory carry a further item."""
        if int(self.used(draft, item, shape).max()) > FULL or self.breaks(draft, item, shape):
            return False
        if self.host_shortage(draft, item, shape[0]):
            return False
        return draft.base.kv_cache_bytes is None or all(
            int(self.used(other).max()) <= FULL or not other.residents
            for other in self.neighbours(draft)
        )

    def listed_bytes(self, draft: ServerDraft, item: Item | None = None, slots: int = 0) -> int:
        """Return the bytes of its host's memory for all versions that a server may list.

        With a further `item`, and with `slots` where the server may still choose, if given. A
        version of unknown size counts as 0 bytes.
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

    def host_shortage(self, draft: ServerDraft, item: Item, slots: int) -> Obstacle | None:
        """Return the obstacle of a host without memory for a further version, at any step.

        None: the host has the memory, is not limited, or lists the version already. The server
        that takes the version then has `slots`.

        vLLM keeps every listed adapter in main memory, as many as `max_cpu_loras`, once for every
        device of the server. A server that stops, or starts with other flags, counts as the larger
        of its bytes before and after, and so does a server whose largest adapter is unloaded: vLLM
        forgets only its name. Only unused servers are counted as gone, see
        `fleet.planning.ordering`. A host that has too much listed already may keep that.
        """
        host = self.fleet.hosts.get(draft.host)
        if host is None or host.memory_bytes is None or not draft.devices:
            return None
        if item.adapter in draft.names and slots <= draft.slots:
            return None
        other_servers = [server for server in self.on_host[draft.host] if server is not draft]
        now = self.listed_now.get(host.name, {})
        most = {server.name: self.listed_bytes(server) for server in other_servers}
        after = {server.name: most[server.name] for server in other_servers if server.residents}
        other_bytes = sum(after.values())
        after[draft.name] = most[draft.name] = server_bytes = self.listed_bytes(draft, item, slots)
        ending = {
            name: listed_bytes - after.get(name, 0)
            for name in {*now, *most}
            if (listed_bytes := max(now.get(name, 0), most.get(name, 0))) > after.get(name, 0)
        }
        need = server_bytes + other_bytes + sum(ending.values())
        if need <= max(host.memory_bytes, sum(now.values())):
            return None
        return _host_memory(host.name, host.memory_bytes, server_bytes, other_bytes, ending)

    def waits_for(self, name: str, host: HostSpec, devices: tuple[DeviceSpec, ...]) -> bool:
        """Say whether a server cannot be opened on devices before another server has gone.

        A server of the same name takes over: that is a restart.
        """
        stopping_drafts = (self.stopping.get((host.name, device.name)) for device in devices)
        return any(draft is not None and draft.name != name for draft in stopping_drafts)

    def port(self, name: str, host: HostSpec, device: DeviceSpec) -> int:
        """Return the device's port, or a higher port where another server has that port."""
        drafts = [draft for card in host.devices for draft in self.on_device[host.name, card.name]]
        drafts += [draft for draft in self.stopping.values() if draft.host == host.name]
        used_ports = {draft.port for draft in drafts if draft.name != name} | {
            other.port for other in host.devices if other is not device
        }
        port = device.port
        while port in used_ports:
            port += PORT_STRIDE
        return port


SHOWN = 2
"""Upper bound of the servers that a sentence names."""


def _host_memory(
    host: str, declared: int, server_bytes: int, other_bytes: int, ending: Mapping[str, int]
) -> Obstacle:
    """Return the obstacle of a host that declares too little memory, in bytes.

    The host needs `server_bytes` for the server that takes a further version, `other_bytes` for the
    other servers in the end, and the bytes of `ending` servers until those have stopped or started
    again.
    """
    until = sum(ending.values())
    need = server_bytes + other_bytes + until
    needs = [f"{size(server_bytes)} for a server that lists it"]
    if other_bytes:
        needs.append(f"{size(other_bytes)} for its other servers")
    if ending:
        named = ", ".join(f"`{server}`" for server in sorted(ending)[:SHOWN])
        named += f" and {more} more" if (more := len(ending) - SHOWN) > 0 else ""
        have = "has" if len(ending) == 1 else "have"
        needs.append(f"{size(until)} until {named} {have} stopped or started again")
    text = (
        f"host `{host}` declares {size(declared)} of memory for listed adapters, and "
        f"needs {' and '.join(needs)}: {size(need - declared)} short"
    )
    return Obstacle(Limit.HOST_MEMORY, host, text, need, declared)
