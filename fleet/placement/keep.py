"""Keep: bind versions to the servers they are on, as far as valid, and relieve overload."""

from fleet.placement.causes import Limit
from fleet.placement.items import Item
from fleet.placement.rules import CLOSED, allows, server_rules
from fleet.placement.servers import FULL, ServerDraft, SlotShape
from fleet.placement.state import PlacementState, by_name


def keep(state: PlacementState) -> None:
    """Bind every version to its present servers, as far as rules, slots and rank still allow.

    Load does not count here: a server that carries too much is relieved afterwards.
    """
    spare = state.fleet.policy.canary_slots
    for item in state.items.values():
        for name in item.prior:
            if len(state.bound[item.adapter]) >= item.replicas:
                break
            if name in state.live.unknown_servers:
                state.bound[item.adapter].append(name)
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


def relieve(state: PlacementState) -> None:
    """Take versions off overloaded servers, as few as possible; they look for another place.

    A running server is relieved only where it carries more than half-way between the load that a
    new placement may take and all that it could carry: a small change of demand moves nothing. A
    server that is gone and starts again may take as much as a new server.
    """
    slack = int(FULL * (1 + state.fleet.policy.utilization) / 2 / state.fleet.policy.utilization)
    for draft in by_name(state.drafts.values()):
        limit = slack if draft.live else FULL
        used = state.hardware.used(draft)
        while int(used.max()) > limit:
            hour = int(used.argmax())
            item = _heaviest(draft, hour)
            if item is None:
                break
            state.release(item, draft)
            state.relieved[item.adapter] = draft.name
            state.forced[item.adapter] = (
                f"`{draft.name}` is overloaded at {hour:02}:00 UTC, "
                f"{state.hardware.peak_percent(used)} of its throughput"
            )
            used = state.hardware.used(draft)


def put_back(state: PlacementState) -> None:
    """Leave versions on an overloaded server where no other place is found for them."""
    for item in state.missing():
        draft = state.drafts.get(state.relieved.get(item.adapter, ""))
        if draft is None or item.adapter in draft.residents or not draft.has_slot_for(item):
            continue
        if not draft.live or state.hardware.host_shortage(draft, item, draft.slots):
            continue
        if item.rank <= draft.rank and allows(state, draft, item):
            state.bind(item, draft, "")
            del state.forced[item.adapter]


def _heaviest(draft: ServerDraft, hour: int) -> Item | None:
    """Return the version whose leaving relieves an hour most; None where none does."""
    movable = (
        item
        for _, item in sorted(draft.residents.items())
        if item.pin is None and draft.aliases[item.alias] == 1 and int(item.load.tokens[hour]) > 0
    )
    return max(movable, key=lambda item: int(item.load.tokens[hour]), default=None)


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
