"""List the events that people have to know of, and have them notified."""

import asyncio

from fleet.alerting import (
    drifted,
    failed_gates,
    overdue_retrainings,
    planned_retrainings,
    rollbacks,
    rollout_turns,
    undecided_rollouts,
)
from fleet.evals import DriftStatus, eval_records
from fleet.history import Doubts, Notification, settled
from fleet.resources import State
from fleet.rollouts import decide_rollouts
from fleet.rules import due_retrainings
from fleet.spec import NotifyEvent
from runtime.operations.notify import notify_once
from runtime.operations.versions.evaluate import drift_standings
from runtime.workspace import Call, Workspace


def open_notifications(workspace: Workspace, live: State) -> list[Notification]:
    """Return the events that last: stopped versions, undecided rollouts, quality drift, ..."""
    fleet, now = workspace.project.fleet(), workspace.now()
    entries = workspace.ledger.open().standing()
    history, past = settled(workspace.ledger.history(), live), eval_records(entries)
    alarms = drift_standings(
        past, live, {DriftStatus.SERVING, DriftStatus.RETRAIN, DriftStatus.WATCH}
    )
    # Since when an alarm stands is seen in all evaluations.
    known = eval_records(workspace.ledger.open().read()) if alarms else {}
    due = due_retrainings(fleet, entries, past, history.claims, now)
    return [
        *rollbacks(entries, now),
        *rollout_turns(entries, now),
        *failed_gates(fleet, history, now),
        *undecided_rollouts(decide_rollouts(fleet, live, history, now).wanted, history, now),
        *drifted(alarms, known, now),
        *overdue_retrainings(due, now),
        *planned_retrainings(due, now),
    ]


async def notify_all_open(
    workspace: Workspace, live: State, event: NotifyEvent | None = None
) -> None:
    """Notify once of work that waits for people or is overdue; warnings are emitted.

    `event`: of this kind alone; None: all.
    """
    fleet = workspace.project.fleet()
    if not fleet.notify and not any(client.notify for client in fleet.clients.values()):
        return
    found = await asyncio.to_thread(open_notifications, workspace, live)
    found = [notification for notification in found if event in (None, notification.event)]
    workspace.warn(*await notify_once(workspace, found))


def report_doubts(call: Call, doubts: Doubts) -> None:
    """Emit which evidence is not used, and which rollouts stay."""
    if doubts.behind is not None:
        call.inform(
            "THE CLOCK IS BEHIND THE LEDGER. Live gates are judged by it and take traffic "
            "back. Nothing passes, and no rollout moves on."
        )
    for alias, check in doubts.tampered.items():
        call.inform(
            f"EVIDENCE OF {alias} WAS TAMPERED WITH (ledger entry {check.seq}). Its live gates "
            "are judged without it and take traffic back. It does not move on."
        )
    for alias in sorted(doubts.anew):
        call.inform(f"{alias}: was released, and is judged anew before it moves on.")
