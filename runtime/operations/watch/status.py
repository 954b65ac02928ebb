"""Observe a project for `fleetctl status`: live state, ledger, requests, and work that is due."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from fleet.evals import DriftStatus, QualityDrift, eval_records
from fleet.history import Entry, History, marked_unsure, settled
from fleet.names import client_of, gateway_address
from fleet.planning import DriftCause, outages_of
from fleet.resources import OutageKind, State
from fleet.rollouts import RolloutStatus, decide_rollouts, rollout_statuses
from fleet.rules import DrillRecord
from runtime import event_loop
from runtime.operations.change.planning import with_damage_now
from runtime.operations.machines.outages import observe_faults, with_ledger
from runtime.operations.rollouts.drills import drill_records
from runtime.operations.rollouts.upgrades import upgrade_standings
from runtime.operations.versions.evaluate import drift_standings
from runtime.operations.versions.retrain import URGENT, retraining_documents
from runtime.workspace import Workspace

ALARMS: Final = frozenset({DriftStatus.SERVING, DriftStatus.RETRAIN})
"""Standings of quality drift that `status` shows."""


@dataclass(frozen=True, slots=True)
class FleetStatus:
    """The live state, the ledger, and work that is due; without a readable ledger no work."""

    live: State
    history: History
    entries: Sequence[Entry]
    """All entries."""
    standing: Sequence[Entry]
    """The entries that still count."""
    requests: Counter[tuple[str, str]]
    """By alias and version, over all gateways, since the split last changed."""
    ledger_problem: str = ""
    """Why `history` and `entries` are of the ledger's copy here; empty: they are the ledger's."""
    outages: Sequence[DriftCause] = ()
    retraining: Sequence[dict[str, Any]] = ()
    drift: Sequence[tuple[str, str, QualityDrift]] = ()
    """Alias, version and finding of a drift rule."""
    drills: Sequence[DrillRecord] = ()
    rollouts: Sequence[RolloutStatus] = ()


def observe_status(workspace: Workspace, client: str | None) -> FleetStatus:
    """Observe the fleet, and list the work that is due for the aliases of `client`, or for all.

    Raises:
        FleetError: FC5122, the client is not declared; the ledger cannot be read, and never was.
    """
    workspace.project.require_client(client)
    return event_loop.run(_observe(workspace, client))


def _is_down(live: State, gateway: str) -> bool:
    """Say whether a gateway was down just now; a second question to it could take as long."""
    fault = live.faults.get(gateway_address(gateway))
    return fault is not None and fault.outage is OutageKind.GATEWAY_DOWN


async def _observe(workspace: Workspace, client: str | None) -> FleetStatus:
    live = await observe_faults(workspace)
    async with workspace.machines.connected() as connections:
        gateways = connections.gateways
        shares = await gateways.shares(name for name in gateways.names if not _is_down(live, name))
    requests: Counter[tuple[str, str]] = Counter()
    for share in shares:
        requests[share.alias, share.adapter] += share.requests
    known = workspace.ledger.last_known()
    live = with_ledger(workspace, live, known)
    history = settled(known.history(), live)
    live = with_damage_now(workspace, marked_unsure(live, history.damage), history)
    outages = outages_of(history, live)
    if known.away is not None:
        why = known.away.diagnostics[0].detail
        its = known.entries, known.standing()
        return FleetStatus(live, history, *its, requests, why, outages)

    def is_shown(alias: str) -> bool:
        return client in {None, client_of(alias)}

    live = replace(live, notes=(*live.notes, *upgrade_standings(workspace, live)))
    fleet = workspace.project.fleet()
    decided = decide_rollouts(fleet, live, history, workspace.now())
    rollouts = rollout_statuses(fleet, decided.wanted, history, live.routes())
    past = eval_records(known.standing())
    due = (row for row in retraining_documents(workspace) if row["turn"] in URGENT)
    drills = await drill_records(workspace, live, known.standing())
    return FleetStatus(
        live,
        history,
        known.entries,
        known.standing(),
        requests,
        outages=outages,
        retraining=[row for row in due if is_shown(row["alias"])],
        drift=[alarm for alarm in drift_standings(past, live, ALARMS) if is_shown(alarm[0])],
        rollouts=[*rollouts.values()],
        drills=[record for record in drills if is_shown(record.alias)],
    )
