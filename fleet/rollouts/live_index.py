"""Indexes the live state for rollouts and placement."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from fleet.history import History, is_way_back
from fleet.names import AdapterName, adapter_address, adapter_of_address
from fleet.resources import FULL, Route, Share, State
from fleet.spec import FleetSpec


def loaded_on(live: State) -> dict[str, tuple[str, ...]]:
    """Return the sorted servers that list a version, by full name of the version."""
    return _grouped((adapter.adapter, adapter.server) for adapter in live.adapters().values())


def routed_to(routes: Mapping[str, Route]) -> dict[str, tuple[str, ...]]:
    """Return the sorted servers of a version on live routes, by full name of the version."""
    return _grouped(
        (share.adapter, server)
        for route in routes.values()
        for share in route.shares
        for server in share.servers
    )


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    found: dict[str, set[str]] = defaultdict(set)
    for name, server in pairs:
        found[name].add(server)
    return {name: tuple(sorted(servers)) for name, servers in sorted(found.items())}


def freeable(
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


def lost_routes(fleet: FleetSpec, live: State, history: History) -> dict[str, Route]:
    """Return the routes that the ledger knows and no gateway has, by alias.

    Only those of which every version that had a share can still be served.
    """
    loaded = {adapter.adapter for adapter in live.adapters().values()}
    there = live.routes()
    return {
        resource.alias: resource
        for resource in history.established.values()
        if isinstance(resource, Route) and resource.alias not in there
        if all(
            s.adapter in fleet.versions or s.adapter in loaded for s in resource.shares if s.percent
        )
    }


def route_of(fleet: FleetSpec, alias: str, routes: Mapping[str, Route]) -> Route | None:
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
    known = tuple(share for share in shares if share.adapter in fleet.versions and share.percent)
    complete = sum(share.percent for share in known) == FULL
    return Route(alias, known, old.salt) if complete else None


def left_over(fleet: FleetSpec, alias: str, live: State, history: History) -> Route | None:
    """Return a route, without any share, of the versions to go back to that are still loaded.

    They once answered all requests, nothing keeps them out, and they stand before the declared
    one; newest first. None: there is none.
    """
    declared = fleet.adapters[alias].name
    loaded, resident = loaded_on(live), resident_versions(live, history)
    shares = tuple(
        Share(name, 0, loaded[name])
        for name in resident.get(alias, ())
        if name in loaded
        and name in fleet.versions
        and is_way_back(history, fleet.versions, alias, name)
        if AdapterName.parse(name).version < declared.version
    )
    return Route(alias, shares, shares[0].adapter) if shares else None


def resident_versions(live: State, history: History) -> dict[str, tuple[str, ...]]:
    """Return the versions that are or should be loaded, by alias, newest first."""
    names = {loaded_adapter.adapter for loaded_adapter in live.adapters().values()}
    for address in history.owned:
        if adapter := adapter_of_address(address):
            names.add(adapter)
    found: dict[str, list[AdapterName]] = defaultdict(list)
    for name in names:
        try:
            parsed = AdapterName.parse(name)
        except ValueError:
            continue
        found[parsed.alias].append(parsed)
    return {
        alias: tuple(str(version) for version in sorted(versions, key=_by_version, reverse=True))
        for alias, versions in found.items()
    }


def _by_version(name: AdapterName) -> tuple[object, str]:
    return name.version, name.base
