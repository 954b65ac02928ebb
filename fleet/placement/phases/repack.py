"""Repack: places everything afresh, keeps servers that run where they do, and finds the way there.

Old and new copies are both there for a while. So a server starts on the devices of another only
after that has stopped, and a server without a free slot lists a version only after another
version has gone. Servers that wait for each other in a circle stay as they are.
"""

from collections import Counter, defaultdict, deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from fleet.capacity import least_bytes
from fleet.names import Address, adapter_address, alias_of
from fleet.placement.model.devices import Devices
from fleet.placement.model.server_types import ServerType
from fleet.placement.model.servers import FULL, ServerDraft
from fleet.placement.model.state import PlacementState, by_name, hardest_first
from fleet.placement.phases.fill import bind_if_it_fits, server_types_for
from fleet.placement.phases.keep import count_silent


def empty(state: PlacementState, staying: Collection[str]) -> None:
    """Close the live servers as if nothing ran, besides those `staying`.

    Attached servers, servers with versions of others and silent servers stay too.
    """
    for draft in by_name(state.drafts.values()):
        foreign = draft.names - state.items.keys()
        owned = state.targets.owned.issuperset(adapter_address(n, draft.name) for n in foreign)
        if draft.devices and draft.name not in staying and owned:
            state.close(draft)
            state.given_up[draft.name] = draft
            if draft.held:
                state.hardware.in_use |= draft.device_ids
    for item in state.items.values():
        count_silent(state, item)


def reuse(state: PlacementState) -> None:
    """Leave servers that run as they are, where they carry the versions that are placed there."""
    for name, before in state.given_up.items():
        draft = state.drafts.get(name)
        if draft is None or not before.fixed or before.devices != draft.devices:
            continue
        if draft.rank <= before.rank and _carries(state.hardware, draft, before):
            draft.fixed, draft.live, draft.held = True, before.live, before.held
            draft.most_listed = before.most_listed
            draft.names |= before.held
            draft.cached |= before.cached
            state.opened.pop(name, None)
            for item in draft.residents.values():
                state.why[adapter_address(item.adapter, name)] = "part of packing everything afresh"


def _carries(hardware: Devices, draft: ServerDraft, before: ServerDraft) -> bool:
    """Give a server its running shape; say whether server and devices carry the versions."""
    neighbours, had = hardware.neighbours(draft), (draft.slots, draft.rank, draft.parts)
    draft.slots, draft.rank, draft.parts = before.slots, before.rank, before.parts
    if (
        (not neighbours or draft.parts == had[2])
        and draft.slots_needed() <= draft.slots
        and (before.most_listed is None or len(draft.names) <= before.most_listed)
        and least_bytes(hardware.shape(draft, draft.slots, draft.rank)) <= hardware.free(draft)
        and all(int(hardware.used(server).max()) <= FULL for server in (draft, *neighbours))
    ):
        return True
    draft.slots, draft.rank, draft.parts = had
    return False


def relocate(state: PlacementState) -> None:
    """Move servers that would restart in their place to free devices alike, if there are any.

    A restart interrupts the versions that no other server holds.
    """
    for name, before in state.given_up.items():
        draft = state.drafts.get(name)
        if draft is None or draft.live or not before.held or draft.parts > 1:
            continue
        hosts = frozenset(state.fleet.hosts)
        for server_type in server_types_for(state, draft.base, draft.rank, hosts):
            kind = ServerType(draft.devices[0], len(draft.devices), 1, server_type.price).kind
            price = sum(device.price_per_hour for device in draft.devices)
            if server_type.kind == kind and server_type.price == price:
                _relocate(state, draft, server_type)
                break


def _relocate(state: PlacementState, draft: ServerDraft, server_type: ServerType) -> None:
    """Open a server on free devices in place of another, if these take all its versions."""
    host, devices = server_type.places[0]
    new = state.open(draft.base.name, host, devices)
    if new.device_ids & state.hardware.in_use or state.hardware.neighbours(new):
        state.close(new)
        return
    for item in sorted(draft.residents.values(), key=hardest_first):
        state.release(item, draft)
        why = f"new server on `{host.name}/{devices[0].name}`, beside the one that it replaces"
        if not bind_if_it_fits(state, new, item, (state.fleet.policy.canary_slots, 0), why):
            state.bind(item, draft, "")
            break
    else:
        state.opened[new.name] = f"replaces `{draft.name}` without a restart"
        state.opened.pop(draft.name, None)
        state.close(draft)
        return
    for item in list(new.residents.values()):
        state.release(item, new)
        state.bind(item, draft, "")
    state.close(new)


@dataclass(slots=True)
class _Moving:
    """An alias whose versions change servers: all new copies are there before an old one goes."""

    comes: list[tuple[str, str]] = field(default_factory=list)
    """(version, server) to load."""
    goes: list[tuple[str, str]] = field(default_factory=list)
    """(version, server) that go once the new copies serve."""


def find_way(state: PlacementState) -> set[str]:
    """Note in which turn versions come and go; return live servers in each other's way, or none."""
    runs = {name for name in state.given_up if _runs(state, name)}
    moving = _moving(state, runs)
    opened = [draft for draft in state.drafts.values() if draft.residents and not draft.live]
    users = _users(state, moving, runs)
    waits = {
        draft.name: [
            name
            for name in users
            if name == draft.name or state.given_up[name].device_ids & draft.device_ids
        ]
        for draft in opened
    }
    rooms = {name: _Room(state.drafts[name]) for name in sorted(runs)}
    while moving:
        waiting = {}
        for alias, move in moving.items():
            blocked = any(users[stop] for _, name in move.comes for stop in waits.get(name, ()))
            if blocked or not _have_room(rooms, move.comes):
                waiting[alias] = move
                continue
            for version, name in move.comes:
                if name in rooms and (freed := rooms[name].take(version)):
                    state.turns[adapter_address(version, name)] = freed
            for version, name in move.goes:
                if name in rooms:
                    rooms[name].free(version)
                elif name in users:
                    users[name].discard(version)
        if len(waiting) == len(moving):
            crowded = {name for move in waiting.values() for _, name in move.comes if name in rooms}
            stopping = {
                stop
                for move in waiting.values()
                for _, name in move.comes
                for stop in waits.get(name, ())
            }
            return crowded | {name for name in stopping if users[name]}
        moving = waiting
    return set()


def _runs(state: PlacementState, name: str) -> bool:
    draft = state.drafts.get(name)
    return draft is not None and draft.live is not None


def _users(
    state: PlacementState, moving: Mapping[str, _Moving], runs: Collection[str]
) -> dict[str, set[str]]:
    """Return the versions that have to leave a server before the stop, by server that stops.

    A server that restarts waits for those that go, or are diverted, to servers that run on.
    """
    users = {}
    for name, before in state.given_up.items():
        if name not in runs:
            users[name] = {
                version
                for version in before.held
                if name not in state.drafts
                or any(server in runs for _, server in moving[alias_of(version)].comes)
            }
    return users


def _moving(state: PlacementState, runs: Collection[str]) -> dict[str, _Moving]:
    """Return the aliases whose versions come to servers or leave servers.

    Versions of others stay where they are for as long as the server runs.
    """
    moves: dict[str, _Moving] = defaultdict(_Moving)
    for version, names in state.bound.items():
        loaded_servers = state.targets.loaded.get(version, ())
        moves[alias_of(version)].comes += [
            (version, name)
            for name in names
            if name in state.drafts and not (name in loaded_servers and _runs(state, name))
        ]
    for name, before in state.given_up.items():
        stay = state.drafts[name].residents if name in runs else ()
        for version in sorted(before.held):
            owned = adapter_address(version, name) in state.targets.owned
            if version not in stay and (owned or name not in runs):
                moves[alias_of(version)].goes.append((version, name))
    return {alias: move for alias, move in sorted(moves.items()) if move.comes or move.goes}


class _Room:
    """Free places of a server that runs on, with the versions that have to go before."""

    def __init__(self, draft: ServerDraft) -> None:
        self.cached = draft.cached
        pinned = len(draft.held - draft.cached)
        most = draft.slots if draft.most_listed is None else draft.most_listed
        self.slots: deque[Address | None] = deque([None] * (draft.slots - draft.blocked - pinned))
        self.listed: deque[Address | None] = deque([None] * (most - len(draft.held)))
        self.name = draft.name

    def needs(self, version: str) -> tuple[deque[Address | None], ...]:
        """Return the kinds of places that a version takes."""
        return (self.listed,) if version in self.cached else (self.listed, self.slots)

    def take(self, version: str) -> tuple[Address, ...]:
        """Take places for a version; return the versions that have to go before."""
        freed = {places.popleft() for places in self.needs(version)}
        return tuple(sorted(address for address in freed if address is not None))

    def free(self, version: str) -> None:
        """Note that a version goes."""
        for places in self.needs(version):
            places.append(adapter_address(version, self.name))


def _have_room(rooms: Mapping[str, _Room], comes: list[tuple[str, str]]) -> bool:
    """Say whether all servers that run on have room for the versions that come."""
    needed: Counter[int] = Counter()
    places: dict[int, int] = {}
    for version, name in comes:
        for kind in rooms[name].needs(version) if name in rooms else ():
            needed[id(kind)] += 1
            places[id(kind)] = len(kind)
    return all(count <= places[kind] for kind, count in needed.items())
