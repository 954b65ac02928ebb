"""Fill: put versions on the open servers that suit them best; hard ones before all others."""

from collections import Counter
from collections.abc import Callable, Iterable

import numpy as np

from fleet.placement.free_devices import hosts_for, server_types_for
from fleet.placement.items import Item
from fleet.placement.servers import FULL, ServerDraft, percent
from fleet.placement.state import PlacementState, by_name, hardest_first
from fleet.vllm import RANKS, rank_bucket

SlotShape = tuple[int, int]
Works = Callable[[ServerDraft, Item], SlotShape | None]


def fill(state: PlacementState, among: Iterable[Item] | None = None) -> None:
    """Use free slots of open servers, canary slots left free.

    Args:
        state: Everything.
        among: The versions to place; None: all that lack a place.
    """
    spare = state.fleet.policy.canary_slots

    def works(draft: ServerDraft, item: Item) -> SlotShape | None:
        if draft.fixed:
            fits = item.rank <= draft.rank and draft.has_slot_for(item)
            return _carried(state, draft, item, (draft.slots, draft.rank) if fits else None)
        return _carried(state, draft, item, state.hardware.shape_with(draft, item, spare))

    _place_all(state, works, "room", among)


def spare(state: PlacementState) -> None:
    """Use slots that were kept for canaries, where nothing else is left."""

    def works(draft: ServerDraft, item: Item) -> SlotShape | None:
        if draft.fixed:
            return None
        return _carried(state, draft, item, state.hardware.shape_with(draft, item, 0))

    _place_all(state, works, "takes a slot kept spare for canaries")


def restart(state: PlacementState) -> None:
    """Restart running servers with more slots or rank, where their device has the memory.

    While a server of its base is silent, nothing is restarted for a version.
    """
    canaries = state.fleet.policy.canary_slots

    def works(draft: ServerDraft, item: Item) -> SlotShape | None:
        if not draft.devices or state.waits(item):
            return None
        for kept in (canaries, 0):
            shape = _carried(state, draft, item, state.hardware.shape_with(draft, item, kept))
            if shape is not None:
                return shape
        return None

    _place_all(state, works, "the server restarts with more room")


def _place_all(
    state: PlacementState, works: Works, why: str, among: Iterable[Item] | None = None
) -> None:
    pools: dict[str, list[ServerDraft]] = {}
    for draft in state.drafts.values():
        pools.setdefault(draft.base.name, []).append(draft)
    useless: dict[tuple[str, int], set[str]] = {}
    for item in state.missing() if among is None else sorted(among, key=hardest_first):
        pool = pools.get(item.base, [])
        while pool and len(state.bound[item.adapter]) < item.replicas:
            hopeless = useless.setdefault((item.base, item.rank), set())
            found = _best(state, pool, item, works, hopeless)
            if found is None:
                break
            draft, shape = found
            _take(draft, item, shape)
            state.bind(item, draft, _reason(state, draft) if why == "room" else why)


def _best(
    state: PlacementState, pool: list[ServerDraft], item: Item, works: Works, useless: set[str]
) -> tuple[ServerDraft, SlotShape] | None:
    """Return the server that a version fits best, with the slots and rank it then has.

    Servers of the lowest sufficient rank come first, so that no slot is wider than it must be;
    among them the one whose load is most unlike the version's, so that peaks do not meet.
    """
    ranked = sorted(pool, key=lambda draft: _order(draft, item))
    for draft in ranked:
        if draft.closed or draft.name in useless or not state.allows(draft, item):
            continue
        shape = works(draft, item)
        if shape is not None:
            return draft, shape
        if not item.peak and not item.cached:
            useless.add(draft.name)  # nothing lighter of this rank will find room either
    return None


def _order(draft: ServerDraft, item: Item) -> tuple[bool, int, float, str]:
    if not item.peak or not int(draft.tokens.max()):
        return (draft.rank < item.rank, draft.rank, 0.0, draft.name)
    together = draft.tokens + item.load.tokens
    alike = float(together.max()) / float(draft.tokens.max() + item.peak)
    return (draft.rank < item.rank, draft.rank, round(alike, 6), draft.name)


def _carried(
    state: PlacementState, draft: ServerDraft, item: Item, shape: SlotShape | None
) -> SlotShape | None:
    return shape if shape is not None and state.hardware.carries(draft, item, shape) else None


def _take(draft: ServerDraft, item: Item, shape: SlotShape) -> None:
    """Give a server its slots and rank; a running server restarts for new ones."""
    if draft.fixed and shape != (draft.slots, draft.rank):
        had = f"{draft.slots} slots of rank {draft.rank}"
        draft.fixed = False
        draft.names = set(draft.residents)
        draft.most_listed = None
        draft.changed = (
            f"`{item.adapter}` of rank {item.rank} finds no room, and the server has {had}"
        )
    draft.slots, draft.rank = shape


def _reason(state: PlacementState, draft: ServerDraft) -> str:
    used = state.hardware.used(draft)
    if not np.any(used):
        return "first server with a free slot"
    hour = int(used.argmax())
    part = int(used.max()) * state.fleet.policy.utilization / FULL
    return f"has a free slot; its worst hour is {hour:02}:00 UTC, {percent(part)} of its throughput"


WATCHED = 500
"""Upper bound of the versions that are counted by the hosts they could go to."""


def place_first(state: PlacementState, names: tuple[str, ...]) -> None:
    """Place versions one by one: on open servers, else where the fewest other versions could go.

    Of places that are wanted alike the cheapest is taken.
    """
    if not names:
        return
    wanted = Counter(
        host for item in state.missing()[:WATCHED] for host in set(hosts_for(state, item))
    )
    for name in names:
        item = state.items.get(name)
        while item is not None and len(state.bound[name]) < item.replicas:
            if not (_joined(state, item, wanted) or _opened(state, item, wanted)):
                break


def _joined(state: PlacementState, item: Item, wanted: Counter[str]) -> bool:
    """Put a version on an open server; say whether one had a slot."""
    for draft in sorted(by_name(state.drafts.values()), key=lambda draft: wanted[draft.host]):
        if (
            draft.base.name == item.base
            and not draft.closed
            and _bind_if_it_fits(state, draft, item)
        ):
            return True
    return False


def _opened(state: PlacementState, item: Item, wanted: Counter[str]) -> bool:
    """Open a server for a version; say whether there was a device for it."""
    base = state.fleet.bases[item.base]
    rank = base.max_lora_rank or rank_bucket(item.rank) or RANKS[-1]
    server_types = server_types_for(state, base, rank, frozenset(hosts_for(state, item)))
    places = [
        (wanted[host.name], place, number, server_type.parts, host, devices)
        for place, server_type in enumerate(server_types)
        for number, (host, devices) in enumerate(server_type.places)
    ]
    for *_, parts, host, devices in sorted(places, key=lambda place: place[:3]):
        draft = state.open(item.base, host, devices, parts)
        if _bind_if_it_fits(state, draft, item):
            state.opened[draft.name] = "elsewhere, another version would find no place"
            return True
        state.close(draft)
    return False


def _bind_if_it_fits(state: PlacementState, draft: ServerDraft, item: Item) -> bool:
    """Bind a version where rules, slots and load allow."""
    if not state.allows(draft, item):
        return False
    for kept in (state.fleet.policy.canary_slots, 0):
        if draft.fixed:
            fits = item.rank <= draft.rank and draft.has_slot_for(item)
            shape = (draft.slots, draft.rank) if fits else None
        else:
            shape = state.hardware.shape_with(draft, item, kept)
        if shape is not None and state.hardware.carries(draft, item, shape):
            draft.slots, draft.rank = shape
            state.bind(item, draft, "elsewhere, another version would find no place")
            return True
    return False
