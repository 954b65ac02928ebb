"""Make a plan from the declared, live and past state. Pure, and the same every time.

    rollouts -> place -> diff -> order

Nothing is planned that an independent check objects to.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

from fleet.capacity import without_demand
from fleet.codec import plan_id
from fleet.costing import Terms, cost_changes, terms_of
from fleet.errors import ConfigError, FleetError, problem_of
from fleet.history import History, settings_due
from fleet.names import alias_of, client_of
from fleet.placement import (
    PlacementResult,
    SearchLimits,
    Violation,
    late_aliases,
    loss_outlook,
    place,
    placement_accounts,
    verify_placement,
    verify_steps,
)
from fleet.plan import Change, CostChange, GateDue, Plan, PlanNote, RolloutAhead
from fleet.planning.client_keys import weak_new_keys, with_lock_outs
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
    prospects_of,
    untouched,
)
from fleet.planning.notes import asked_first, held_back, not_observed, warnings_of
from fleet.planning.ordering import order
from fleet.planning.reasons import reasons_of, with_served_bytes
from fleet.planning.upgrades import upgrade_notes
from fleet.resources import State
from fleet.rollouts import (
    AliasTarget,
    RolloutTargets,
    decide_rollouts,
    forecast_rollouts,
    outlook,
    rollout_ahead,
)
from fleet.spec import FleetSpec
from fleet.steps import Step
from fleet.vllm import with_engines


def placed(
    fleet: FleetSpec, live: State, history: History, now: datetime, search: SearchLimits
) -> tuple[FleetSpec, RolloutTargets, PlacementResult]:
    """Place a fleet on the hosts that are there.

    Returns:
        The fleet, in which the devices of hosts that are away drain; its targets; and their places.
        Versions that fit on no other host are unplaced until theirs is back.

    Raises:
        PlacementError: The fleet does not fit on the declared hardware, were it all there.
    """
    targets = decide_rollouts(fleet, live, history, now)
    away = {name: why for name, why in live.away_hosts.items() if name in fleet.hosts}
    if not away:
        return fleet, targets, place(fleet, targets, live, search)
    place(fleet, targets, replace(live, away_hosts={}), search)  # or its error
    hosts = {**fleet.hosts, **{name: fleet.hosts[name].drained() for name in away}}
    said = (f"host `{name}` is away, nothing is placed on it ({why})" for name, why in away.items())
    fleet = replace(fleet, hosts=hosts, warnings=(*fleet.warnings, *said))
    return fleet, targets, place(fleet, targets, live, search)


USUAL = SearchLimits()
NO_WAY = (
    "packing everything afresh is left out: no order of its steps keeps every client served on the "
    "devices that there are. Servers are emptied one by one instead, as with `--max-moves`"
)
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
        ConfigError: As `require_sound`.
        PlacementError: The fleet does not fit on the declared hardware.
        FleetError: FC2090, the placement or the order of the steps fails its check, which is a
            mistake of fleetctl and says nothing about whether the fleet fits. FC2012, a client that
            is set aside cannot stay as it is.
    """
    require_sound(fleet, history, live)
    declared = fleet
    fleet, targets, placement = placed(with_engines(declared, live), live, history, now, search)
    _require_unmoved(fleet, targets, placement)
    _refuse(verify_placement(fleet, targets, live, placement))
    desired = desired_state_of(fleet, targets, placement, live)
    plan_input = PlanInput(fleet, live, history, now, targets, placement, desired)
    changes = reasons_of(diff(desired, live), plan_input)
    diversion = reroute(changes, desired, live)
    steps = order(changes, desired, live, diversion, rules_of(plan_input))
    interrupted = with_lock_outs(diversion.interrupted, fleet, desired, live)
    plan = _described(plan_input, changes, steps, interrupted)
    violations = verify_steps(plan, fleet, live)
    if violations and search.repack:
        declared = replace(declared, warnings=(*declared.warnings, NO_WAY))
        moves = sum(map(len, placement.bindings.values()))
        without = replace(search, repack=False, max_moves=moves)
        return make_plan(declared, live, history, now, without)
    _refuse(violations)
    return replace(plan, id=plan_id(plan))


def require_sound(fleet: FleetSpec, history: History, live: State) -> None:
    """Refuse declarations by which a version or a key would not be safe any more.

    Raises:
        ConfigError: FC1281, a version has other bytes in the lock than it has served with; FC1282,
            the secret of a new key is weak.
    """
    _, changed = with_served_bytes(fleet, history, live)
    if problems := (*changed.values(), *weak_new_keys(fleet, history, live)):
        raise ConfigError(*problems)


def _described(
    plan_input: PlanInput,
    changes: tuple[Change, ...],
    steps: tuple[Step, ...],
    interrupted: Mapping[str, Interruption],
) -> Plan:
    """Return a plan with the meaning of the changes for clients, gates, costs and gateways."""
    fleet, live, desired = plan_input.fleet, plan_input.live, plan_input.desired
    forecasts = {t.alias: _forecast(plan_input, t) for t in plan_input.targets.wanted.values()}
    settings = settings_due(fleet.settings, plan_input.history)
    impacts = impacts_of(changes, fleet, interrupted, steps)
    cost = price_per_hour(fleet, desired, live.unknown_servers)
    rollouts = {alias: forecast.ahead for alias, forecast in forecasts.items() if forecast.ahead}
    foreseen = {alias: ahead for alias, ahead in rollouts.items() if not forecasts[alias].failed}
    prospects = prospects_of(plan_input, changes, impacts, settings, rollouts)
    expected = replace(desired, unknown_servers=live.unknown_servers)
    accounts = placement_accounts(fleet, plan_input.placement).values()
    policies = {alias: route.policy for alias, route in desired.routes().items()}
    return Plan(
        id="",
        fleet=fleet.name,
        changes=changes,
        steps=steps,
        capacity=plan_input.placement.capacity,
        impacts=impacts,
        gates=tuple(gate for forecast in forecasts.values() for gate in forecast.gates),
        held=tuple(held_back(plan_input, changes)),
        set_aside=tuple(PlanNote(why, client) for client, why in fleet.set_aside.items()),
        unknown=tuple(not_observed(plan_input)),
        warnings=(*asked_first(steps), *warnings_of(plan_input, changes, foreseen, accounts)),
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
        outlook=tuple(forecast.note for forecast in forecasts.values() if forecast.note),
        translations=translations(fleet.gateways.values(), fleet.compiled_for, policies),
        prospects=prospects,
        frozen=plan_input.history.freeze,
        saving=plan_input.placement.saving,
        late=late_aliases(fleet, accounts),
        bound_by=bound_basis(plan_input.placement, cost),
        loss=loss_outlook(fleet, plan_input.targets, expected, accounts),
        client_costs=_client_costs(plan_input),
    )


class _Forecast(NamedTuple):
    """Gates of a rollout with their power, the stages ahead, and the likely end or an error."""

    gates: tuple[GateDue, ...]
    ahead: RolloutAhead | None
    note: PlanNote | None
    failed: bool = False


def _forecast(plan_input: PlanInput, target: AliasTarget) -> _Forecast:
    """Forecast a rollout; an error ends the forecast of this alias, and is its note."""
    fleet, past = plan_input.fleet, plan_input.history
    try:
        gates, chances = forecast_rollouts(fleet, target, past)
        ahead = rollout_ahead(fleet, target, gates, chances, past)
    except Exception as error:  # noqa: BLE001 (an estimate ends no plan)
        problem = problem_of(error).diagnostics[0]
        note = PlanNote(f"no forecast: {problem.reason}: {problem.detail}", target.alias)
        ahead = rollout_ahead(fleet, target, target.gates, None, None)
        return _Forecast(target.gates, ahead, note, failed=True)
    return _Forecast(gates, ahead, outlook(target, chances) if chances else None)


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


def _require_unmoved(fleet: FleetSpec, targets: RolloutTargets, placement: PlacementResult) -> None:
    """Raise FC2012 where a version of a client that is set aside has no place on its server."""
    for name, servers in targets.loaded.items():
        client = client_of(alias_of(name)) if fleet.set_aside else ""
        moved = {*servers} - {*placement.bindings.get(name, ())}
        if client in fleet.set_aside and moved:
            raise FleetError.of(
                "FC2012",
                "A client that is set aside cannot stay",
                f"`{name}` would have to leave {', '.join(sorted(moved))}, and all of `{client}` "
                "is to stay as it is while its declarations are broken. Nothing was planned.",
                hint=f"Correct the declarations of `{client}` ({fleet.set_aside[client]}), or take "
                "back what makes it move.",
                command="fleetctl validate",
            )


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
