"""Work out the impact of a plan: changes for clients, ways back, costs, what follows later."""

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from math import ceil
from typing import Any

from fleet.codes import SUMMARIES
from fleet.consent import WAIT_S
from fleet.errors import ConfigError, Diagnostic
from fleet.history import History
from fleet.names import (
    alias_of,
    alias_parts,
    by_number,
    client_of,
    place_of_server,
    route_address,
    server_address,
    step_id,
    version_of,
)
from fleet.placement import PlacementResult
from fleet.plan import (
    Action,
    BoundBasis,
    Change,
    Impact,
    Move,
    Plan,
    Prospect,
    Reason,
    RolloutAhead,
    SettingChange,
)
from fleet.planning.desired import PlanInput
from fleet.planning.diff import differences
from fleet.planning.diversion import Interruption
from fleet.resources import FULL, LoadedAdapter, Route, Server, State, client_in
from fleet.spec import AdapterSpec, FleetSpec
from fleet.steps import LoadAdapter, SmokeTest, Step, schedule

SWITCH_S = 1.0
"""Usual seconds until all gateways have a route: the back-out where the old version is loaded."""

RELOAD_S = 10.0
"""Usual seconds to load a version and switch the route to the version."""

_RELOADS = f"requests wait while its version is reloaded, and fail after {WAIT_S} s"


def impacts_of(
    changes: Iterable[Change],
    fleet: FleetSpec,
    interrupted: Mapping[str, Interruption],
    steps: Sequence[Step],
) -> tuple[Impact, ...]:
    """Return the impacts by alias, sorted; aliases untouched are left out."""
    routes: dict[str, Change] = {}
    adapters: dict[str, list[Change]] = defaultdict(list)
    for change in changes:
        resource = change.after or change.before
        if isinstance(resource, Route):
            routes[resource.alias] = change
        elif isinstance(resource, LoadedAdapter):
            adapters[alias_of(resource.adapter)].append(change)
    outages = _outages(interrupted, steps)
    impacts = (
        _impact(
            alias, routes.get(alias), adapters.get(alias, []), fleet,
            interrupted.get(alias), outages.get(alias),
        )
        for alias in sorted({*routes, *adapters, *interrupted})
    )  # fmt: skip
    return tuple(impact for impact in impacts if impact is not None)


def _outages(
    interrupted: Mapping[str, Interruption], steps: Sequence[Step]
) -> dict[str, float | None]:
    """Return by alias the seconds in which requests fail, by estimate; None: no end is known.

    From the stop of a server until the version is loaded again; of a version that is reloaded, from
    the step that takes its traffic to the step that brings the traffic back.
    """
    times = schedule(steps) if interrupted else {}
    loaded: dict[tuple[str, str], float] = {}
    for step in steps if interrupted else ():
        if isinstance(step.operation, LoadAdapter | SmokeTest):
            loaded[alias_of(step.operation.adapter.adapter), step.lane] = times[step.id][1]
    seconds: dict[str, float | None] = {}
    for alias, interruption in interrupted.items():
        if interruption.keys:  # until the client sends another
            seconds[alias] = None
            continue
        route = route_address(alias)
        begins = {
            server: step_id("stop", server_address(server)) for server in interruption.servers
        }
        _, back = times.get(step_id("set", route), (0.0, None))
        spans = [(loaded.get((alias, server), back), stop) for server, stop in begins.items()]
        spans = spans or [(back, step_id("divert", route))]
        ends = [end - times[begin][0] for end, begin in spans if end is not None]
        seconds[alias] = sum(ends) if len(ends) == len(spans) else None
    return seconds


def untouched(
    fleet: FleetSpec,
    impacts: Iterable[Impact],
    prospects: Iterable[Prospect],
    changes: Iterable[Change],
) -> tuple[str, ...]:
    """Return the clients for which the plan changes nothing, sorted."""
    touched = {client_in(resource) for change in changes for resource in change.resources}
    touched |= {impact.client for impact in impacts}
    touched |= {prospect.client for prospect in prospects}
    return tuple(name for name in sorted(fleet.clients) if name not in touched)


def price_per_hour(fleet: FleetSpec, state: State, unknown: Iterable[str] = ()) -> float | None:
    """Return the price of the devices in use, an hour; None where a device has no price."""
    hosts = fleet.hosts.values()
    devices = {
        (host.name, device.name): device.price_per_hour
        for host in hosts
        for device in (*host.left, *host.devices)
    }
    attached = {server.name: server.price_per_hour for h in hosts for server in h.attached}
    used: set[tuple[str, str]] = set()
    total = 0.0
    for server in state.servers().values():
        total += attached.get(server.name, 0.0)
        used |= {(server.host, device) for device in server.devices}
    for name in unknown:
        total += attached.get(name, 0.0)
        used |= {place_of_server(name)} & devices.keys()
    if not used <= devices.keys():
        return None
    return round(total + sum(devices[device] for device in sorted(used)), 6)


def cost_bound(placement: PlacementResult, cost: float | None) -> float | None:
    """Return the least that all in use can cost; attached servers count as they are."""
    return None if cost is None else round(cost - placement.price + placement.bound, 6)


def bound_basis(placement: PlacementResult, cost: float | None) -> BoundBasis | None:
    """Return how the bound of a price was found; None where the price is that bound, or unknown."""
    is_above = cost is not None and placement.price > placement.bound + 1e-6
    return placement.bound_by if is_above else None


def moves_of(placement: PlacementResult, live: State) -> Iterator[Move]:
    """Yield the versions that leave a server for another, and why."""
    loaded: dict[str, set[str]] = defaultdict(set)
    for adapter in live.adapters().values():
        loaded[adapter.adapter].add(adapter.server)
    for version, servers in placement.bindings.items():
        if loaded[version] and not loaded[version].issuperset(servers):
            if version in placement.optional:
                yield Move(version, forced=False, why=placement.optional[version])
            elif version in placement.forced:
                yield Move(version, forced=True, why=placement.forced[version])


def _impact(
    alias: str,
    route: Change | None,
    adapters: list[Change],
    fleet: FleetSpec,
    interruption: Interruption | None,
    outage_s: float | None,
) -> Impact | None:
    before = route.before if route is not None and isinstance(route.before, Route) else None
    after = route.after if route is not None and isinstance(route.after, Route) else None
    old, new = _percents(before), _percents(after)
    parts = [_shares_text(route, old, new), *_adapter_text(adapters)]
    if before is not None and after is not None:
        changed = differences(before.policy, after.policy)
        parts += [f"{name} {was} -> {now}" for name, was, now in changed]
    if interruption is not None:
        parts.append(_outage_text(interruption))
    summary = "; ".join(part for part in parts if part)
    if not summary:
        return None
    declared, client = fleet.adapters.get(alias), fleet.clients.get(client_of(alias))
    command, class_, seconds = _back_out(alias, route, before, after)
    return Impact(
        client=client_of(alias),
        tier=client.tier if client else "",
        alias=alias,
        summary=summary,
        share_moved=_moved(old, new) if route else 0,
        peak_rpm=declared.demand.peak_rpm if declared and declared.demand else None,
        back_out=command,
        back_out_class=class_,
        back_out_s=seconds,
        interrupted=interruption is not None,
        waits=interruption is not None and not (interruption.servers or interruption.keys),
        outage_s=outage_s,
        **_lost(declared, interruption, outage_s),
    )


def _lost(
    declared: AdapterSpec | None, interruption: Interruption | None, outage_s: float | None
) -> dict[str, Any]:
    """Return the requests without an answer in the busiest hour, and the origin of the demand."""
    if interruption is None or declared is None or declared.demand is None:
        return {}
    observed = declared.demand.observed
    rpm, basis = (max(observed), "recorded") if observed else (declared.demand.peak_rpm, "declared")
    if outage_s is None:
        return {"demand_basis": basis}
    span = outage_s if interruption.servers else max(outage_s - WAIT_S, 0.0)
    lost = ceil(rpm * span / 60 * interruption.percent / FULL)
    return {"lost_requests": lost, "demand_basis": basis}


def _outage_text(interruption: Interruption) -> str:
    servers = sorted(interruption.servers, key=by_number)
    if interruption.keys:
        keys, works = " and ".join(interruption.keys), "work" if interruption.keys[1:] else "works"
        return f"requests fail until the client sends another key: {keys} no longer {works}"
    if not servers:
        return _RELOADS
    fail = "requests fail" if interruption.percent == FULL else f"{interruption.percent} % fail"
    verb = "restarts" if len(servers) == 1 else "restart"
    return f"{fail} while {' and '.join(servers)} {verb}: no other server has the version"


def _shares_text(route: Change | None, old: Mapping[str, int], new: Mapping[str, int]) -> str:
    if route is None:
        return ""
    if route.after is None:
        return "is served no longer"
    if route.before is None:
        return ", ".join(
            f"{version_of(version)} {new[version]} %" for version in new if new[version]
        )
    return ", ".join(
        f"{version_of(version)} {old.get(version, 0)} % -> {new.get(version, 0)} %"
        for version in (*(version for version in old if version not in new), *new)
        if old.get(version, 0) != new.get(version, 0)
    )


def _adapter_text(adapters: list[Change]) -> Iterator[str]:
    for change in adapters:
        match change.before, change.after:
            case LoadedAdapter() as was, LoadedAdapter() as now if change.action is Action.MOVE:
                version = version_of(now.adapter)
                yield f"{version} moves from {was.server} to {now.server}, same weights"
            case LoadedAdapter() as before, None if change.reason is Reason.RETENTION_ENDED:
                yield f"{version_of(before.adapter)} is unloaded: no warm way back to it any more"
            case None, LoadedAdapter() as after if change.reason is Reason.MISSING:
                yield f"{version_of(after.adapter)} is loaded again on {after.server}"
            case _:
                pass


def _moved(old: Mapping[str, int], new: Mapping[str, int]) -> int:
    """Return the percent of requests that another version answers than now, or none did."""
    gained = sum(max(new[version] - old.get(version, 0), 0) for version in new)
    return gained if new else sum(old.values())


def _back_out(
    alias: str, route: Change | None, before: Route | None, after: Route | None
) -> tuple[str, str, float | None]:
    """Return the command that undoes the change, its class, and about how many seconds."""
    if route is None or (before is None and after is not None):
        return "nothing to go back to", "none", None
    old, new = _percents(before), _percents(after)
    if before and after and _answering(old) == _answering(new):
        return "no answer changes", "none", None
    if after is None or not old:
        return "declare it again and apply", "cold", RELOAD_S
    command = f"fleetctl rollback {alias}"
    if max(old, key=old.__getitem__) in new:
        return command, "warm", SWITCH_S
    return command, "cold", RELOAD_S


def _answering(percents: Mapping[str, int]) -> dict[str, int]:
    return {version: percent for version, percent in percents.items() if percent}


def _percents(route: Route | None) -> dict[str, int]:
    """Return the shares of a route in percent, by version; empty without a route."""
    return {share.adapter: share.percent for share in route.shares} if route else {}


_ROUTED = frozenset({"limits", "format", "sticky", "choices", "shadow", "capture", "timeouts"})
"""Settings of clients and tiers that a change of a route shows."""
_NAMES = frozenset({"called", "formerly"})
_CARD = frozenset({"kind", "memory"})
"""Settings of a device that tell another card."""
_Terms = Mapping[str, Mapping[str, str]]
"""Settings by their first two parts, such as `tiers.premium`."""


def prospects_of(
    plan_input: PlanInput,
    changes: Collection[Change],
    impacts: Iterable[Impact],
    settings: Iterable[SettingChange],
    rollouts: Mapping[str, RolloutAhead],
) -> tuple[Prospect, ...]:
    """Return the consequences by alias, sorted; aliases without any are left out.

    Args:
        plan_input: The input and the first stages of the plan.
        changes: The changes of the plan.
        impacts: The effects of the steps; their aliases name restarts there.
        settings: The declared values that differ from the last apply.
        rollouts: The stages ahead, by alias, of all rollouts that the plan begins or moves.
    """
    told_aliases = {impact.alias for impact in impacts}
    routed = {change.after.alias: change for change in changes if isinstance(change.after, Route)}
    begun = {alias: ahead for alias, ahead in rollouts.items() if alias in routed}
    terms = _changed_terms(plan_input, tuple(settings))
    for alias, change in routed.items():
        if alias not in told_aliases and alias not in begun:
            terms[alias] += (SettingChange(*detail) for detail in change.details if _moves(detail))
    servers = _changed_servers(plan_input, changes, told_aliases)
    return tuple(
        Prospect(
            alias_parts(alias)[0],
            alias,
            begun.get(alias),
            tuple(terms[alias]),
            servers.get(alias, ()),
        )
        for alias in sorted({*begun, *servers, *(alias for alias in terms if terms[alias])})
    )


def _moves(detail: tuple[str, str, str]) -> bool:
    """Say whether a detail of a route tells that other servers answer."""
    return detail[0].endswith(" on")


def _changed_servers(
    plan_input: PlanInput, changes: Iterable[Change], told_aliases: Collection[str]
) -> dict[str, tuple[str, ...]]:
    """Return by alias the servers that answer now and restart, or whose upgrade the plan moves."""
    changed = {change.before.name for change in changes if isinstance(change.before, Server)}
    upgraded = {
        server.base
        for change in changes
        if change.reason is Reason.UPGRADE
        for server in change.resources
        if isinstance(server, Server)
    }
    for upgrade in plan_input.placement.upgrades:
        if upgrade.base in upgraded:
            changed.update(upgrade.old)
    restarts = {
        alias: tuple(sorted(changed.intersection(chain(*(s.servers for s in route.shares)))))
        for alias, route in plan_input.live.routes().items()
        if alias in plan_input.fleet.adapters and alias not in told_aliases
    }
    return {alias: servers for alias, servers in restarts.items() if servers}


def _changed_terms(
    plan_input: PlanInput, settings: tuple[SettingChange, ...]
) -> dict[str, list[SettingChange]]:
    """Return by alias the terms that differ from the last apply; of aliases that have a route."""
    applied = plan_input.history.settings
    changes_by_client: dict[str, list[SettingChange]] = defaultdict(list)
    if not settings or not applied:
        return changes_by_client
    old, new = _sections(applied), _sections(plan_input.fleet.settings)
    cards, servers = [*_cards(settings)], plan_input.live.servers()
    for alias, route in plan_input.live.routes().items():
        if alias not in plan_input.fleet.adapters:
            continue
        was, now = _terms(old, alias), _terms(new, alias)
        changes_by_client[alias] += (
            SettingChange(name, was.get(name), now.get(name))
            for name in dict.fromkeys((*now, *was))
            if was.get(name) != now.get(name)
        )
        places = {
            f"{server.host}.{device}"
            for share in route.shares
            for server in map(servers.get, share.servers)
            if server is not None
            for device in server.devices
        }
        changes_by_client[alias] += (change for place, change in cards if place in places)
    return changes_by_client


def _cards(settings: Iterable[SettingChange]) -> Iterator[tuple[str, SettingChange]]:
    """Yield host and device of every card that changes, with the setting that differs."""
    for setting in settings:
        match setting.path.split("."):
            case ["hosts", host, "devices", device, name] if name in _CARD and setting.after:
                named = f"{host}/{device} {name}"
                yield f"{host}.{device}", SettingChange(named, setting.before, setting.after)
            case _:
                pass


def _sections(settings: Mapping[str, str]) -> _Terms:
    sections: dict[str, dict[str, str]] = defaultdict(dict)
    for path, value in settings.items():
        section, _, remainder = path.partition(".")
        name, _, remainder = remainder.partition(".")
        sections[f"{section}.{name}"][remainder] = value
    return sections


def _terms(sections: _Terms, alias: str) -> dict[str, str]:
    """Return the settings that hold for an alias by short names: its own, its tier's, its gates'.

    A setting of the tier that client or adapter declare themselves is left out.
    """
    client, task = alias_parts(alias)
    beyond = f"adapters.{task}."
    mine = sections.get(f"clients.{client}", {})
    adapter = {path.removeprefix(beyond): v for path, v in mine.items() if path.startswith(beyond)}
    settings = {path: v for path, v in mine.items() if not path.startswith(("adapters.", "keys."))}
    settings |= {path: v for path, v in adapter.items() if path not in ("version", "base")}
    usual = {name: sections.get(f"defaults.{name}", {}).get("") for name in ("tier", "rollout")}
    tier = mine.get("tier") or usual["tier"] or "standard"
    rollout = adapter.get("rollout") or usual["rollout"] or "standard"
    pace = sections.get(f"rollouts.{rollout}", {})
    owned = {path.partition(".")[0] for path in settings}
    terms = {"tier": tier} | {
        path: value
        for path, value in sections.get(f"tiers.{tier}", {}).items()
        if path.partition(".")[0] not in owned
    }
    terms |= {"rollout": rollout, **pace, **settings}
    for gate in json.loads(pace.get("gates", "[]")):
        terms |= {f"{gate}.{path}": v for path, v in sections.get(f"gates.{gate}", {}).items()}
    hidden = _ROUTED | _NAMES
    return {path: v for path, v in terms.items() if path and path.partition(".")[0] not in hidden}


FLAG = "prevent_destroy"


def require_kept(plan: Plan, fleet: FleetSpec, history: History) -> None:
    """Refuse a plan that ends a protected alias: its route goes, and its versions are unloaded.

    Protected is what the declarations say, and what they said at the last apply: who deletes a
    client deletes its protection with it. An alias that is renamed goes on.

    Raises:
        ConfigError: FC1279, by protected alias.
    """
    refusals = tuple(_refused(plan, fleet, history.settings or {}))
    if refusals:
        raise ConfigError(*refusals)


def _refused(plan: Plan, fleet: FleetSpec, last: Mapping[str, str]) -> Iterator[Diagnostic]:
    for change in plan.changes:
        route = change.before
        if not isinstance(route, Route) or change.after or change.reason is Reason.RENAMED:
            continue
        client = client_of(route.alias)
        task = route.alias.removeprefix(f"{client}-")
        owner = f"clients.{client}"
        for path in (f"{owner}.{FLAG}", f"{owner}.adapters.{task}.{FLAG}"):
            now = fleet.settings.get(path) == "true"
            if now or last.get(path) == "true":
                place = fleet.declared_at(*path.split(".")) if now else None
                since = "" if now else ", as the last apply recorded it"
                yield Diagnostic(
                    "FC1279",
                    SUMMARIES["FC1279"],
                    f"The plan would end `{route.alias}`: {change.why}. `{path}` is true{since}.",
                    place,
                    hint=f"Declare it again. If it is to go: `{path}: false` first, and apply; "
                    "then delete it.",
                    command="fleetctl apply --auto",
                )
                break
