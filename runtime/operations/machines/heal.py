"""Heal drift: start gateways again, choose the causes that are due, and plan their repairs."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from fleet.errors import FleetError, LibraryError
from fleet.history import History, Noted, found_damage, marked_unsure, settled
from fleet.names import AdapterName, alias_of, name_in_address
from fleet.placement import substitutes
from fleet.plan import Plan
from fleet.planning import (
    DriftAction,
    DriftCause,
    classify_drift,
    fault_causes,
    in_place,
    ownerless,
    repair,
    without_routes,
    without_unready,
)
from fleet.resources import LoadedAdapter, OutageKind, State
from fleet.rollouts import decide_rollouts
from runtime.files import make_private
from runtime.gateway.admin.state_dir import known_gateways
from runtime.gateway.control import supervisor
from runtime.gateway.control.control import LocalGateways
from runtime.ledger.protocol import LedgerSnapshot
from runtime.library.layout import version_folder
from runtime.library.served_copies import damaged, gone, publish, repair_copies
from runtime.messages import FailureMessage
from runtime.operations.machines.outages import with_ledger
from runtime.project.facts import read_lock
from runtime.project.load import library_folder
from runtime.state_folder import STORE
from runtime.workspace import Call, LedgerContext, Workspace

FIRST_S: Final = 2.0
"""Time before a cause is healed a second time. Seconds."""
FACTOR: Final = 3.0
"""Growth of that time with every further try."""
LONGEST_S: Final = 300.0
"""Upper bound of that time. Seconds."""
TRIES: Final = 5
"""Upper bound of the repairs of a cause; a further one is left to people."""


@dataclass(slots=True)
class HealBackoff:
    """Heals a cause at growing intervals: 2 s, 6 s, 18 s, … 300 s, five times at most.

    Times are seconds of a clock that never goes back.
    """

    _tries: dict[str, tuple[int, float]] = field(default_factory=dict)
    """By cause: number of repairs, and the time from which the next is due."""

    def due(self, causes: Iterable[DriftCause], now: float) -> tuple[DriftCause, ...]:
        """Return the causes that may be healed now.

        A cause is forgotten once it has stayed away for 300 s after it was due again.
        """
        found = tuple(causes)
        ids = {cause.id for cause in found}
        self._tries = {
            name: (count, after)
            for name, (count, after) in self._tries.items()
            if name in ids or now < after + LONGEST_S
        }
        return tuple(
            cause
            for cause in found
            for count, after in [self._tries.get(cause.id, (0, now))]
            if count < TRIES and after <= now
        )

    def given_up(self, causes: Iterable[DriftCause]) -> tuple[DriftCause, ...]:
        """Return the causes that came back after every repair."""
        return tuple(cause for cause in causes if self._tries.get(cause.id, (0, 0.0))[0] >= TRIES)

    def tried(self, causes: Iterable[DriftCause], now: float) -> None:
        """Note that repairs of these causes have just been tried."""
        for cause in causes:
            count = self._tries.get(cause.id, (0, 0.0))[0]
            pause = min(FIRST_S * FACTOR**count, LONGEST_S)
            self._tries[cause.id] = (count + 1, now + pause)


async def start_gateways(workspace: Workspace, live: State, backoff: HealBackoff) -> bool:
    """Start gateways again that fleetctl started and that have ended; return whether any was due.

    Each start is a note in the ledger. A gateway that does not start is emitted with its error.
    """
    clock = asyncio.get_running_loop().time
    ended = tuple(
        cause
        for cause in fault_causes(History(), live)
        if cause.remedy is DriftAction.HEAL and cause.outage is OutageKind.GATEWAY_DOWN
    )
    due = backoff.due(ended, clock())
    declared = workspace.project.fleet().gateways or known_gateways(workspace.state_dir)
    for cause in due:
        name = name_in_address(cause.subject)
        workspace.inform(f"Heals {cause.subject}: {cause.summary}.")
        try:
            started = await asyncio.to_thread(
                supervisor.start_again, workspace.state_dir.resolve(), declared[name]
            )
        except FleetError as error:
            workspace.emit(FailureMessage(error.diagnostics))
            continue
        if started is not None:
            text = f"gateway {name} had ended and was started again (pid {started.pid})"
            workspace.inform(f"{text[:1].upper()}{text[1:]} on {started.url}.")
            if why := workspace.ledger.outbox().append([Noted(text)]):
                workspace.warn(f"The ledger has no note of it: {why}")
    backoff.tried(due, clock())
    return bool(due)


async def served_token(workspace: Workspace) -> int | None:
    """Return the token of the newest routing table; None: no gateway that runs shows its table."""
    its = workspace.state_dir, workspace.project.fleet().gateways, workspace.machines.envoys()
    async with LocalGateways(*its) as gateways:
        table, _ = await gateways.read_table()
        found = await gateways.statuses()
    is_hidden = bool(found) and all(status.problem for status in found)
    return None if is_hidden else table.token


async def heal_plan(
    workspace: Workspace, live: State, backoff: HealBackoff, clock: float
) -> tuple[Plan, tuple[DriftCause, ...], tuple[DriftCause, ...]]:
    """Return the plan of the repairs that are due, their causes, and the causes that are left.

    Records damaged copies and repairs them from the library first. Emits every cause. `clock` gives
    the seconds of a clock that never goes back. While the ledger does not answer, servers alone
    are put back where they were, and no route is changed.
    """
    is_away = workspace.away is not None
    fleet = workspace.project.fleet()
    await asyncio.to_thread(put_back_store, workspace, live)
    damage = {} if is_away else await asyncio.to_thread(_repair_copies, workspace, live)
    known = LedgerSnapshot.of(workspace.ledger.open())
    history = settled(known.history(), live)
    live = marked_unsure(with_ledger(workspace, live, known), history.damage)
    causes = classify_drift(history, live, damage)
    ours = tuple(cause for cause in causes if cause.remedy is DriftAction.HEAL)
    ours = in_place(ours, live) if is_away else ours
    due = await asyncio.to_thread(_with_copies, workspace, backoff.due(ours, clock), history, live)
    due = without_unready(due, history, live)
    smoke = {
        loaded.adapter: fleet.adapters[alias].smoke
        for loaded in history.established.values()
        if isinstance(loaded, LoadedAdapter)
        and (alias := alias_of(loaded.adapter)) in fleet.adapters
    }
    found = {}
    if is_away:
        live = without_routes(live)
    elif any(cause.outage is OutageKind.SERVER_HUNG for cause in due):
        targets = decide_rollouts(fleet, live, history, workspace.now())
        found = substitutes(fleet, targets, live)
    plan = repair(fleet.name, due, history, live, smoke, found)
    given_up = backoff.given_up(ours)
    subjects = {cause.id for cause in due}
    for cause in causes:
        summary = cause.summary.rstrip(".")
        if cause.id in subjects:
            text = f"Heals {cause.subject}: {summary}."
        elif cause.id in {its.id for its in given_up}:
            text = f"Given up, it comes back: {cause.subject}: {summary}."
        else:
            text = f"Left alone: {cause.subject}: {summary}. Helps: {cause.command}"
        workspace.inform(text)
    return plan, due, tuple(cause for cause in causes if cause.id not in subjects)


def _with_copies(
    call: Call, due: Iterable[DriftCause], history: History, live: State
) -> tuple[DriftCause, ...]:
    """Return the causes without unsure versions whose bytes are nowhere good.

    A copy at a fresh path is made before its version is unloaded, so that clients wait for no copy.
    """
    library, store = library_folder(call.root), call.state_dir / STORE

    def is_possible(cause: DriftCause) -> bool:
        adapter = live.resources.get(cause.subject)
        if not isinstance(adapter, LoadedAdapter) or not adapter.digest:
            return True
        folder = version_folder(library, AdapterName.parse(adapter.adapter))
        try:
            publish(folder, adapter.digest, store, history.damage)
        except LibraryError as error:
            call.emit(FailureMessage(error.diagnostics))
            return False
        return True

    return tuple(filter(is_possible, due))


def put_back_store(workspace: Workspace, live: State) -> bool:
    """Put back the copies that servers list, where the whole store was lost; return whether any.

    Takes no lease and needs no ledger: a server that reads such a copy again ends. A single copy
    that is gone counts as damaged instead.
    """
    adapters, store = live.adapters().values(), workspace.state_dir / STORE
    missing = gone(adapters, store)
    if not missing or (store.is_dir() and not _is_lost(workspace.ledger, live)):
        return False
    make_private(workspace.state_dir)
    store.mkdir(exist_ok=True)
    lock, library = read_lock(workspace.root), library_folder(workspace.root)
    results = repair_copies(missing, adapters, lock, library, store)
    count = sum(copy.repaired for copy in results)
    workspace.inform(f"Put back {count} copies that servers may read again, from the library.")
    workspace.warn(
        *(
            f"{copy.text[:1].upper()}{copy.text[1:]}. A server that reads it again ends."
            for copy in results
            if not copy.repaired
        )
    )
    return bool(count)


def _is_lost(ledger: LedgerContext, live: State) -> bool:
    try:
        return bool(ownerless(settled(ledger.history(), live), live))
    except (FleetError, OSError):
        return False


def _repair_copies(workspace: Workspace, live: State) -> dict[str, str]:
    """Record damaged copies, repair them, and return the damage that stays, by path."""
    adapters, store = live.adapters().values(), workspace.state_dir / "store"
    wrong = damaged(adapters, store)
    if not wrong:
        return {}
    ledger = workspace.ledger.open()
    # Under the lease: an apply that runs makes copies itself.
    with ledger.lease(f"{workspace.by} (run {workspace.run}, reconcile)") as lease:
        # First, for a repair leaves no trace of what servers may have read.
        ledger.append(found_damage(wrong, workspace.ledger.history(), live), lease.token)
        lock, library = read_lock(workspace.root), library_folder(workspace.root)
        results = repair_copies(wrong, adapters, lock, library, store)
        notes = [Noted(copy.text) for copy in results if copy.repaired]
        if notes:
            ledger.append(notes, lease.token)
    for copy in results:
        workspace.inform(f"{copy.text[:1].upper()}{copy.text[1:]}.")
    return {copy.path: wrong[copy.path] for copy in results if not copy.repaired}
