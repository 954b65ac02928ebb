"""Keep: bind versions to the servers they are on, as far as valid."""

from fleet.placement.causes import Limit
from fleet.placement.items import Item
from fleet.placement.rules import CLOSED, allows, server_rules
from fleet.placement.servers import ServerDraft, SlotShape
from fleet.placement.state import PlacementState


def keep(state: PlacementState) -> None:
    """Bind every version to its present servers, as far as rules, slots and rank still allow.

    Load does not count here: a server that carries too much is relieved afterwards, see `overload`.
    Servers that do not answer come last.
    """
    spare = state.fleet.policy.canary_slots
    for item in state.items.values():
        for name in item.prior:
            if len(state.bound[item.adapter]) >= item.replicas:
                break
            if name in state.live.unknown_servers:
                continue
            draft = state.drafts.get(name) or _reopen(state, name, item)
            if draft is None or draft.base.name != item.base:
                continue
            if draft.leaving:
                where = f"{draft.host}/{draft.devices[0].name}" if draft.devices else name
                state.forced.setdefault(item.adapter, f"`{where}` {draft.leaving}")
                continue
            if not allows(state, draft, item):
                continue
            shape: SlotShape | None = (draft.slots, draft.rank)
            if item.rank > draft.rank or not draft.has_slot_for(item):
                shape = None if draft.fixed else state.hardware.shape_with(draft, item, spare)
            if shape is not None and not state.hardware.host_shortage(draft, item, shape[0]):
                draft.slots, draft.rank = shape
                state.bind(item, draft, "")
        count_silent(state, item)


def count_silent(state: PlacementState, item: Item) -> None:
    """Count replicas on servers that do not answer, where too few others hold a version.

    A version that is on a server that answers needs a place on such a server.
    """
    bound, silent = state.bound[item.adapter], state.live.unknown_servers
    needed = max(len(bound), not silent.keys() >= {*item.prior})
    usable = [
        name
        for name in item.prior
        if name in silent and name not in state.abandoned
        if name not in state.places or not any(server_rules(item, state.places[name][1], name))
    ]
    bound += usable[: max(item.replicas - needed, 0)]


def _reopen(state: PlacementState, name: str, item: Item) -> ServerDraft | None:
    """Open a server that is gone again, where its device is still free for a server."""
    if name not in state.places:
        return None
    base, host, device = state.places[name]
    if base != item.base or device.state in CLOSED or state.fleet.bases[base].tensor_parallel:
        return None
    waits = state.hardware.waits_for(name, host, (device,))
    if waits or Limit.PIN in server_rules(item, host, name):
        return None
    draft = state.open(base, host, (device,))
    shapes = (
        state.hardware.shape_with(draft, item, spare)
        for spare in (state.fleet.policy.canary_slots, 0)
    )
    shape = next(filter(None, shapes), None)
    if shape is None:
        state.close(draft)
        return None
    draft.slots, draft.rank = shape
    state.opened[name] = "it is gone, and its adapters belong on it"
    return draft


def close_empty(state: PlacementState) -> None:
    """Give back the devices of empty servers whose base needs no room."""
    needed = {item.base for item in state.missing()}
    for name, draft in list(state.drafts.items()):
        idle = not draft.held and not draft.names
        unneeded = draft.base.name not in needed or draft.closed
        if draft.live and draft.devices and idle and unneeded:
            state.hardware.drop(draft)
            state.hardware.listed_now.get(draft.host, {}).pop(name, None)
            del state.drafts[name]
