"""Advises changes with which a fleet fits: plans with candidates and keeps those that help."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from math import inf

from fleet import placement
from fleet.errors import FleetError, PlacementError
from fleet.history import History
from fleet.placement import Limit, PlacementCause, SearchLimits
from fleet.plan import Action, Plan
from fleet.planning import make_plan
from fleet.resources import Server, State
from fleet.rollouts import RolloutTargets, decide_rollouts
from fleet.spec import FleetSpec
from fleet.vllm import with_engines
from fleet.what_if.candidates import Advice, Candidate, Diagnosis, Tightest
from fleet.what_if.changes import what_if
from fleet.what_if.rule_candidates import candidates_of

MOST_BASES = 4
"""Upper bound of the bases that are placed anew on fewer devices: more would say the same."""
MOST_VERSIONS = 5
"""Upper bound of the versions of a base that are tried alone: more would say the same."""


def _causes_of_need(
    fleet: FleetSpec,
    targets: RolloutTargets,
    search: SearchLimits,
    state: placement.PlacementState,
    causes: Sequence[PlacementCause],
) -> Iterator[PlacementCause]:
    """Yield why bases need all their devices, where other bases lack devices.

    A base with several devices is placed alone on all its devices but the last. The limit at which
    that fails is the cause; the versions without a device only suffer from it.
    """
    lacking = {cause.base for cause in causes if cause.primary and cause.limit is Limit.DEVICES}
    if not lacking:
        return
    devices: dict[str, set[placement.DeviceId]] = defaultdict(set)
    for draft in state.drafts.values():
        if draft.devices and draft.residents and draft.base.name not in lacking:
            devices[draft.base.name] |= draft.device_ids
    several = [base for base, own in devices.items() if len(own) > 1]
    for base in sorted(several, key=lambda base: -len(devices[base]))[:MOST_BASES]:
        fewer = frozenset(sorted(devices[base])[:-1])
        hosts = {
            name: replace(
                host,
                devices=tuple(device for device in host.devices if (name, device.name) in fewer),
            )
            for name, host in fleet.hosts.items()
        }
        own = {
            alias: target
            for alias, target in targets.wanted.items()
            if alias in fleet.adapters and fleet.adapters[alias].name.base == base
        }
        alone = RolloutTargets(own, {}, {}, frozenset(), frozenset())  # as if no server ran
        found = placement.attempt(replace(fleet, hosts=hosts), alone, State(), search)
        for cause in placement.causes_of(*found):
            if cause.primary:
                text = f"it takes {len(devices[base])} devices, because on one less {cause.text}"
                yield replace(cause, text=text)


USUAL = SearchLimits()


def diagnose(
    fleet: FleetSpec, live: State, history: History, now: datetime, *, search: SearchLimits = USUAL
) -> Diagnosis:
    """Return the causes for which a fleet does not fit, and advice tried with the real planner."""
    fleet = with_engines(fleet, live)
    targets = decide_rollouts(fleet, live, history, now)
    try:
        placed = placement.place(fleet, targets, live, search)
        return Diagnosis(fleet.name, fits=True, tightest=tightest(fleet, placed))
    except PlacementError:
        state, failed = placement.attempt(fleet, targets, live, search)
    causes = placement.causes_of(state, failed)
    causes = (*_causes_of_need(fleet, targets, search, state, causes), *causes)
    bases = sorted({item.base for item in failed})
    alone = []
    for base in bases:
        versions = [item for item in failed if item.base == base][:MOST_VERSIONS]
        alone += sorted(versions, key=lambda item: item.adapter)
    running = live.servers()
    before = placement.cost(state) + sum(
        server.price_per_hour
        for host in fleet.hosts.values()
        for server in host.attached
        if server.name in running
    )
    remedies, tried = [], 0
    for candidates in candidates_of(fleet, causes):
        for candidate in candidates:
            tried += 1
            try:
                plan = make_plan(changed(fleet, candidate), live, history, now, search)
            except FleetError:  # the fleet does not fit, or cannot be
                continue
            remedies.append(advice_of(fleet, candidate, plan, before))
            break
    return Diagnosis(
        fleet=fleet.name,
        fits=False,
        lacking=tuple(sorted(item.adapter for item in failed)),
        causes=causes,
        trials=placement.trials_of(state, alone),
        totals=placement.totals_of(state, bases),
        remedies=tuple(sorted(remedies, key=cheapest_first)),
        tried=tried,
    )


def changed(fleet: FleetSpec, candidate: Candidate) -> FleetSpec:
    """Return the fleet with a candidate's change made; errors as of `what_if`."""
    return candidate.change(fleet) if candidate.change else what_if(fleet, candidate.what_if)


def advice_of(fleet: FleetSpec, candidate: Candidate, plan: Plan, before: float) -> Advice:
    """Return a candidate with the price, restarts and moves of the plan with its change."""
    after = plan.cost_after if candidate.priced else None
    return Advice(
        text=candidate.text,
        what_if=candidate.what_if,
        edit=candidate.edit,
        place=fleet.origin(*candidate.path),
        added_per_hour=None if after is None else round(after - before, 6),
        restarts=sum(
            change.action is Action.REPLACE and isinstance(change.after, Server)
            for change in plan.changes
        ),
        moves=len(plan.moves),
        devices=candidate.devices,
    )


def cheapest_first(advice: Advice) -> tuple[float, int, int, int, str]:
    """Order by price; at equal prices, those first that buy, restart and move the least."""
    added = inf if advice.added_per_hour is None else advice.added_per_hour
    return (added, advice.devices, advice.restarts, advice.moves, advice.text)


def tightest(fleet: FleetSpec, placed: placement.PlacementResult) -> tuple[Tightest, ...]:
    """Return by resource the server that has the least left."""
    found: list[Tightest] = []
    accounts = placement.placement_accounts(fleet, placed)
    if loaded := [account for account in accounts.values() if account.peak > 0]:
        most = max(loaded, key=lambda account: (account.peak, account.server))
        hour = most.worst_hour
        text = (
            f"{most.server} is asked for {most.load[hour]:.0f} of {most.limit[hour]:.0f} tokens/s "
            f"at {hour:02}:00 UTC"
        )
        found.append(Tightest(most.server, "throughput", most.peak, text))
    filled = [
        ((account.pinned + account.kept) / account.slots, name)
        for name, account in accounts.items()
        if account.slots
    ]
    if filled:
        part, name = max(filled)
        taken = accounts[name].pinned + accounts[name].kept
        text = f"{name} has {taken} of {accounts[name].slots} slots taken"
        found.append(Tightest(name, "slots", part, text))
    if worst := placement.slowest(fleet, accounts):
        text = (
            f"{worst.adapter} on {worst.server}: {worst.tokens} tokens take {worst.seconds:.2g} s "
            f"at {worst.hour:02}:00 UTC, and {worst.due} ({worst.basis})"
        )
        found.append(Tightest(worst.server, "latency", worst.seconds / worst.due_s, text))
    return tuple(sorted(found, key=lambda tightest: (-tightest.used, tightest.resource)))
