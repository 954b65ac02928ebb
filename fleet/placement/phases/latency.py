"""Latency: swaps of versions and wider servers, for fewer answers that come later than promised.

An answer of few tokens feels every slow step, a long answer only their mean. So versions that are
new where they stand change places, or move into free slots, until fewer promises are in danger:
no server is opened or restarted, and nothing that runs already moves. Where no single device keeps
a promise, `widen` opens a server on several devices.
"""

from collections.abc import Callable, Iterator, Sequence
from math import inf

import numpy as np
from numpy.typing import NDArray

from fleet.capacity import LatencyTarget, keeps, speed_of
from fleet.hardware import Speed
from fleet.names import adapter_address
from fleet.placement.model.devices import Devices
from fleet.placement.model.items import ACTIVE_UNIT, RATE_UNIT, Ints, Item
from fleet.placement.model.rules import allows
from fleet.placement.model.server_types import TENSOR_PARALLEL_SIZES, promises_in_reach
from fleet.placement.model.servers import FULL, ServerDraft
from fleet.placement.model.state import PlacementState, by_name, hardest_first
from fleet.placement.phases.consolidate import join
from fleet.placement.phases.fill import bind_if_it_fits, hosts_for, server_types_for
from fleet.vllm import RANKS, rank_bucket

Floats = NDArray[np.float64]

READING = 2
"""Steps in which a prompt is read."""
PATIENCE = 3.0
"""Multiple of the time of an idle server within which a promise counts as kept that even the
fastest server of the base breaks; and an aim that this server misses."""
CALM, LATE = 0.6, 0.8
"""Parts of the promised time that the expected time may take, scatter included: up to the first a
promise is safe, from the second on it counts as broken. Of the simulated day of `tests/bench/peers`
7 % of the promises between 0.5 and 0.65, and 35 % of those above, are broken."""
DANGER = 1_000
"""Danger of a promise that is just broken; 0 is that of a safe promise."""
LATENESS = 100
"""Further danger of a very late promise, so that hopeless promises are late by less."""
VERY_LATE = 10
"""Multiple of the broken time from which an answer counts as very late."""


class LatencyRisk:
    """The replicas of a base, their servers, and the danger of every promise."""

    def __init__(
        self,
        drafts: Sequence[ServerDraft],
        speeds: Sequence[Speed],
        limit: Callable[[ServerDraft, frozenset[LatencyTarget]], float],
    ) -> None:
        """Take servers, with their speeds.

        `limit` is that of a server with promises to keep, while a single adapter is active.
        """
        pairs = [(place, item) for place, draft in enumerate(drafts)
                 for _, item in sorted(draft.residents.items())]  # fmt: skip
        self.items = [item for _, item in pairs]
        self.drafts, self.speeds = drafts, speeds
        self.fastest = min((speed.adapted[0] for speed in speeds), default=0.0)
        """Seconds of a step of the fastest server, idle."""
        self.draft_of: Ints = np.array([place for place, _ in pairs], dtype=np.int64)
        """By item: the index of its server."""
        self.movable = np.array([drafts[place].is_movable(item) for place, item in pairs])
        """By item: whether it is new where it stands, and may be elsewhere as well."""
        self.limit = limit
        self.rank: Ints = np.array([item.rank for item in self.items], dtype=np.int64)
        self.width: Ints = np.array([draft.rank for draft in drafts], dtype=np.int64)
        """By server: `max_lora_rank`."""
        self.length: Floats = np.array([READING + item.answer for item in self.items], dtype=float)
        """By item: steps of its usual answer."""
        self.promised: Floats = np.array([item.promised_s for item in self.items], dtype=float)
        self.due = np.array([item.promise is not None for item in self.items])
        """By item: whether the time is promised, and not only aimed at."""
        has_load = np.array([item.load.tokens > 0 for item in self.items])
        self.hours, day = np.unique(has_load, axis=0, return_inverse=True)
        """Distinct sets of hours in which items have load, shape `(sets, 24)`."""
        self.day: Ints = day.reshape(-1).astype(np.int64)
        """By item: index into `hours`."""
        self.tokens: Ints = np.array([draft.tokens for draft in drafts], dtype=np.int64)
        self.active: Ints = np.array([draft.active for draft in drafts], dtype=np.int64)
        self.danger: Ints = np.zeros((len(self.items), len(drafts)), dtype=np.int64)
        """By item and server, as the server is loaded now: 0, safe, to `DANGER + LATENESS`."""
        for server in range(len(drafts)):
            self.look(server)

    def look(self, server: int) -> None:
        """Update the load of a server, and the danger of all items on the server."""
        draft = self.drafts[server]
        self.tokens[server], self.active[server] = draft.tokens, draft.active
        every = np.arange(len(self.items))
        self.danger[:, server] = self.at(server, every, draft.tokens, draft.active)

    def at(self, server: int, indexes: Ints, tokens: Ints, active: Ints) -> Ints:
        """Return the danger of some items on a server with this load by hour.

        A step as in `fleet.capacity.step_under_load`; servers that share a device take turns
        on it. The scatter of an answer's time falls with the root of its steps.
        """
        speed, parts = self.speeds[server], self.drafts[server].parts
        step, request = speed.adapted
        slowdown = 1 + speed.spread * np.maximum(active / ACTIVE_UNIT - 1, 0)
        spare = 1 - tokens / RATE_UNIT * parts * request * slowdown
        step_seconds = np.where(spare > 0, parts * step * slowdown / np.maximum(spare, 1e-9), inf)
        worst = np.where(self.hours, step_seconds[None, :], 0.0).max(axis=1)[self.day[indexes]]
        length = self.length[indexes]
        idle = np.where(self.due[indexes], self.fastest, step)
        due = np.maximum(self.promised[indexes], PATIENCE * length * idle)
        part = np.maximum(length * worst * (1 + 1 / np.sqrt(length)) / due, CALM)
        broken = (np.minimum(part, LATE) - CALM) / (LATE - CALM) * DANGER
        late = (np.clip(part / LATE, 1, VERY_LATE) - 1) / (VERY_LATE - 1) * LATENESS
        return np.asarray(broken + late * self.due[indexes]).astype(np.int64)

    def bears(self, server: int, members: Ints, tokens: Ints, active: Ints) -> bool:
        """Say whether a server may carry these items, with their load by hour, or does now."""
        now = self.members(server), self.tokens[server], self.active[server]
        most = np.maximum(self._load_parts(server, *now), FULL)
        return bool((self._load_parts(server, members, tokens, active) <= most).all())

    def _load_parts(self, server: int, members: Ints, tokens: Ints, active: Ints) -> Floats:
        due = (self.items[item].promise for item in members.tolist())
        limit = self.limit(self.drafts[server], frozenset(filter(None, due))) * RATE_UNIT
        slowdown = 1 + self.speeds[server].spread * np.maximum(active / ACTIVE_UNIT - 1, 0)
        return np.asarray(np.ceil(tokens * slowdown / limit * FULL))

    def members(self, server: int) -> Ints:
        """Return the items on a server."""
        return np.flatnonzero(self.draft_of == server)

    def present(self) -> Ints:
        """Return the danger of every item on its server."""
        return np.asarray(self.danger[np.arange(len(self.items)), self.draft_of])


def latency_risk_of(hardware: Devices, drafts: Sequence[ServerDraft]) -> LatencyRisk | None:
    """Return the risk on a base's servers; None where their speed is not known."""
    profiles = hardware.fleet.profiles
    speeds = [
        speed
        for draft in drafts
        for device, number in [(draft.devices[0], len(draft.devices))]
        if (speed := speed_of(profiles, draft.base, device, number, draft.rank)[0]) is not None
    ]

    def limit(draft: ServerDraft, promises: frozenset[LatencyTarget]) -> float:
        return hardware.throughput(draft, draft.slots, draft.rank, promises).limit

    if len(speeds) < len(drafts) or not all(
        0 < limit(draft, draft.promises) < inf for draft in drafts
    ):
        return None
    return LatencyRisk(drafts, speeds, limit)


WORK = 300_000
"""Upper bound of the versions of a base times the exchanges that are tried."""
LOOKED_AT = 6
"""Upper bound of the exchanges that are tried for a version, and of the free slots."""
KEPT_MORE_SURELY = "what it promises is kept more surely here than elsewhere"


def keep_promises(state: PlacementState) -> None:
    """Exchange newly placed versions between servers of a base, for fewer late answers.

    The version in the greatest danger gets a better place first, again and again.
    """
    for group in state.open_groups():
        new = any(draft.is_movable(item) for draft in group for item in draft.residents.values())
        risk = latency_risk_of(state.hardware, group) if new and len(group) > 1 else None
        if risk is None:
            continue
        waiting = risk.movable.copy()
        for _ in range(WORK // len(risk.items)):
            danger = np.where(waiting, risk.present(), 0)
            item = int(danger.argmax())
            if not danger[item]:
                break
            changes = _promising(risk, item)
            waiting[item] = any(_tried(state, risk, item, *change) for change in changes)


def _promising(risk: LatencyRisk, item: int) -> Iterator[tuple[int, int | None]]:
    """Yield servers to go to, with an item that comes instead, or None; the best first."""
    at = int(risk.draft_of[item])
    danger = risk.danger[item]
    wide = risk.width >= risk.rank[item]
    able = risk.movable & (risk.draft_of != at) & (risk.rank <= risk.width[at])
    able &= wide[risk.draft_of]
    gain = danger[at] - danger[risk.draft_of] + risk.present() - risk.danger[:, at]
    gain = np.where(able, gain, 0)
    for other in np.argsort(-gain, kind="stable")[:LOOKED_AT].tolist():
        if gain[other] > 0:
            yield int(risk.draft_of[other]), other
    gain = np.where(wide, danger[at] - danger, 0)
    for server in np.argsort(-gain, kind="stable")[:LOOKED_AT].tolist():
        if gain[server] > 0 and server != at:
            yield server, None


def _tried(
    state: PlacementState, risk: LatencyRisk, item: int, server: int, other: int | None
) -> bool:
    """Let an item change places, or go alone, if that is allowed and lowers the danger."""
    at = int(risk.draft_of[item])
    if not _lowers(risk, item, server, other):
        return False
    moves = [(risk.items[item], risk.drafts[at], risk.drafts[server])]
    if other is not None:
        moves.append((risk.items[other], risk.drafts[server], risk.drafts[at]))
    if not _exchanged(state, moves):
        return False
    risk.draft_of[item] = server
    if other is not None:
        risk.draft_of[other] = at
    risk.look(at)
    risk.look(server)
    return True


def _lowers(risk: LatencyRisk, item: int, server: int, other: int | None) -> bool:
    """Say whether both servers carry their loads after an exchange, in less danger altogether."""
    at, comes = int(risk.draft_of[item]), [] if other is None else [other]
    before = after = 0
    for place, leaving, new in ((at, [item], comes), (server, comes, [item])):
        tokens, active = risk.tokens[place], risk.active[place]
        for index in leaving:
            load = risk.items[index].load
            tokens, active = tokens - load.tokens, active - load.active
        for index in new:
            load = risk.items[index].load
            tokens, active = tokens + load.tokens, active + load.active
        members = risk.members(place)
        before += int(risk.danger[members, place].sum())
        stays = members if not leaving else members[members != leaving[0]]
        staying = np.append(stays, new).astype(np.int64)
        if not risk.bears(place, staying, tokens, active):
            return False
        after += int(risk.at(place, staying, tokens, active).sum())
    return after < before


def _exchanged(state: PlacementState, moves: list[tuple[Item, ServerDraft, ServerDraft]]) -> bool:
    """Move items to their next servers where rules and slots allow all moves; say so."""
    reasons = [state.why.get(adapter_address(item.adapter, at.name), "") for item, at, _ in moves]
    for item, source, _ in moves:
        state.release(item, source)
    placed: list[tuple[Item, ServerDraft]] = []
    for item, _, target in moves:
        if state.has_room_for(target, item) and allows(state, target, item):
            state.bind(item, target, KEPT_MORE_SURELY)
            placed.append((item, target))
    if len(placed) == len(moves):
        return True
    for item, target in placed:
        state.release(item, target)
    for (item, source, _), reason in zip(moves, reasons, strict=True):
        state.bind(item, source, reason)
    return False


Late = list[tuple[Item, ServerDraft]]
"""Versions whose promise is broken on the server that they are on."""
ON_DEVICES_TOGETHER = (
    "the devices of this server keep together what is promised, and no single device does"
)


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
                late = _still_late(state, late, draft)
        if late:
            _open(state, base, late)
            join(state, base)


def _open(state: PlacementState, base: str, late: Late) -> None:
    """Open servers on several devices for versions, as long as a version gains by that."""
    declared = state.fleet.bases[base]
    profiles = state.fleet.profiles
    rank = declared.max_lora_rank or rank_bucket(late[0][0].rank) or RANKS[-1]
    hosts = frozenset(host for item, _ in late for host in hosts_for(state, item))
    types = server_types_for(state, declared, rank, hosts, TENSOR_PARALLEL_SIZES[1:])
    for server_type, (host, devices) in ((kind, place) for kind in types for place in kind.places):
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
        late = _still_late(state, late, draft)
        if draft.residents:
            where = ", ".join(f"`{host.name}/{device.name}`" for device in devices)
            state.opened[draft.name] = f"{where} keep together what no single device keeps"
            state.floors.pop(base, None)  # a proof over servers on fewer devices
        else:
            state.close(draft)


def _still_late(state: PlacementState, late: Late, draft: ServerDraft) -> Late:
    """Move versions to a server that keeps their promise; return those that it does not take."""
    return [(item, at) for item, at in late if at is draft or not _moved(state, item, at, draft)]


def _moved(state: PlacementState, item: Item, at: ServerDraft, to: ServerDraft) -> bool:
    """Move a version to a server with room that keeps its promise; say whether the server does."""
    had = state.why.get(adapter_address(item.adapter, at.name), "")
    shape = (to.slots, to.rank)
    state.release(item, at)
    spares = (state.fleet.policy.canary_slots, 0)
    if bind_if_it_fits(state, to, item, spares, ON_DEVICES_TOGETHER):
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
