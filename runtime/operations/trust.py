"""Say which evidence may be used: the ledger unreadable, the clock behind it, verdicts tampered."""

from collections.abc import Iterable

from fleet.errors import FleetError
from fleet.history import Doubts, clock_behind, fold_entries, tampered_evidence, tampering
from fleet.maintenance import ledger_away
from fleet.plan import Plan
from fleet.resources import Route
from fleet.rollouts import GateTrial
from runtime.ledger.fallback import LedgerSnapshot
from runtime.messages import EmitMessage, Message
from runtime.operations.notifications import notify_once
from runtime.workspace import Workspace


def require_trusted(workspace: Workspace, plan: Plan) -> None:
    """Refuse a plan that raises a version's share by evidence that may not be used now.

    A plan made now holds such versions; a plan from a file was made before.

    Raises:
        FleetError: FC5108, the clock is behind the ledger; FC5130, evidence of an alias does not
            follow from its counts.
    """
    up = rising(plan)
    if not up:
        return
    entries = workspace.ledger().read()
    late = clock_behind(entries, workspace.now())
    if late is not None:
        raise late
    found = tampered_evidence(entries, fold_entries(entries), up)
    if found:
        raise FleetError(*(tampering(alias, check) for alias, check in sorted(found.items())))


def rising(plan: Plan) -> frozenset[str]:
    """Return the aliases of which a plan gives the newest version a larger share."""
    return frozenset(
        after.alias
        for change in plan.changes
        if isinstance(before := change.before, Route) and isinstance(after := change.after, Route)
        for newest in after.shares[:1]
        if newest.percent
        > next((old.percent for old in before.shares if old.adapter == newest.adapter), 0)
    )


def report_doubts(emit: EmitMessage, doubts: Doubts) -> None:
    """Emit which evidence is not used, and which rollouts stay."""
    if doubts.behind is not None:
        emit(
            Message(
                "THE CLOCK IS BEHIND THE LEDGER. Live gates are judged by it and take traffic "
                "back. Nothing passes, and no rollout moves on."
            )
        )
    for alias, check in doubts.tampered.items():
        emit(
            Message(
                f"EVIDENCE OF {alias} WAS TAMPERED WITH (ledger entry {check.seq}). Its live gates "
                "are judged without it and take traffic back. It does not move on."
            )
        )
    for alias in sorted(doubts.anew):
        emit(Message(f"{alias}: was released, and is judged anew before it moves on."))


async def report_ledger_away(
    workspace: Workspace, known: LedgerSnapshot, why: str, trials: Iterable[GateTrial]
) -> None:
    """Emit by which entries gates judge and which rollouts stay; notify operators once."""
    count, last = len(known.entries), known.entries[-1].time
    workspace.emit(
        Message(
            f"THE LEDGER CANNOT BE READ. Gates judge by the {count:,} entries that are known, "
            f"until {last:%Y-%m-%d %H:%M:%S} UTC, and take traffic back. No rollout moves on, "
            "nothing is healed, and no golden set is asked."
        )
    )
    for trial in (trial for trial in trials if trial.offline):
        gates = ", ".join(gate.name for gate in trial.offline)
        workspace.emit(
            Message(
                f"{trial.alias}: {trial.adapter} stays at {trial.percent} %; its golden sets "
                f"({gates}) are asked once the ledger is back."
            )
        )
    occasion = ledger_away(known.entries, f"{why}.", workspace.now())
    for line in await notify_once(workspace, [occasion], known.entries, why):
        workspace.emit(Message(line, "warning"))
