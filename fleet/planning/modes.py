"""Make plans other than the whole: repair, advance of rollouts, best effort.

Repair and advance need no review: established resources that are missing are put back as they
were, and rollouts that are due move to their next stage. Nothing is removed, restarted or newly
deployed.

Best effort plans around aliases that find no place, which stay as they are live: a version that
fits nowhere is no reason to keep the rollouts of other clients waiting.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from fleet.codec import plan_id
from fleet.history import History
from fleet.names import (
    Address,
    adapter_address,
    address_parts,
    alias_of,
    name_in_address,
    server_address,
    step_parts,
)
from fleet.placement import SearchLimits, attempt, causes_of
from fleet.plan import Action, Change, Plan, Reason
from fleet.planning.desired import StepRules, passed_in
from fleet.planning.diversion import reroute
from fleet.planning.drift_cause import DriftAction, DriftCause
from fleet.planning.ordering import order
from fleet.resources import LoadedAdapter, OutageKind, Route, Server, State, servers_in
from fleet.rollouts import decide_rollouts
from fleet.spec import FleetSpec
from fleet.steps import SmokeTest


def repair(
    fleet: str,
    causes: Iterable[DriftCause],
    history: History,
    live: State,
    smoke: Mapping[str, tuple[str, ...]],
    substitutes: Mapping[str, str] | None = None,
) -> Plan:
    """Return the plan that puts back the resources that the healable causes took away.

    Versions that may answer other bytes are loaded again. Servers come back with the flags that
    `history` established; a server that hangs is stopped first, once routes have left the server
    where others serve. `smoke` has the inputs to ask before traffic, by full adapter name.
    `substitutes` has, by the same name, a server that answers in place of one that hangs; the
    copy there stays until a plan needs its slot or no longer wants the copy.
    """
    causes = tuple(causes)
    hung = frozenset(
        name_in_address(cause.subject)
        for cause in causes
        if cause.remedy is DriftAction.HEAL and cause.outage is OutageKind.SERVER_HUNG
    )
    live = _with_hung(hung, history, live)
    changes = tuple(
        Change(address, Action.REPLACE, now, was, Reason.HUNG, cause.summary)
        if (now := live.resources.get(address)) and cause.outage is OutageKind.SERVER_HUNG
        else Change(address, Action.UPDATE, now, was, Reason.EDITED_LIVE, cause.summary)
        if isinstance(now, Route)
        else Change(address, Action.UPDATE, now, was, Reason.WRONG_SOURCE, cause.summary)
        if now
        else Change(address, Action.CREATE, None, was, Reason.MISSING, cause.summary)
        for cause in causes
        if cause.remedy is DriftAction.HEAL
        for address in cause.addresses
        if (was := history.established.get(address))
    )
    copies = tuple(
        replace(was, server=server)
        for name, server in sorted((substitutes or {}).items())
        for was in live.adapters().values()
        if was.adapter == name and was.server in hung
    )
    why = "it answers until its own server does"
    changes += tuple(
        Change(copy.address, Action.CREATE, None, copy, Reason.HUNG, why)
        for copy in copies
        if copy.address not in live.resources
    )
    back = {change.address: change.after for change in changes if change.after}
    desired = replace(live, resources=dict(sorted({**live.resources, **back}.items())))
    meanwhile = _with_substitutes(desired, copies)
    diversion = reroute(changes, meanwhile, live)
    rules = StepRules(smoke, passed_in(history, desired, live))
    steps = order(changes, desired, live, diversion, rules)
    plan = Plan("", fleet, changes, steps, ledger_seq=history.seq)
    return replace(plan, id=plan_id(plan))


def without_unready(
    due: Iterable[DriftCause], history: History, live: State
) -> tuple[DriftCause, ...]:
    """Leave out causes of routes of which a repair would send requests to no good version.

    Good is a version that is live and surely of its bytes, or that another cause brings back.
    """
    causes = tuple(due)
    back = {address for cause in causes for address in cause.addresses}

    def is_good(address: Address) -> bool:
        now, was = live.resources.get(address), history.established.get(address)
        return address in back or (isinstance(now, LoadedAdapter) and now == was)

    def is_ready(cause: DriftCause) -> bool:
        was, now = history.established.get(cause.subject), live.resources.get(cause.subject)
        if not isinstance(was, Route) or not isinstance(now, Route):
            return True
        has = {(share.adapter, server) for share in now.shares for server in share.servers}
        wants = {(share.adapter, server) for share in was.shares for server in share.servers}
        return all(is_good(adapter_address(*pair)) for pair in wants - has)

    return tuple(filter(is_ready, causes))


def in_place(causes: Iterable[DriftCause], live: State) -> tuple[DriftCause, ...]:
    """Leave out all but servers that start again where they were, and adapters, as routes name.

    A server that was stopped on purpose has no record on its host, and one that another run has
    taken the traffic of is in no route: what is live says both, whatever the ledger says meanwhile.
    """
    routes = live.routes().values()
    routed = {
        adapter_address(share.adapter, server): server
        for route in routes
        for share in route.shares
        for server in share.servers
    }

    def is_due(address: Address, cause: DriftCause) -> bool:
        kind, name = address_parts(address)
        if kind != "server":
            address = server_address(name := routed.get(address, ""))
            return bool(name) and (address in live.resources or is_due(address, cause))
        is_there = name in live.ended or cause.outage is OutageKind.SERVER_HUNG
        return is_there and name in routed.values() and address in cause.addresses

    due = (
        replace(cause, addresses=tuple(at for at in cause.addresses if is_due(at, cause)))
        for cause in causes
    )
    return tuple(cause for cause in due if cause.addresses)


def without_routes(live: State) -> State:
    """Return a state without its routes, so that a repair changes none."""
    resources = {at: item for at, item in live.resources.items() if not isinstance(item, Route)}
    return replace(live, resources=resources)


def _with_hung(hung: frozenset[str], history: History, live: State) -> State:
    """Return the state in which servers to be replaced hold their established adapters."""
    hung_resources = {
        address: resource
        for address, resource in history.established.items()
        if isinstance(resource, Server | LoadedAdapter) and hung.intersection(servers_in(resource))
    }
    return replace(live, resources=dict(sorted({**live.resources, **hung_resources}.items())))


def _with_substitutes(desired: State, copies: Iterable[LoadedAdapter]) -> State:
    """Return the state in which routes name these copies too."""
    servers = {copy.adapter: copy.server for copy in copies}
    routes = {
        route.address: replace(
            route,
            shares=tuple(
                replace(share, servers=tuple(sorted({*share.servers, servers[share.adapter]})))
                if share.percent and share.adapter in servers
                else share
                for share in route.shares
            ),
        )
        for route in desired.routes().values()
    }
    return replace(desired, resources=dict(sorted({**desired.resources, **routes}.items())))


def advances(plan: Plan, without: Collection[str] = ()) -> Plan:
    """Return the part of a plan that moves rollouts, `without` some aliases, on or back.

    Routes that wait for nothing but smoke tests of loaded versions come with these tests.
    """
    moves = (Reason.ROLLOUT_ADVANCED, Reason.ROLLED_BACK)
    routes = {
        change.address: change
        for change in plan.changes
        if change.reason in moves and isinstance(change.after, Route)
        if change.after.alias not in without
    }
    tests = {s.id for s in plan.steps if isinstance(s.operation, SmokeTest) and not s.needs}
    moved = [
        step
        for step in plan.steps
        if step.address in routes and tests.issuperset(step.needs)
        if step_parts(step.id)[0] != "divert"
    ]
    moved_ids = {name for step in moved for name in (step.id, *step.needs)}
    steps = tuple(step for step in plan.steps if step.id in moved_ids)
    done = {step.address for step in moved}
    aliases = set(map(name_in_address, done))
    part = Plan(
        "",
        plan.fleet,
        ledger_seq=plan.ledger_seq,
        changes=tuple(change for address, change in routes.items() if address in done),
        steps=steps,
        impacts=tuple(impact for impact in plan.impacts if impact.alias in aliases),
        gates=tuple(gate for gate in plan.gates if gate.alias in aliases),
    )
    return replace(part, id=plan_id(part))


def promoted(plan: Plan) -> frozenset[str]:
    """Return the aliases whose rollout a plan moves on."""
    return frozenset(
        name_in_address(change.address)
        for change in plan.changes
        if change.reason is Reason.ROLLOUT_ADVANCED
    )


ROUNDS = 8
"""Upper bound of the rounds; then all aliases that want a version not loaded are left out."""


@dataclass(frozen=True, slots=True)
class BestEffort:
    """Declarations and history without the aliases that find no place."""

    fleet: FleetSpec
    """Without the aliases that are left out."""
    history: History
    """In which resources of those aliases are not owned, and so are left alone."""
    left_out: Mapping[str, str]
    """Versions without a place, and the reason, by alias."""


def best_effort(
    fleet: FleetSpec, live: State, history: History, now: datetime, search: SearchLimits
) -> BestEffort | None:
    """Leave out the aliases whose versions find no place, until all others have a place.

    Their live resources stay and take slots, as if loaded by hand. None: the others do not fit
    either.
    """
    left_out: dict[str, str] = {}
    for number in range(ROUNDS + 2):
        remainder = _without(fleet, live, history, left_out)
        targets = decide_rollouts(remainder.fleet, live, remainder.history, now)
        state, failed = attempt(remainder.fleet, targets, live, search)
        if not failed:
            return remainder
        for cause in causes_of(state, failed):
            for adapter in cause.adapters:
                left_out.setdefault(alias_of(adapter), f"no place for {adapter}: {cause.text}")
        if number >= ROUNDS:
            for alias, target in targets.wanted.items():
                if not targets.loaded.keys() >= {adapter for adapter, _ in target.shares}:
                    left_out.setdefault(alias, "it waits for the others")
    return None


def _without(
    fleet: FleetSpec, live: State, history: History, left_out: Mapping[str, str]
) -> BestEffort:
    adapters = {name: adapter for name, adapter in fleet.adapters.items() if name not in left_out}
    theirs = {
        address
        for address, resource in {**history.established, **live.resources}.items()
        if (isinstance(resource, Route) and resource.alias in left_out)
        or (isinstance(resource, LoadedAdapter) and alias_of(resource.adapter) in left_out)
    }
    established = {
        address: was for address, was in history.established.items() if address not in theirs
    }
    past = replace(history, owned=history.owned - theirs, established=established)
    return BestEffort(replace(fleet, adapters=adapters), past, dict(sorted(left_out.items())))
