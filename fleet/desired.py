"""The desired state: everything that should exist, so that a plain comparison says what to do.

What is not ours (an adapter loaded by hand, an attached server) is part of it as it is live.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from fleet.declared import Fleet
from fleet.names import AdapterName, Address, adapter_address, server_address
from fleet.pace import Paced, Phase, Wanted
from fleet.placement import Placement
from fleet.policy import policy_of
from fleet.resources import Key, LoadedAdapter, Resource, Route, Server, Share, State


def settle(fleet: Fleet, wanted: Paced, placement: Placement, live: State) -> State:
    """Put pace and placement together into a complete state, sorted by address."""
    found: dict[Address, Resource] = {each.address: each for each in placement.servers.values()}
    for resource in (
        *_adapters(fleet, placement, live),
        *_routes(fleet, wanted, placement, live),
        *_keys(fleet, live),
        *strangers(fleet, wanted, live),
    ):
        found.setdefault(resource.address, resource)
    return State(
        resources=dict(sorted(found.items())),
        unknown_servers=live.unknown_servers,
        routes_unknown=live.routes_unknown,
    )


def strangers(fleet: Fleet, wanted: Paced, live: State) -> Iterator[Resource]:
    """Yield live resources that are neither declared nor ours: they are never touched.

    Nor are servers that someone else runs, and what is on hosts that are no longer declared,
    which nothing here can reach.
    """
    resident = {adapter for each in wanted.wanted.values() for adapter, _ in each.shares}
    foreign = {
        each.name
        for each in live.servers().values()
        if each.host not in fleet.hosts or fleet.hosts[each.host].engine == "attach"
    }
    gone = {each.name for each in live.servers().values() if each.host not in fleet.hosts}
    for address, resource in live.resources.items():
        match resource:
            case Server() if resource.name in foreign:
                yield resource
            case LoadedAdapter() if resource.server in gone:
                yield resource
            case _ if address in wanted.owned:
                pass
            case LoadedAdapter() if resource.adapter not in resident:
                yield resource
            case Route() if resource.alias not in fleet.adapters:
                yield resource
            case Key() if not _declared(fleet, resource):
                yield resource
            case _:
                pass


def is_ours_by_name(fleet: Fleet, adapter: str) -> bool:
    """Say whether a loaded name is one of a declared alias."""
    try:
        return AdapterName.parse(adapter).alias in fleet.adapters
    except ValueError:
        return False


def _declared(fleet: Fleet, key: Key) -> bool:
    client = fleet.clients.get(key.client)
    return client is not None and any(each.name == key.name for each in client.keys)


def _adapters(fleet: Fleet, placement: Placement, live: State) -> Iterator[LoadedAdapter]:
    for adapter, servers in placement.bindings.items():
        facts = fleet.versions.get(adapter)
        for server in servers:
            there = live.resources.get(adapter_address(adapter, server))
            if facts is not None:
                yield LoadedAdapter(adapter, server, facts.digest)
            elif isinstance(there, LoadedAdapter):
                yield there


def _routes(fleet: Fleet, wanted: Paced, placement: Placement, live: State) -> Iterator[Resource]:
    routes = live.routes()
    for alias, each in wanted.wanted.items():
        before = routes.get(alias)
        if each.phase is Phase.FROZEN:
            continue
        if waits(each, placement.bindings):
            if before is not None:
                where = {each.adapter: each.servers for each in before.shares}
                policy = policy_of(fleet, alias, where)
                yield from _as_it_is(replace(before, policy=policy), live)
        elif each.shares:
            yield _route(fleet, each, placement.bindings)


def waits(wanted: Wanted, bindings: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Return versions that should serve and are on no server: the route stays until they are."""
    return tuple(
        adapter for adapter, percent in wanted.shares if percent and not bindings.get(adapter)
    )


def _as_it_is(route: Route, live: State) -> Iterator[Resource]:
    """Yield a route whose versions must wait, and all that it needs to go on."""
    yield route
    for share in route.shares:
        for server in share.servers:
            for address in (adapter_address(share.adapter, server), server_address(server)):
                if address in live.resources:
                    yield live.resources[address]


def _route(fleet: Fleet, wanted: Wanted, bindings: Mapping[str, tuple[str, ...]]) -> Route:
    shares = tuple(
        Share(adapter, percent, bindings[adapter])
        for adapter, percent in wanted.shares
        if bindings.get(adapter)
    )
    policy = policy_of(fleet, wanted.alias, bindings)
    return Route(wanted.alias, shares, wanted.salt, policy)


def _keys(fleet: Fleet, live: State) -> Iterator[Key]:
    """Yield declared keys; one whose secret cannot be read here stays as it is live."""
    for client in fleet.clients.values():
        for declared in client.keys:
            key = Key(client.name, declared.name, declared.reference, declared.fingerprint)
            there = live.resources.get(key.address)
            same = isinstance(there, Key) and there.reference == key.reference
            yield there if isinstance(there, Key) and same and key.fingerprint is None else key
