"""Advises what would make a fleet fit: tries candidates, plans with each, keeps those that help."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from math import inf

from fleet.errors import FleetError, PlacementError
from fleet.history import History
from fleet.placement import (
    DeviceId,
    Limit,
    PlacementCause,
    PlacementResult,
    PlacementState,
    SearchLimits,
    ServerAccount,
    attempt,
    causes_of,
    cost,
    place,
    placement_accounts,
    slowest,
    totals_of,
    trials_of,
)
from fleet.plan import Action, Plan
from fleet.planning import make_plan
from fleet.resources import Server, State
from fleet.rollouts import RolloutTargets, decide_rollouts
from fleet.spec import FleetSpec
from fleet.vllm import with_engines
from fleet.what_if.candidates import Advice, Candidate, Diagnosis, Tightest
from fleet.what_if.changes import what_if
from fleet.what_if.rule_candidates import candidates_of

ASKED = 4
"""Bases that are placed anew on fewer devices: more would say the same."""


def culprits(
    fleet: FleetSpec,
    wanted: RolloutTargets,
    search: SearchLimits,
    board: PlacementState,
    causes: Sequence[PlacementCause],
) -> Iterator[PlacementCause]:
    """Yield why bases need all their devices, where devices are lacking.

    Each base that holds several is placed alone on all but one of them; what that fails for is
    the cause, of which those without a device are only the victims.

    Args:
        fleet: The declarations.
        wanted: What every alias should have.
        search: How hard to look for places.
        board: Where what found a place is.
        causes: Of what found none.
    """
    lacking = {
        own_cause.base
        for own_cause in causes
        if own_cause.primary and own_cause.limit is Limit.DEVICES
    }
    if not lacking:
        return
    held: dict[str, set[DeviceId]] = defaultdict(set)
    for each in board.drafts.values():
        if each.devices and each.residents and each.base.name not in lacking:
            held[each.base.name] |= each.device_ids
    several = sorted((each for each in held if len(held[each]) > 1), key=lambda b: -len(held[b]))
    for base in several[:ASKED]:
        fewer = sorted(held[base])[:-1]
        smaller, failed = attempt(
            _only(fleet, frozenset(fewer)), _of_base(fleet, wanted, base), State(), search
        )
        for cause in causes_of(smaller, failed):
            if cause.primary:
                text = f"it takes {len(held[base])} devices, because on one less {cause.text}"
                yield replace(cause, text=text)


def _only(fleet: FleetSpec, spots: frozenset[DeviceId]) -> FleetSpec:
    """Return the fleet with no other devices than these."""
    hosts = {
        name: replace(
            host, devices=tuple(device for device in host.devices if (name, device.name) in spots)
        )
        for name, host in fleet.hosts.items()
    }
    return replace(fleet, hosts=hosts)


def _of_base(fleet: FleetSpec, wanted: RolloutTargets, base: str) -> RolloutTargets:
    """Return the targets of a base's aliases, as if no server of the base ran."""
    mine = {
        alias: target
        for alias, target in wanted.wanted.items()
        if alias in fleet.adapters and fleet.adapters[alias].name.base == base
    }
    return RolloutTargets(mine, {}, {}, frozenset(), frozenset())


__all__ = ["Advice", "Diagnosis", "Tightest", "diagnose"]

TRIED = 5
"""Versions that are tried alone for each base: more would say the same."""

USUAL = SearchLimits()


def diagnose(
    fleet: FleetSpec,
    live: State,
    history: History,
    now: datetime,
    *,
    search: SearchLimits = USUAL,
    told: Callable[[str], None] = lambda _: None,
) -> Diagnosis:
    """Say what a fleet lacks, and try candidates with the real planner.

    Args:
        fleet: The declarations.
        live: What was observed.
        history: The ledger, folded.
        now: The time, with its zone.
        search: How hard to look for places.
        told: Called with the text of each change before it is planned with.
    """
    fleet = with_engines(fleet, live)
    wanted = decide_rollouts(fleet, live, history, now)
    try:
        placement = place(fleet, wanted, live, search)
    except PlacementError:
        pass
    else:
        return Diagnosis(fleet.name, fits=True, tightest=tightest(fleet, placement))
    board, failed = attempt(fleet, wanted, live, search)
    found = causes_of(board, failed)
    causes = (*culprits(fleet, wanted, search, board, found), *found)
    asked = [each for base in {item.base for item in failed}
             for each in [item for item in failed if item.base == base][:TRIED]]  # fmt: skip
    running = live.servers()
    before = cost(board) + sum(
        server.price_per_hour
        for host in fleet.hosts.values()
        for server in host.attached
        if server.name in running
    )
    remedies, tried = [], 0
    for rungs in candidates_of(fleet, causes):
        for candidate in rungs:
            told(candidate.text)
            tried += 1
            plan = _planned(fleet, candidate, live, history, now, search)
            if plan is not None:
                remedies.append(_remedy(fleet, candidate, plan, before))
                break
    return Diagnosis(
        fleet=fleet.name,
        fits=False,
        lacking=tuple(sorted(each.adapter for each in failed)),
        causes=causes,
        trials=trials_of(board, sorted(asked, key=lambda each: (each.base, each.adapter))),
        totals=totals_of(board, [each.base for each in failed]),
        remedies=tuple(sorted(remedies, key=_cheapest_first)),
        tried=tried,
    )


def changed(fleet: FleetSpec, candidate: Candidate) -> FleetSpec:
    """Return the fleet with a candidate's change made; raises what `what_if` raises."""
    return candidate.change(fleet) if candidate.change else what_if(fleet, candidate.what_if)


def _planned(
    fleet: FleetSpec,
    candidate: Candidate,
    live: State,
    history: History,
    now: datetime,
    search: SearchLimits,
) -> Plan | None:
    """Return the plan of a fleet with a change; None: the fleet does not fit, or cannot be."""
    try:
        return make_plan(changed(fleet, candidate), live, history, now, search)
    except FleetError:
        return None


def _remedy(fleet: FleetSpec, candidate: Candidate, plan: Plan, before: float) -> Advice:
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


def _cheapest_first(remedy: Advice) -> tuple[float, int, int, int, str]:
    """Order by price; of equal ones, those first that buy, restart and move the least."""
    added = inf if remedy.added_per_hour is None else remedy.added_per_hour
    return (added, remedy.devices, remedy.restarts, remedy.moves, remedy.text)


def tightest(fleet: FleetSpec, placement: PlacementResult) -> tuple[Tightest, ...]:
    """Return by resource the server that has the least left."""
    found: list[Tightest] = []
    every = list(placement_accounts(fleet, placement).values())
    loaded = [each for each in every if each.peak > 0]
    if loaded:
        most = max(loaded, key=lambda each: (each.peak, each.server))
        hour = most.worst_hour
        text = (
            f"{most.server} is asked for {most.load[hour]:.0f} of {most.limit[hour]:.0f} tokens/s "
            f"at {hour:02}:00 UTC"
        )
        found.append(Tightest(most.server, "throughput", most.peak, text))
    filled = [each for each in every if each.slots]
    if filled:
        most = max(filled, key=lambda each: (_filled(each), each.server))
        text = f"{most.server} has {most.pinned + most.kept} of {most.slots} slots taken"
        found.append(Tightest(most.server, "slots", _filled(most), text))
    worst = slowest(fleet, {each.server: each for each in every})
    if worst is not None:
        text = (
            f"{worst.adapter} on {worst.server}: {worst.tokens} tokens take {worst.seconds:.2g} s "
            f"at {worst.hour:02}:00 UTC, and {worst.promised_s:g} s are promised ({worst.basis})"
        )
        found.append(Tightest(worst.server, "latency", worst.seconds / worst.promised_s, text))
    return tuple(sorted(found, key=lambda each: (-each.used, each.resource)))


def _filled(account: ServerAccount) -> float:
    return (account.pinned + account.kept) / account.slots
