"""Roll an alias back: choose the version, switch the route, smoke-test, record, notify.

Needs the state folder alone; declarations and ledger are used where they can be read. Imports
neither planning nor evaluations, gates, applies or reports.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import datetime
from typing import Final

from fleet.errors import FleetError
from fleet.history import (
    Entry,
    FallbackCheck,
    History,
    Notification,
    clock_behind,
    fallback_check,
    fold_entries,
    loaded_digests,
    rejected_by_gates,
)
from fleet.names import version_of
from fleet.policies import OverrideSpec
from runtime.deadline import call_with_timeout
from runtime.gateway.control.control import LocalGateways
from runtime.ledger.outbox import LedgerOutbox, queued
from runtime.operations.notify import UNSENT, notify, recipients
from runtime.rollback.rollback import RollbackRequest, RollbackResult, rollback
from runtime.smoke import recorded_inputs
from runtime.workspace import Workspace

CHOICE_S: Final = 0.5
"""Upper bound of the wait for the ledger, or for routes that only other checkouts know, before a
version is chosen; a rollback takes no second."""
REPLICA_S: Final = 0.3
"""Upper bound of the wait for the ledger's copy here, where the ledger does not answer. Seconds."""


async def roll_back(
    workspace: Workspace,
    request: RollbackRequest,
    *,
    smoke: Sequence[str] = (),
    outbox: LedgerOutbox | None = None,
    turn: asyncio.Lock | None = None,
) -> RollbackResult:
    """Roll an alias back; the state folder of the project is enough. `notify_rollback` notifies.

    `smoke`: inputs of the smoke test; empty: those recorded or declared. `outbox`: writes the
    entry; None: the outbox of the workspace. `turn`: held while the table is written, where several
    aliases are rolled back at once.

    Raises:
        FleetError: no such alias, or no such version is resident; nothing was changed.
    """
    outbox, alias = outbox or workspace.ledger.outbox(), request.alias
    notes: list[str] = []
    limit_s = 0 if workspace.machines.knows_routes else CHOICE_S
    await asyncio.to_thread(workspace.ledger.pull, limit_s)
    async with LocalGateways(workspace.state_dir, envoys=workspace.machines.envoys()) as gateways:
        result = await rollback(
            replace(request, cause=request.cause or workspace.by),
            gateways,
            outbox,
            doubts=lambda names: check_fallbacks(workspace, outbox, alias, names, notes.append),
            inputs=lambda: smoke_inputs(workspace, outbox, alias, smoke, notes.append),
            turn=turn,
        )
    return replace(result, warnings=(*notes, *result.warnings))


def check_fallbacks(
    workspace: Workspace,
    outbox: LedgerOutbox,
    alias: str,
    names: tuple[str, ...],
    note: Callable[[str], object] = str,
) -> FallbackCheck:
    """Return the objections of the ledger to versions, or of its copy here where the ledger hangs.

    None where neither answers: an emergency waits for no ledger. `note` gets the source of the
    objections where the source is not the ledger.
    """

    def checked(history: History) -> FallbackCheck:
        overrides, digests = tuple[OverrideSpec, ...](), loaded_digests(history)

        def rejected() -> Mapping[str, str]:
            now = workspace.now()
            return rejected_by_gates(history, overrides, alias, digests, names, now)

        by_gates = rejected()
        if by_gates:  # only then do the declarations matter, which may be broken
            with suppress(FleetError, OSError):
                overrides = workspace.project.fleet().overrides
            by_gates = rejected()
        return replace(fallback_check(history, alias, digests, names), rejected=by_gates)

    def copied() -> tuple[FallbackCheck, datetime | None]:
        kept, last = workspace.ledger.replica.about(alias)
        return checked(fold_entries([*kept, *queued(workspace.ledger.queue, kept)])), last

    found = outbox.read(None, lambda ledger: checked(ledger.history()), CHOICE_S)
    if found is not None:
        return found
    try:
        known, last = call_with_timeout(copied, REPLICA_S)
    except (FleetError, OSError):
        known, last = FallbackCheck(), None
    note(
        "the ledger does not answer: what speaks against earlier versions is known by its copy "
        f"here, as of {last:%Y-%m-%d %H:%M:%S} UTC"
        if last
        else "neither the ledger nor its copy here can be read: what was rolled back or failed "
        "before is not known"
    )
    return known


def smoke_inputs(
    workspace: Workspace,
    outbox: LedgerOutbox,
    alias: str,
    given: Sequence[str] = (),
    note: Callable[[str], object] = str,
) -> Sequence[str]:
    """Return the inputs of the smoke test: given, else from the ledger, else declared.

    `note` gets a line where the clock here is behind the ledger, which stops no rollback.
    """
    none: list[Entry] = []
    entries = outbox.read(none, lambda ledger: ledger.read())
    late = clock_behind(entries, workspace.now())
    if late is not None:
        note(f"{late.diagnostics[0].summary}: {late.diagnostics[0].detail}")
    found = tuple(given) or recorded_inputs(entries, alias)
    if found:
        return found
    try:
        return workspace.project.fleet().adapters[alias].smoke
    except (FleetError, OSError, KeyError):
        return ()


async def notify_rollback(
    workspace: Workspace,
    result: RollbackResult,
    cause: str = "",
    outbox: LedgerOutbox | None = None,
) -> list[str]:
    """Notify client and operators of a rollback, where that is declared; return warnings.

    A notice that is not delivered is posted later. `cause`: the decider; empty: the author of this
    run. `outbox`: writes the deliveries; None: the outbox of the workspace.
    """
    try:
        fleet = await asyncio.to_thread(workspace.project.fleet)
        to = recipients(fleet, result.alias, "rolled_back")
    except (FleetError, OSError):
        why = "no notice was sent: the declarations, which name the recipients, cannot be read"
        return [f"{why}; the next reconcile that can does"]
    before = ", ".join(f"{version_of(name)} at {share} %" for name, share in result.before if share)
    facts = {
        **asdict(result),
        "from": ", ".join(version_of(name) for name in result.held) or before,
        "to": version_of(result.target),
        "cause": cause or workspace.by,
        "complete": result.complete,
    }
    about = Notification("rolled_back", result.alias, result.decided, facts)
    warnings = await notify(workspace, outbox or workspace.ledger.outbox(), about, to)
    return [
        f"{line}; reconcile tries again in an hour" if UNSENT in line else line for line in warnings
    ]
