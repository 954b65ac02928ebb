"""Fill: put versions on the open servers that suit them best, the hardest first."""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

import numpy as np

from fleet.hardware import BaseSpec, DeviceSpec, HostSpec
from fleet.names import server_name
from fleet.placement.model.items import Item
from fleet.placement.model.latency_slo import too_slow
from fleet.placement.model.rules import CLOSED, allows, is_open_to, takes
from fleet.placement.model.server_types import ServerType, ServerTypeKey, server_types_on
from fleet.placement.model.servers import OpenServers, ServerDraft, SlotShape, by_base
from fleet.placement.model.state import PlacementState, by_name, hardest_first
from fleet.vllm import RANKS, rank_bucket

ShapeOf = Callable[[ServerDraft, Item], SlotShape | None]


def fill(state: PlacementState, among: Iterable[Item] | None = None) -> None:
    """Use free slots of open servers, canary slots left free, for all versions or some."""
    spares = (state.fleet.policy.canary_slots,)
    _place_all(state, lambda draft, item: _shape(state, draft, item, spares), "", among)


def spare(state: PlacementState) -> None:
    """Use slots that were kept for canaries, where nothing else is left."""
    _place_all(
        state,
        lambda draft, item: None if draft.fixed else _shape(state, draft, item, (0,)),
        "takes a slot kept spare for canaries",
    )


def restart(state: PlacementState) -> None:
    """Restart running servers with more slots or rank, where their device has the memory.

    While a server of its base is silent, nothing is restarted for a version. A server that keeps
    its settings during an upgrade is not restarted either: it would start with the new ones.
    """
    spares = (state.fleet.policy.canary_slots, 0)
    waiting = {name for upgrade in state.targets.upgrades for name in upgrade.held}

    def shape_of(draft: ServerDraft, item: Item) -> SlotShape | None:
        if not draft.devices or draft.name in waiting or state.silent_servers(item):
            return None
        return _shape(state, draft, item, spares, keeps=False)

    _place_all(state, shape_of, "the server restarts with more room")


def substitute(state: PlacementState, among: Iterable[Item]) -> dict[str, str]:
    """Put versions, in this order, on running servers with their flags; return the servers.

    By version. Rules, slots and load count as for every other place. A version that fits nowhere
    is left out; a version that is named twice gets two servers.
    """

    def shape_of(draft: ServerDraft, item: Item) -> SlotShape | None:
        runs = draft.fixed and draft.live is not None
        return _shape(state, draft, item, (0,)) if runs else None

    servers: dict[str, str] = {}
    pools = by_base(state.drafts.values())
    for item in among:
        if best := _best(state, pools[item.base], item, shape_of, set()):
            draft, _ = best
            state.bind(item, draft, "")
            pools[item.base].refresh(draft)
            servers[item.adapter] = draft.name
    return servers


def _shape(
    state: PlacementState,
    draft: ServerDraft,
    item: Item,
    spares: Sequence[int],
    *,
    keeps: bool = True,
) -> SlotShape | None:
    """Return the slots and rank with which a server takes a version; None: it does not.

    `spares` are the numbers of slots to leave free, the best first. A running server keeps its
    slots and rank, unless `keeps` is False.
    """
    for spare in spares:
        if not (draft.fixed and keeps):
            shape = state.hardware.shape_with(draft, item, spare)
        else:
            fits = item.rank <= draft.rank and draft.has_slot_for(item)
            shape = (draft.slots, draft.rank) if fits else None
        if shape is not None and state.hardware.carries(draft, item, shape):
            return shape
    return None


def _place_all(
    state: PlacementState, shape_of: ShapeOf, why: str, among: Iterable[Item] | None = None
) -> None:
    pools = by_base(state.drafts.values())
    useless: dict[tuple[str, int], set[str]] = defaultdict(set)
    for item in state.missing() if among is None else sorted(among, key=hardest_first):
        while state.missing_replicas(item) > 0:
            best = _best(state, pools[item.base], item, shape_of, useless[item.base, item.rank])
            if best is None:
                break
            draft, shape = best
            _take(draft, item, shape)
            state.bind(item, draft, why or _reason(state, draft))
            pools[item.base].refresh(draft)


def _best(
    state: PlacementState, pool: OpenServers, item: Item, shape_of: ShapeOf, useless: set[str]
) -> tuple[ServerDraft, SlotShape] | None:
    """Return the server that a version fits best, with its slots and rank then."""
    for draft in pool.suiting(item):
        if draft.name in useless or not takes(state, draft, item):
            continue
        shape = shape_of(draft, item)
        if shape is not None:
            return draft, shape
        if not item.peak and not item.cached:
            useless.add(draft.name)  # nothing lighter of this rank will find room either
    return None


def _take(draft: ServerDraft, item: Item, shape: SlotShape) -> None:
    """Give a server its slots and rank; a running server restarts for new values."""
    if draft.fixed and shape != (draft.slots, draft.rank):
        had = f"{draft.slots} slots of rank {draft.rank}"
        draft.fixed = False
        draft.names = set(draft.residents)
        draft.most_listed = None
        lacks = f"`{item.adapter}` of rank {item.rank} finds no room"
        draft.changed = f"{lacks}, and the server has {had}"
    draft.slots, draft.rank = shape


def _reason(state: PlacementState, draft: ServerDraft) -> str:
    used = state.hardware.used(draft)
    if not np.any(used):
        return "first server with a free slot"
    hour, part = int(used.argmax()), state.hardware.peak_percent(used)
    return f"has a free slot; its worst hour is {hour:02}:00 UTC, {part} of its throughput"


WATCHED = 500
"""Upper bound of the versions that are counted by the hosts they could go to."""
ELSEWHERE = "elsewhere, another version would find no place"


def place_first(state: PlacementState, names: tuple[str, ...]) -> None:
    """Place versions in this order: on open servers, else where the fewest others could go.

    Of places that are wanted alike the cheapest is taken.
    """
    if not names:
        return
    rivals = Counter(
        host for item in state.missing()[:WATCHED] for host in set(hosts_for(state, item))
    )
    for name in names:
        item = state.items.get(name)
        while item is not None and state.missing_replicas(item) > 0:
            if not (_joined(state, item, rivals) or open_for(state, item, rivals)):
                break


def _joined(state: PlacementState, item: Item, rivals: Counter[str]) -> bool:
    """Put a version on an open server; say whether a server had a slot."""
    return any(
        bind_if_it_fits(state, draft, item, (state.fleet.policy.canary_slots, 0), ELSEWHERE)
        for draft in sorted(by_name(state.drafts.values()), key=lambda draft: rivals[draft.host])
        if draft.base.name == item.base and not draft.closed
    )


def open_for(state: PlacementState, item: Item, rivals: Counter[str]) -> bool:
    """Open a server for a version; say whether there was a device for it."""
    base = state.fleet.bases[item.base]
    rank = base.max_lora_rank or rank_bucket(item.rank) or RANKS[-1]
    server_types = server_types_for(state, base, rank, frozenset(hosts_for(state, item)))
    places = [
        (rivals[host.name], place, number, server_type.parts, host, devices)
        for place, server_type in enumerate(server_types)
        for number, (host, devices) in enumerate(server_type.places)
    ]
    for *_, parts, host, devices in sorted(places, key=lambda place: place[:3]):
        draft = state.open(item.base, host, devices, parts)
        if bind_if_it_fits(state, draft, item, (state.fleet.policy.canary_slots, 0), ELSEWHERE):
            state.opened[draft.name] = ELSEWHERE
            return True
        state.close(draft)
    return False


def bind_if_it_fits(
    state: PlacementState, draft: ServerDraft, item: Item, spares: Sequence[int], why: str
) -> bool:
    """Bind a version to a server where rules, slots and load allow; say whether they did."""
    shape = _shape(state, draft, item, spares) if allows(state, draft, item) else None
    if shape is None:
        return False
    draft.slots, draft.rank = shape
    state.bind(item, draft, why)
    return True


def server_types_for(
    state: PlacementState,
    base: BaseSpec,
    rank: int,
    hosts: frozenset[str],
    wide: Collection[int] = (),
) -> list[ServerType]:
    """Return the types of server of a base that hold a version of `rank`.

    With the free places of every type, those on devices that are divided already first. `wide`: as
    in `server_types_on`.
    """
    types: dict[ServerTypeKey, ServerType] = {}
    for host_name in sorted(hosts):
        host = state.fleet.hosts[host_name]
        usable = [device for device in host.devices if device.state not in CLOSED]
        for server_type, devices in server_types_on(state.fleet, base, rank, usable, wide):
            name = server_name(base.name, host_name, devices[0].name)
            free = all(is_free(state, base, host, device, server_type.parts) for device in devices)
            if free and not state.hardware.waits_for(name, host, devices):
                types.setdefault(server_type.label, server_type).places.append((host, devices))
    on_device, in_use = state.hardware.on_device, state.hardware.in_use

    def order(place: tuple[HostSpec, tuple[DeviceSpec, ...]]) -> tuple[bool, bool]:
        device_ids = [(place[0].name, device.name) for device in place[1]]
        return not any(map(on_device.get, device_ids)), not in_use.isdisjoint(device_ids)

    for server_type in types.values():
        server_type.places.sort(key=order)
    return [types[label] for label in sorted(types)]


def is_free(
    state: PlacementState, base: BaseSpec, host: HostSpec, device: DeviceSpec, parts: int
) -> bool:
    """Say whether a device has room for a further server, of `parts` that divide the device."""
    name = server_name(base.name, host.name, device.name)
    if name in state.drafts or name in state.live.unknown_servers:
        return False
    neighbours = state.hardware.on_device[host.name, device.name]
    if base.kv_cache_bytes is not None:
        return all(draft.base.kv_cache_bytes is not None or draft.parts > 1 for draft in neighbours)
    if parts == 1:
        return not neighbours
    return len(neighbours) < parts and all(draft.parts == parts for draft in neighbours)


def hosts_for(state: PlacementState, item: Item) -> Iterator[str]:
    """Yield the hosts with devices on which rules let a further replica of a version."""
    base = state.fleet.bases[item.base]
    number = base.tensor_parallel or 1
    devices = state.device_ids(item) if item.spread == "host" else ()
    replica_hosts = {host for host, _ in devices}
    for name, host in sorted(state.fleet.hosts.items()):
        is_open = name not in replica_hosts and is_open_to(host, item.pin, item.avoid, item.groups)
        if is_open and any(
            not too_slow(state.fleet, item, base, (device,) * number) for device in host.devices
        ):
            yield name
