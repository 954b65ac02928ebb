"""Decides the rollouts of all aliases, and tells routes that others changed."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime

from fleet.history import History, is_way_back
from fleet.names import AdapterName, adapter_address, adapter_of_address, alias_of
from fleet.resources import FULL, Route, Share, State
from fleet.rollouts.evidence import engine_of, grouped, loaded_on, other_bytes
from fleet.rollouts.guards import held_for_silent, shadowed
from fleet.rollouts.progress import decide_rollout
from fleet.rollouts.targets import AliasTarget, Phase, RolloutTargets
from fleet.rollouts.upgrades import decide_upgrades
from fleet.spec import AdapterSpec, FleetSpec


def applied_route(history: History, live: Route) -> Route | None:
    """Return the route that was applied, where others changed the live route.

    None: no shares were changed, or the live route may be that of a rollback; the alias then stays
    as it is until a person releases it.
    """
    applied = history.established.get(live.address)
    if not isinstance(applied, Route) or _split(applied) == _split(live):
        return None
    return None if may_be_rollback(applied, live, history) else applied


def may_be_rollback(applied: Route, live: Route, history: History) -> bool:
    """Say whether a live route may be that of a rollback whose entry has not reached the ledger.

    A rollback gives all traffic to a version that once had it, and changes nothing else.
    """
    (salt, then), (live_salt, now) = _split(applied), _split(live)
    back = next((name for name, percent in now.items() if percent == FULL), "")
    same = salt == live_salt and then != now and then.keys() == now.keys()
    return same and back in history.answered_all


def is_diverted(applied: Route, live: Route) -> bool:
    """Say whether a live route is the applied route without some of its servers."""
    servers = {share.adapter: set(share.servers) for share in applied.shares}
    return (
        _split(applied) == _split(live)
        and all(servers[share.adapter].issuperset(share.servers) for share in live.shares)
        and applied.policy == live.policy
    )


def _split(route: Route) -> tuple[str, dict[str, int]]:
    return route.salt, {share.adapter: share.percent for share in route.shares}


def decide_rollouts(
    fleet: FleetSpec, live: State, history: History, now: datetime
) -> RolloutTargets:
    """Decide the versions and shares of all aliases at `now`.

    A stage whose start is not in the history counts as entered now, so that a lost ledger
    delays a rollout and never speeds one up. A route that only the ledger knows was lost, and a
    route that others changed is not the one that was applied: both go on from where they were.

    An adapter of others that has the bytes of an alias (`served_as`) takes no slot beside the
    alias's versions, as its client asks for the one or the other.
    """
    routes = live.routes()
    applied = {} if live.routes_unknown else _applied_routes(fleet, live, history)
    resident = _resident_versions(live, history) if live.routes_unknown else {}
    strange = other_bytes(fleet, live) if history.evidence else frozenset()
    earlier_routes = {**routes, **applied}
    former = {adapter.served_as for adapter in fleet.adapters.values()} - fleet.versions.keys()
    loaded = {name: servers for name, servers in loaded_on(live).items() if name not in former}
    routed = _routed_to(routes)

    def target(alias: str, adapter: AdapterSpec) -> AliasTarget:
        if why := fleet.set_aside.get(adapter.name.client):
            return _as_live(alias, str(adapter.name), routes.get(alias), loaded, why)
        if live.routes_unknown:
            unmoved = tuple((name, 0) for name in resident.get(alias, ()))
            return AliasTarget(
                alias, str(adapter.name), unmoved, "", Phase.UNKNOWN, live.routes_unknown
            )
        route, name = _route(fleet, alias, earlier_routes, live, history), str(adapter.name)
        if alias in applied and alias in routes:  # first as it was: a rollout moves on from there
            back = applied[alias]
            shares = tuple((share.adapter, share.percent) for share in back.shares)
            edited = AliasTarget(alias, name, shares, back.salt, Phase.EDITED, "")
            return shadowed(fleet, adapter, edited, back, history)
        is_judged = alias in history.evidence
        base = engine_of(live, loaded.get(name, ()), routed.get(name, ())) if is_judged else ""
        decided = decide_rollout(fleet, adapter, route, history, now, altered=strange, base=base)
        return shadowed(fleet, adapter, held_for_silent(decided, route, live), route, history)

    chosen = {alias: target(alias, adapter) for alias, adapter in sorted(fleet.adapters.items())}
    names = frozenset(adapter for target in chosen.values() for adapter, _ in target.shares)
    idle = frozenset(_freeable(fleet, names, loaded, routes, history))
    upgrades = decide_upgrades(fleet, live, history, now)
    return RolloutTargets(chosen, loaded, routed, idle, history.owned, upgrades)


def _route(
    fleet: FleetSpec, alias: str, routes: Mapping[str, Route], live: State, history: History
) -> Route | None:
    """Return the route that an alias's rollout goes on from; None: no route.

    A version that was kept out and has been released goes on beside the one before, also where
    the alias has been gone meanwhile.
    """
    route = _route_of(fleet, alias, routes)
    if route is None and str(fleet.adapters[alias].name) in history.released.get(alias, ()):
        return _left_over(fleet, alias, live, history)
    return route


def _as_live(
    alias: str, target: str, route: Route | None, loaded: Mapping[str, object], why: str
) -> AliasTarget:
    """Return the target of an alias of a client that is set aside: the live shares and versions."""
    shares = {share.adapter: share.percent for share in (route.shares if route else ())}
    listed = sorted(name for name in loaded if alias_of(name) == alias and name not in shares)
    shares |= dict.fromkeys(listed, 0)
    return AliasTarget(alias, target, tuple(shares.items()), "", Phase.SET_ASIDE, why)


def _routed_to(routes: Mapping[str, Route]) -> dict[str, tuple[str, ...]]:
    """Return the sorted servers of a version on live routes, by full name of the version."""
    return grouped(
        (share.adapter, server)
        for route in routes.values()
        for share in route.shares
        for server in share.servers
    )


def _freeable(
    fleet: FleetSpec,
    resident: frozenset[str],
    loaded: Mapping[str, tuple[str, ...]],
    routes: Mapping[str, Route],
    history: History,
) -> Iterator[tuple[str, str]]:
    """Yield (adapter, server) that are ours, wanted nowhere and without traffic.

    They may be unloaded before anything else happens.
    """
    renamed = set(fleet.renames.values())
    serving = {
        (share.adapter, server)
        for route in routes.values()
        if route.alias in fleet.adapters or route.alias in renamed
        for share in route.shares
        if share.percent > 0
        for server in share.servers
    }
    for adapter, servers in loaded.items():
        for server in servers:
            ours = adapter_address(adapter, server) in history.owned
            if ours and adapter not in resident and (adapter, server) not in serving:
                yield adapter, server


def _applied_routes(fleet: FleetSpec, live: State, history: History) -> dict[str, Route]:
    """Return the routes that were applied and are lost or changed by others, by alias.

    Only those of which every version that had a share can still be served.
    """
    loaded = {adapter.adapter for adapter in live.adapters().values()}
    live_routes = live.routes()
    return {
        resource.alias: resource
        for resource in history.established.values()
        if isinstance(resource, Route)
        if resource.alias not in live_routes or applied_route(history, live_routes[resource.alias])
        if all(
            s.adapter in fleet.versions or s.adapter in loaded for s in resource.shares if s.percent
        )
    }


def _route_of(fleet: FleetSpec, alias: str, routes: Mapping[str, Route]) -> Route | None:
    """Return an alias's live route, or the route under its former name.

    The former route counts only as far as its versions are locked under the new name.
    """
    former = fleet.renames.get(alias, "")
    if alias in routes or former not in routes:
        return routes.get(alias)
    old = routes[former]
    shares = tuple(
        replace(share, adapter=f"{alias}{share.adapter.removeprefix(former)}", servers=())
        for share in old.shares
    )
    served = tuple(share for share in shares if share.adapter in fleet.versions and share.percent)
    complete = sum(share.percent for share in served) == FULL
    return Route(alias, served, old.salt) if complete else None


def _left_over(fleet: FleetSpec, alias: str, live: State, history: History) -> Route | None:
    """Return a route, without any share, of the versions to go back to that are still loaded.

    They once answered all requests, nothing keeps them out, and they stand before the declared
    one; newest first. None: there is none.
    """
    declared = fleet.adapters[alias].name
    loaded, resident = loaded_on(live), _resident_versions(live, history)
    shares = tuple(
        Share(name, 0, loaded[name])
        for name in resident.get(alias, ())
        if name in loaded
        and name in fleet.versions
        and is_way_back(history, fleet.versions, alias, name)
        if AdapterName.parse(name).version < declared.version
    )
    return Route(alias, shares, shares[0].adapter) if shares else None


def _resident_versions(live: State, history: History) -> dict[str, tuple[str, ...]]:
    """Return the versions that are or should be loaded, by alias, newest first."""
    names = {loaded_adapter.adapter for loaded_adapter in live.adapters().values()}
    for address in history.owned:
        if adapter := adapter_of_address(address):
            names.add(adapter)
    resident_by_alias: dict[str, list[AdapterName]] = defaultdict(list)
    for name in names:
        try:
            parsed = AdapterName.parse(name)
        except ValueError:
            continue
        resident_by_alias[parsed.alias].append(parsed)
    return {
        alias: tuple(str(version) for version in sorted(versions, key=_by_version, reverse=True))
        for alias, versions in resident_by_alias.items()
    }


def _by_version(name: AdapterName) -> tuple[object, str]:
    return name.version, name.base
