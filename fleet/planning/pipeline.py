"""Planning: from what is declared, live and past to a plan. Pure, and the same every time.

Checked: nothing is planned that an independent check objects to.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime

from fleet.capacity import without_demand
from fleet.encoding import plan_id
from fleet.errors import PlacementError, problem
from fleet.flag_formats import outdated
from fleet.history import History
from fleet.names import adapter_address, version_of
from fleet.placement import (
    PlacementResult,
    SearchLimits,
    late,
    place,
    placement_accounts,
    verify_placement,
    verify_steps,
)
from fleet.plan import Change, Move, Plan
from fleet.planning.desired import desired_state_of, is_ours_by_name, reroute, unmanaged, waits
from fleet.planning.diff import diff
from fleet.planning.gateway_limits import translations
from fleet.planning.impact import impacts_of, price_per_hour, smoke_warnings, untouched
from fleet.planning.ordering import order
from fleet.planning.reasons import reasons_of
from fleet.resources import FULL, Key, LoadedAdapter, Route, Server, State
from fleet.rollouts import RolloutTargets, decide_rollouts, forecast_rollouts
from fleet.spec import FleetSpec
from fleet.traffic import Sticky
from fleet.vllm import disagreements, with_engines

SHOWN = 5


def checked(
    fleet: FleetSpec, wanted: RolloutTargets, live: State, placement: PlacementResult
) -> PlacementResult:
    """Return a placement that keeps every rule.

    Raises:
        PlacementError: FC2090: the search has made a mistake, which is ours and not the reader's.
    """
    found = verify_placement(fleet, wanted, live, placement)
    if found:
        raise _fault([each.text for each in found])
    return placement


def checked_steps(plan: Plan, fleet: FleetSpec, live: State) -> Plan:
    """Return a plan whose steps, in their order, never ask for more than servers have.

    Raises:
        PlacementError: FC2090, as above.
    """
    found = verify_steps(plan, fleet, live)
    if found:
        raise _fault([each.text for each in found])
    return plan


def _fault(texts: list[str]) -> PlacementError:
    more = f"; and {len(texts) - SHOWN} more" if len(texts) > SHOWN else ""
    return PlacementError(
        problem(
            "FC2090",
            "A placement failed its own check",
            f"{'; '.join(texts[:SHOWN])}{more}. This is a mistake in fleetctl, not in the "
            "declarations; nothing was planned, and nothing has changed.",
            hint="please report it with the declarations and the live state",
            command="fleetctl plan --save-live live.json",
        )
    )


USUAL = SearchLimits()
SOME_KEYS = 500
"""Keys times percent from which on a share of them is about what is asked for: five are expected
on the new version, and none are with a chance below 1 %."""


def make_plan(
    fleet: FleetSpec, live: State, history: History, now: datetime, search: SearchLimits = USUAL
) -> Plan:
    """Decide what to change: pace -> place -> diff -> order.

    Args:
        fleet: The declarations.
        live: What was observed; what it does not know is left alone.
        history: The ledger, folded.
        now: The time, with its zone; only the pace of rollouts depends on it.
        search: How hard to look for places, and how much may move that need not.

    Raises:
        PlacementError: The fleet does not fit on the declared hardware.
    """
    fleet = with_engines(fleet, live)
    wanted = decide_rollouts(fleet, live, history, now)
    placement = checked(fleet, wanted, live, place(fleet, wanted, live, search))
    desired = desired_state_of(fleet, wanted, placement, live)
    changes = reasons_of(
        diff(desired, live), fleet, live, history, wanted=wanted, placement=placement
    )
    smoke = {name: fleet.adapters[each.alias].smoke
             for each in wanted.wanted.values() for name, _ in each.shares}  # fmt: skip
    diversion = reroute(changes, desired, live)
    limited = {name: each.host for name, each in placement.servers.items()
               if each.host in fleet.hosts and fleet.hosts[each.host].memory_bytes}  # fmt: skip
    steps = order(
        changes, desired, live, diversion, smoke=smoke, tight=placement.tight, limited=limited,
        renames=fleet.renames,
    )  # fmt: skip
    previews = [
        forecast_rollouts(fleet, each, history) for each in wanted.wanted.values() if each.gates
    ]
    impacts = impacts_of(changes, fleet, diversion.interrupted)
    cost_after = price_per_hour(fleet, desired, live.unknown_servers)
    plan = Plan(
        id="",
        fleet=fleet.name,
        changes=changes,
        steps=steps,
        capacity=placement.capacity,
        impacts=impacts,
        gates=tuple(gate for each in previews for gate in each.gates),
        held=tuple(_held(wanted, placement, live)) + tuple(_altered(fleet, live, changes)),
        unknown=tuple(_unknown(fleet, live)),
        warnings=tuple(_warnings(fleet, wanted, placement, live))
        + tuple(_late(fleet, placement))
        + tuple(smoke_warnings(fleet, changes))
        + tuple(_unreadable(changes))
        + tuple(_expired(fleet, now)),
        cost_before=price_per_hour(fleet, live, live.unknown_servers),
        cost_after=cost_after,
        unchanged=len(desired.resources) - sum(each.after is not None for each in changes),
        untouched_clients=untouched(fleet, impacts, changes),
        ledger_seq=history.seq,
        cost_bound=_bound(placement, cost_after),
        moves=tuple(_moves(placement, live)),
        without_demand=without_demand(fleet.adapters.values()),
        outlook=tuple(each.outlook for each in previews if each.outlook),
        translations=translations(
            fleet.gateways.values(),
            fleet.compiled_for,
            {alias: each.policy for alias, each in desired.routes().items()},
        ),
    )
    return checked_steps(replace(plan, id=plan_id(plan)), fleet, live)


def desired_state(fleet: FleetSpec, live: State, history: History, now: datetime) -> State:
    """Return the state that `make_plan` plans towards; errors as there."""
    fleet = with_engines(fleet, live)
    wanted = decide_rollouts(fleet, live, history, now)
    return desired_state_of(fleet, wanted, place(fleet, wanted, live), live)


def _bound(placement: PlacementResult, cost: float | None) -> float | None:
    """Return the least that everything in use can cost; what others run is taken as it is."""
    return None if cost is None else round(cost - placement.price + placement.bound, 6)


def _moves(placement: PlacementResult, live: State) -> Iterator[Move]:
    """Yield the versions that leave a server for another, and why."""
    there: dict[str, set[str]] = defaultdict(set)
    for each in live.adapters().values():
        there[each.adapter].add(each.server)
    for adapter, servers in placement.bindings.items():
        if there[adapter] and not there[adapter].issuperset(servers):
            if adapter in placement.optional:
                yield Move(adapter, forced=False, why=placement.optional[adapter])
            elif adapter in placement.forced:
                yield Move(adapter, forced=True, why=placement.forced[adapter])


def _held(wanted: RolloutTargets, placement: PlacementResult, live: State) -> Iterator[str]:
    """Say what is declared and not done, by alias."""
    if live.routes_unknown:
        yield f"routes could not be read ({live.routes_unknown}): no version and no route moves"
    for alias, each in wanted.wanted.items():
        if each.held:
            yield each.held
        waiting = waits(each, placement.bindings)
        for adapter, _ in each.shares:
            reason = placement.unplaced.get(adapter)
            if reason:
                route = "; its route stays as it is" if adapter in waiting else ""
                yield f"{alias}: {adapter} is not loaded: {reason}{route}"


def _altered(fleet: FleetSpec, live: State, changes: Iterable[Change]) -> Iterator[str]:
    """Say which versions go on answering with other bytes than the lock pins."""
    known, due = live.adapters(), {each.address for each in changes}
    for alias, route in live.routes().items():
        for share in route.shares:
            pinned = fleet.versions.get(share.adapter)
            for server in share.servers:
                there = known.get(adapter_address(share.adapter, server))
                if there is None or pinned is None or there.address in due:
                    continue
                if there.digest != pinned.digest:
                    yield (
                        f"{alias}: {share.adapter} on {server} has other bytes than the lock pins, "
                        f"and {share.percent} % of the requests go there until it can be loaded "
                        "again"
                    )


def _unknown(fleet: FleetSpec, live: State) -> Iterator[str]:
    """Say what could not be observed."""
    for server, reason in sorted(live.unknown_servers.items()):
        yield f"server/{server}: {reason}"
    if live.routes_unknown:
        yield f"routes and keys: {live.routes_unknown}"
    for client in fleet.clients.values():
        for key in client.keys:
            if key.fingerprint is None:
                yield f"key/{client.name}/{key.name}: {key.reference} is not readable here"


def _unreadable(changes: Iterable[Change]) -> Iterator[str]:
    """Say that keys are due whose secrets are not here; whoever applies must have them."""
    due = [each for each in changes if isinstance(each.after, Key) and not each.after.fingerprint]
    if due:
        which = "1 key is" if len(due) == 1 else f"{len(due)} keys are"
        yield (
            f"{which} not readable here and must be where apply runs "
            "(fleetctl key create --all makes missing key files)"
        )


def _late(fleet: FleetSpec, placement: PlacementResult) -> Iterator[str]:
    """Say whose answers will come later than promised, by the law of throughput."""
    found = late(fleet, placement_accounts(fleet, placement).values())
    if found is not None:
        told = f"{found.code} {found.summary}: {found.detail}"
        yield f"{told}. To do: {found.hint}: {found.command}"


def _expired(fleet: FleetSpec, now: datetime) -> Iterator[str]:
    """Say which overrides have ended; their gates count again."""
    for each in fleet.overrides:
        if now.astimezone(UTC).date() > each.until:
            yield (
                f"override `{each.name}` of {each.alias} ended on {each.until}: its gates count "
                "again. Delete it, or give it a new day"
            )


def _warnings(
    fleet: FleetSpec, wanted: RolloutTargets, placement: PlacementResult, live: State
) -> Iterator[str]:
    """Say what the reader should know besides."""
    yield from fleet.warnings
    yield from placement.warnings
    yield from disagreements(fleet, live)
    yield from outdated(_kept(placement, live))
    yield from _whole_keys(fleet, wanted)
    for each in unmanaged(fleet, wanted, live):
        match each:
            case LoadedAdapter() if is_ours_by_name(fleet, each.adapter):
                yield (
                    f"{each.address} is not in the ledger, and no route names it; it stays. "
                    "If it is ours: fleetctl adopt"
                )
            case LoadedAdapter():
                yield f"{each.address} was not loaded by fleetctl; it stays, and takes a slot"
            case Route() | Key():
                yield f"{each.address} is neither declared nor in the ledger; it stays"
            case Server():
                pass


def _kept(placement: PlacementResult, live: State) -> dict[str, str | None]:
    """Return the digests of the servers that go on running as they are, by address."""
    there = live.servers()
    return {
        server.address: server.digest
        for name, server in placement.servers.items()
        if there.get(name) == server
    }


def _whole_keys(fleet: FleetSpec, wanted: RolloutTargets) -> Iterator[str]:
    """Say where a share cannot be had, as few keys are each kept on one version as a whole."""
    for alias, each in wanted.wanted.items():
        adapter, percent = fleet.adapters.get(alias), dict(each.shares).get(each.target, 0)
        if adapter is None or adapter.sticky is not Sticky.KEY or not 0 < percent < FULL:
            continue
        client = fleet.clients[adapter.name.client]
        keys = len(client.keys)
        if percent * keys >= SOME_KEYS:
            continue
        none = round(100 * (1 - percent / FULL) ** keys)
        count = "1 key" if keys == 1 else f"{keys} keys"
        yield (
            f"{alias}: `sticky: key` keeps all requests with one API key on one version, and "
            f"`{client.name}` has {count}: with a chance of {none} % none of them are answered "
            f"by {version_of(each.target)}, which is to have {percent} %"
        )
