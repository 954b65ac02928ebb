"""Make a plan from the declared, live and past state. Pure, and the same every time.

    rollouts -> place -> diff -> order

Nothing is planned that an independent check objects to.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime

from fleet.capacity import without_demand
from fleet.costing import Terms, cost_changes, terms_of
from fleet.encoding import plan_id
from fleet.errors import FleetError
from fleet.history import History, settings_due
from fleet.placement import (
    SearchLimits,
    Violation,
    late_aliases,
    loss_outlook,
    placement_accounts,
    verify_placement,
    verify_steps,
)
from fleet.plan import Change, CostChange, Plan
from fleet.planning.away_hosts import placed
from fleet.planning.desired import PlanInput, desired_state_of, rules_of
from fleet.planning.diff import diff
from fleet.planning.diversion import Interruption, reroute
from fleet.planning.gateway_limits import translations
from fleet.planning.impact import (
    bound_basis,
    cost_bound,
    impacts_of,
    moves_of,
    price_per_hour,
    untouched,
)
from fleet.planning.notes import held_back, not_observed, warnings_of
from fleet.planning.ordering import order
from fleet.planning.prospects import prospects_of
from fleet.planning.reasons import reasons_of
from fleet.planning.upgrades import upgrade_notes
from fleet.resources import State
from fleet.rollouts import forecast_rollouts, outlook, rollout_ahead
from fleet.spec import FleetSpec
from fleet.steps import Step
from fleet.vllm import with_engines

USUAL = SearchLimits()
SHOWN = 5
"""Upper bound of the violations that an error names."""


def make_plan(
    fleet: FleetSpec, live: State, history: History, now: datetime, search: SearchLimits = USUAL
) -> Plan:
    """Return the plan for the declarations: rollouts -> place -> diff -> order.

    Args:
        fleet: The declarations.
        live: The observed state; resources that it does not know are left alone.
        history: The ledger, folded.
        now: The time, with its zone; only the decisions about rollouts depend on it.
        search: How hard to look for places, and how much may move that need not.

    Raises:
        PlacementError: The fleet does not fit on the declared hardware.
        FleetError: FC2090, the placement or the order of the steps fails its check, which is a
            mistake of fleetctl and says nothing about whether the fleet fits.
    """
    fleet, targets, placement = placed(with_engines(fleet, live), live, history, now, search)
    _refuse(verify_placement(fleet, targets, live, placement))
    desired = desired_state_of(fleet, targets, placement, live)
    plan_input = PlanInput(fleet, live, history, now, targets, placement, desired)
    changes = reasons_of(diff(desired, live), plan_input)
    diversion = reroute(changes, desired, live)
    steps = order(changes, desired, live, diversion, rules_of(plan_input))
    plan = _described(plan_input, changes, steps, diversion.interrupted)
    _refuse(verify_steps(plan, fleet, live))
    return replace(plan, id=plan_id(plan))


def _described(
    plan_input: PlanInput,
    changes: tuple[Change, ...],
    steps: tuple[Step, ...],
    interrupted: Mapping[str, Interruption],
) -> Plan:
    """Return a plan with the meaning of the changes for clients, gates, costs and gateways."""
    fleet, live, desired = plan_input.fleet, plan_input.live, plan_input.desired
    targets = plan_input.targets.wanted.values()
    forecasts = [(t, *forecast_rollouts(fleet, t, plan_input.history)) for t in targets]
    past = plan_input.history
    ahead = {t.alias: rollout_ahead(fleet, t, due, likely, past) for t, due, likely in forecasts}
    settings = settings_due(fleet.settings, plan_input.history)
    impacts = impacts_of(changes, fleet, interrupted, steps)
    cost = price_per_hour(fleet, desired, live.unknown_servers)
    rollouts = {alias: stages for alias, stages in ahead.items() if stages}
    prospects = prospects_of(plan_input, changes, impacts, settings, rollouts)
    left = replace(desired, unknown_servers=live.unknown_servers)
    accounts = placement_accounts(fleet, plan_input.placement).values()
    policies = {alias: route.policy for alias, route in desired.routes().items()}
    return Plan(
        id="",
        fleet=fleet.name,
        changes=changes,
        steps=steps,
        capacity=plan_input.placement.capacity,
        impacts=impacts,
        gates=tuple(gate for _, gates, _ in forecasts for gate in gates),
        held=tuple(held_back(plan_input, changes)),
        unknown=tuple(not_observed(plan_input)),
        warnings=tuple(warnings_of(plan_input, changes, rollouts, accounts)),
        upgrades=tuple(upgrade_notes(plan_input)),
        settings=settings,
        cost_before=price_per_hour(fleet, live, live.unknown_servers),
        cost_after=cost,
        unchanged=sum(map(live.knows, desired.resources))
        - sum(change.after is not None for change in changes),
        untouched_clients=untouched(fleet, impacts, prospects, changes),
        ledger_seq=plan_input.history.seq,
        cost_bound=cost_bound(plan_input.placement, cost),
        moves=tuple(moves_of(plan_input.placement, live)),
        without_demand=without_demand(fleet.adapters.values()),
        outlook=tuple(outlook(target, chances) for target, _, chances in forecasts if chances),
        translations=translations(fleet.gateways.values(), fleet.compiled_for, policies),
        prospects=prospects,
        frozen=plan_input.history.freeze,
        saving=plan_input.placement.saving,
        late=late_aliases(fleet, accounts),
        bound_by=bound_basis(plan_input.placement, cost),
        loss=loss_outlook(fleet, plan_input.targets, left, accounts),
        client_costs=_client_costs(plan_input),
    )


def _client_costs(plan_input: PlanInput) -> tuple[CostChange, ...]:
    """Return the change of clients' costs since they were recorded, else against the live state."""
    fleet, recorded = plan_input.fleet, plan_input.history.cost_terms
    before = terms_of(fleet, plan_input.live)
    if recorded:
        with suppress(FleetError):  # those of a later release
            before = Terms.of_documents(recorded)
    return cost_changes(before, terms_of(fleet, plan_input.desired))


def desired_state(fleet: FleetSpec, live: State, history: History, now: datetime) -> State:
    """Return the state that `make_plan` plans towards; errors as there."""
    fleet, targets, placement = placed(with_engines(fleet, live), live, history, now, USUAL)
    return desired_state_of(fleet, targets, placement, live)


def _refuse(violations: Sequence[Violation]) -> None:
    """Raise FC2090 where violations were found."""
    if not violations:
        return
    texts = [violation.text for violation in violations]
    more = f"; and {len(texts) - SHOWN} more" if len(texts) > SHOWN else ""
    raise FleetError.of(
        "FC2090",
        "A placement failed its own check",
        f"{'; '.join(texts[:SHOWN])}{more}. This is a mistake in fleetctl, not in the "
        "declarations; nothing was planned, and nothing has changed.",
        hint="please report it with the declarations and the live state",
        command="fleetctl plan --save-live live.json",
    )
