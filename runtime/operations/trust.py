"""Say which evidence may be used: the ledger unreadable, the clock behind it, verdicts tampered."""

from collections.abc import Sequence

from fleet.errors import FleetError
from fleet.history import Entry, EvidenceCheck, Released, fold_entries, settled
from fleet.maintenance import ledger_away
from fleet.plan import Plan
from fleet.resources import Route, State
from fleet.spec import FleetSpec
from runtime.gates.tick import TickContext, tampering, trusted, unsound
from runtime.ledger.clock import behind
from runtime.ledger.fallback import LedgerSnapshot
from runtime.messages import Message
from runtime.operations.notifications import notify_once
from runtime.workspace import Workspace


def tick_context(
    workspace: Workspace, live: State, known: Sequence[Entry] | None = None
) -> TickContext:
    """Return what a tick judges by; `known` entries None: the ledger is read."""
    entries = workspace.ledger().read() if known is None else known
    history = settled(fold_entries(entries), live)
    now, found, fleet = workspace.now(), unsound(entries, history), workspace.fleet()
    freed = {entry.event.alias: entry.seq for entry in entries if isinstance(entry.event, Released)}
    return TickContext(
        fleet,
        live,
        trusted(history, found),
        entries,
        workspace.state_dir,
        now,
        behind(entries, now),
        {alias: check for alias, check in found.items() if check.seq > freed.get(alias, 0)},
        frozenset(
            alias
            for alias, check in found.items()
            if check.seq < freed.get(alias, 0) and _judges(fleet, alias, check)
        ),
    )


def _judges(fleet: FleetSpec, alias: str, found: EvidenceCheck) -> bool:
    """Say whether the declared version is judged by the gate of a verdict."""
    declared = fleet.adapters.get(alias)
    if declared is None or str(declared.name) != found.adapter:
        return False
    return found.gate in fleet.rollouts[declared.rollout].gates


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
    late = behind(entries, workspace.now())
    if late is not None:
        raise late
    found = unsound(entries, fold_entries(entries), up)
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


def report_doubts(workspace: Workspace, context: TickContext) -> None:
    """Emit which evidence is not used, and which rollouts stay."""
    if context.behind is not None:
        workspace.emit(
            Message(
                "THE CLOCK IS BEHIND THE LEDGER. Live gates are judged by it and take traffic "
                "back. Nothing passes, and no rollout moves on."
            )
        )
    for alias, check in context.tampered.items():
        workspace.emit(
            Message(
                f"EVIDENCE OF {alias} WAS TAMPERED WITH (ledger entry {check.seq}). Its live gates "
                "are judged without it and take traffic back. It does not move on."
            )
        )
    for alias in sorted(context.anew):
        workspace.emit(Message(f"{alias}: was released, and is judged anew before it moves on."))


async def report_ledger_away(
    workspace: Workspace, known: LedgerSnapshot, why: str, context: TickContext
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
    for trial in (trial for trial in context.trials if trial.offline):
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
