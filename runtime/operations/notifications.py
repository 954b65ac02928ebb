"""List what people have to know now, and notify recipients that have not been notified of it."""

import asyncio
from collections.abc import Iterable, Sequence

from fleet.evals import DriftStatus, eval_records
from fleet.history import Entry, Notified, fold_entries, settled
from fleet.maintenance import (
    Notification,
    drifted,
    due_retrainings,
    failed_gates,
    is_due,
    overdue_retrainings,
    rollbacks,
    undecided_rollouts,
)
from fleet.resources import State
from fleet.rollouts import decide_rollouts
from runtime.messages import Message
from runtime.operations.eval_jobs import drift_standings
from runtime.operations.notify import notify, recipients
from runtime.workspace import Workspace


async def notify_once(
    workspace: Workspace,
    notifications: Iterable[Notification],
    known: Sequence[Entry] | None = None,
    down: str = "",
) -> list[str]:
    """Notify recipients that have not been notified; return warnings.

    Args:
        workspace: The project.
        notifications: What people have to know.
        known: Known entries of the ledger; None: the ledger is read.
        down: Why its home is known to be away; empty: it is not.
    """
    outbox, fleet, warnings = workspace.outbox(down=down), workspace.fleet(), []
    open_ = [(found, recipients(fleet, found.alias, found.event)) for found in notifications]
    open_ = [(found, to) for found, to in open_ if to]
    if known is None:
        known = await asyncio.to_thread(workspace.ledger().read) if open_ else []
    notified = [entry for entry in known if isinstance(entry.event, Notified)]  # few of many
    for found, to in open_:
        left = [reader for reader in to if is_due(notified, found, reader.name, workspace.now())]
        warnings += await notify(
            workspace, outbox, found.event, found.alias, left, found.facts, key=found.key
        )
    return warnings


def open_notifications(workspace: Workspace, live: State) -> list[Notification]:
    """Return what lasts: stopped versions, rollouts that wait for people, quality drift, ..."""
    fleet, now = workspace.fleet(), workspace.now()
    if not fleet.notify and not any(client.notify for client in fleet.clients.values()):
        return []
    entries = workspace.ledger().read()
    history, past = settled(fold_entries(entries), live), eval_records(entries)
    alarms = drift_standings(
        past, live, {DriftStatus.SERVING, DriftStatus.RETRAIN, DriftStatus.WATCH}
    )
    return [
        *rollbacks(entries, now),
        *failed_gates(fleet, history, now),
        *undecided_rollouts(decide_rollouts(fleet, live, history, now).wanted, history, now),
        *drifted(alarms, past, now),
        *overdue_retrainings(due_retrainings(fleet, entries, past, history.claims, now), now),
    ]


async def notify_all_open(workspace: Workspace, live: State) -> None:
    """Notify once of work that waits for people or is overdue; warnings are emitted."""
    found = await asyncio.to_thread(open_notifications, workspace, live)
    for line in await notify_once(workspace, found):
        workspace.emit(Message(line, "warning"))


async def notify_of_drift(workspace: Workspace, live: State) -> None:
    """Notify once of quality drift; warnings are emitted."""
    found = open_notifications(workspace, live)
    drift = [notification for notification in found if notification.event == "drifted"]
    for line in await notify_once(workspace, drift):
        workspace.emit(Message(line, "warning"))
