"""Widen: servers on several devices, for promises that no single device keeps."""

from fleet.capacity import LatencyTarget, keeps
from fleet.names import adapter_address
from fleet.placement.consolidate import join
from fleet.placement.fill import bind_if_it_fits, hosts_for, server_types_for
from fleet.placement.items import Item
from fleet.placement.server_types import TENSOR_PARALLEL_SIZES, promises_in_reach
from fleet.placement.servers import ServerDraft
from fleet.placement.state import PlacementState, by_name, hardest_first
from fleet.vllm import RANKS, rank_bucket

Late = list[tuple[Item, ServerDraft]]
"""Versions whose promise is broken on the server that they are on."""
REASON = "the devices of this server keep together what is promised, and no single device does"


def widen(state: PlacementState) -> None:
    """Move versions to servers on several free devices, where their promise is kept.

    Only versions that are new where they stand, and only promises that servers on as few devices as
    the memory needs break everywhere. The cheapest such servers come first.
    """
    mixes = state.hardware.request_mixes
    if not any(mix.targets for mix in mixes.values()):
        return
    narrow = promises_in_reach(state.fleet, mixes)
    reach = [promises_in_reach(state.fleet, mixes, width) for width in TENSOR_PARALLEL_SIZES[1:]]
    wider = frozenset[tuple[str, LatencyTarget]]().union(*reach) - narrow
    for base in sorted({base for base, _ in wider}):
        late: Late = [
            (item, draft)
            for draft in by_name(state.drafts.values())
            for item in sorted(draft.residents.values(), key=hardest_first)
            if (base, item.promise) in wider and draft.is_movable(item)
            if draft.base.name == base and draft.devices and not state.hardware.keeps(draft, item)
        ]
        for draft in [*state.drafts.values()]:
            if len(draft.devices) > 1 and draft.base.name == base and not draft.closed:
                late = _taken(state, late, draft)
        if late:
            _open(state, base, late)
            join(state, base)


def _open(state: PlacementState, base: str, late: Late) -> None:
    """Open servers on several devices for versions, as long as a version gains by that."""
    declared, profiles = state.fleet.bases[base], state.fleet.profiles
    rank = declared.max_lora_rank or rank_bucket(late[0][0].rank) or RANKS[-1]
    hosts = frozenset(host for item, _ in late for host in hosts_for(state, item))
    types = server_types_for(state, declared, rank, hosts, TENSOR_PARALLEL_SIZES[1:])
    for server_type, (host, devices) in ((its, place) for its in types for place in its.places):
        shape = server_type.shape(declared, declared.slots or 1, rank)
        if (
            server_type.tensor_parallel == 1
            or shape is None
            or not any(item.promise and keeps(shape, profiles, item.promise) for item, _ in late)
        ):
            continue
        if any(state.hardware.on_device[host.name, device.name] for device in devices):
            continue  # a server that was opened just now
        draft = state.open(base, host, devices)
        late = _taken(state, late, draft)
        if draft.residents:
            where = ", ".join(f"`{host.name}/{device.name}`" for device in devices)
            state.opened[draft.name] = f"{where} keep together what no single device keeps"
            state.floors.pop(base, None)  # a proof over servers on fewer devices
        else:
            state.close(draft)


def _taken(state: PlacementState, late: Late, draft: ServerDraft) -> Late:
    """Move versions to a server that keeps their promise; return those that it does not take."""
    return [(item, at) for item, at in late if at is draft or not _moved(state, item, at, draft)]


def _moved(state: PlacementState, item: Item, at: ServerDraft, to: ServerDraft) -> bool:
    """Move a version to a server with room that keeps its promise; say whether the server does."""
    had, shape = state.why.get(adapter_address(item.adapter, at.name), ""), (to.slots, to.rank)
    state.release(item, at)
    spares = (state.fleet.policy.canary_slots, 0)
    if bind_if_it_fits(state, to, item, spares, REASON):
        if state.hardware.keeps(to, item):
            if not at.residents and not at.live:
                state.close(at)
                state.opened.pop(at.name, None)
            return True
        state.release(item, to)
        to.slots, to.rank = shape
    state.bind(item, at, "")
    if had:
        state.why[adapter_address(item.adapter, at.name)] = had
    return False
