"""Build the desired state: all that should exist, so that a plain comparison finds the changes.

Resources that fleetctl does not manage (an adapter loaded by hand, an attached server) are part of
the desired state as they are live.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from fleet.history import History
from fleet.names import Address, adapter_address, server_address
from fleet.placement import PlacementResult
from fleet.resources import Key, LoadedAdapter, Resource, Route, Server, Share, State, client_in
from fleet.rollouts import AliasTarget, Phase, RolloutTargets
from fleet.spec import FleetSpec, LatencyClass
from fleet.traffic import UNLIMITED, USUAL_TIMEOUTS, USUAL_TURNS, TrafficPolicy


def passed_in(history: History, desired: State, live: State) -> frozenset[Address]:
    """Return the desired adapters with a recorded smoke test of these bytes, server and launch.

    Where a server shows neither launch nor boot, now or then, the ledger's starts and stops decide.
    """
    answering = {**live.boots, **live.launches}
    return frozenset(
        address
        for address, adapter in desired.resources.items()
        if isinstance(adapter, LoadedAdapter)
        if (passed := history.passes.get(adapter.server, {}).get(adapter.adapter))
        if passed.digest == adapter.digest
        if passed.launch in (None, answering.get(adapter.server, passed.launch))
    )


def pairs_in(route: Route) -> tuple[tuple[str, str], ...]:
    """Return the pairs of version and server that a route names, those with 0 percent too."""
    return tuple((share.adapter, server) for share in route.shares for server in share.servers)


def raised(route: Route, before: Route | None) -> Iterator[tuple[str, str]]:
    """Yield the pairs of version and server that a route names newly or gives more traffic.

    A version that answers already, and only gets back what a newer version loses, is left out: a
    way back waits for nothing. `before`: the live route; None: there is none.
    """
    live = {share.adapter: share for share in before.shares} if before else {}
    newest = before.shares[0].adapter if before else ""
    for share in route.shares:
        was = live.get(share.adapter)
        gets_more = was is not None and share.percent > was.percent
        takes_back = was is not None and was.percent > 0 and share.adapter != newest
        for server in share.servers:
            if was is None or server not in was.servers or (gets_more and not takes_back):
                yield share.adapter, server


@dataclass(frozen=True, slots=True)
class PlanInput:
    """The arguments of `make_plan`, and the results of its first stages."""

    fleet: FleetSpec
    """The declarations, with the engines that servers run."""
    live: State
    history: History
    now: datetime
    targets: RolloutTargets
    """The versions and shares that every alias should have now."""
    placement: PlacementResult
    """The servers that hold them."""
    desired: State
    """All that should exist."""


TURNS: Mapping[LatencyClass, int] = {
    "classification": 4,
    "short_generation": 2,
    "long_generation": 1,
}
"""Turns in a row by latency class: short answers do not wait behind long ones."""
_BY_PRIORITY = ("scheduling-policy", "priority")


def traffic_policy_of(
    fleet: FleetSpec, alias: str, bindings: Mapping[str, tuple[str, ...]]
) -> TrafficPolicy | None:
    """Return the policy of a declared alias; None where all of it is as by default.

    `bindings` are the servers that hold a version, by full adapter name.
    """
    adapter = fleet.adapters[alias]
    client, tier = fleet.clients.get(adapter.name.client), fleet.tiers.get(adapter.tier)
    base = fleet.bases.get(adapter.name.base)
    limits = client.limits if client else UNLIMITED
    limited = (limits, adapter.limits) != (UNLIMITED, UNLIMITED)
    prioritized = base is not None and _BY_PRIORITY in base.extra
    shadow = adapter.shadow
    servers = bindings.get(shadow.adapter, ()) if shadow else ()
    turns = TURNS[adapter.latency] * (tier.weight if tier else 1)
    policy = TrafficPolicy(
        sticky=adapter.sticky,
        format=adapter.format,
        limits=adapter.limits,
        client_limits=limits,
        gateways=max(1, len(fleet.gateways)) if limited else 1,
        choices=adapter.choices,
        timeouts=tier.timeouts if tier else USUAL_TIMEOUTS,
        server_in_flight=base.max_in_flight if base else None,
        turns=turns if prioritized or turns != USUAL_TURNS else None,
        prioritized=prioritized,
        shadow=replace(shadow, servers=servers) if shadow and servers else None,
        capture=client.capture if client else None,
        alias_for=adapter.alias_for,
        promise_s=adapter.slo_s if adapter.promised else None,
    )
    return None if policy == TrafficPolicy() else policy


def desired_state_of(
    fleet: FleetSpec, targets: RolloutTargets, placement: PlacementResult, live: State
) -> State:
    """Put rollouts and placement together into a complete state, sorted by address."""
    resources: dict[Address, Resource] = {
        server.address: server for server in placement.servers.values()
    }
    for resource in (
        *_adapters(fleet, placement, live),
        *_routes(fleet, targets, placement, live),
        *_keys(fleet, live),
        *unmanaged(fleet, targets, live),
    ):
        if client_in(resource) not in fleet.set_aside:
            resources.setdefault(resource.address, resource)
    for resource in live.resources.values():  # absence from the declarations is no removal
        if client_in(resource) in fleet.set_aside:
            resources[resource.address] = resource
    return State(
        resources=dict(sorted(resources.items())),
        unknown_servers=live.unknown_servers,
        routes_unknown=live.routes_unknown,
    )


def unmanaged(fleet: FleetSpec, targets: RolloutTargets, live: State) -> Iterator[Resource]:
    """Yield live resources that are neither declared nor ours: they are never touched.

    So are attached servers, and all that is on hosts that are no longer declared: nothing here can
    reach those.
    """
    resident = {adapter for target in targets.wanted.values() for adapter, _ in target.shares}
    hosts = {name: fleet.hosts.get(server.host) for name, server in live.servers().items()}
    removed = {server for server, host in hosts.items() if host is None}
    foreign = {server for server, host in hosts.items() if host is None or host.engine == "attach"}
    for address, resource in live.resources.items():
        ours = address in targets.owned
        match resource:
            case Server():
                stays = resource.name in foreign
            case LoadedAdapter():
                stays = resource.server in removed or not (ours or resource.adapter in resident)
            case Route():
                stays = not (ours or resource.alias in fleet.adapters)
            case Key():
                stays = not (ours or _declared(fleet, resource))
        if stays:
            yield resource


def _declared(fleet: FleetSpec, key: Key) -> bool:
    client = fleet.clients.get(key.client)
    return client is not None and any(declared.name == key.name for declared in client.keys)


def _adapters(fleet: FleetSpec, placement: PlacementResult, live: State) -> Iterator[LoadedAdapter]:
    for adapter, bound in placement.bindings.items():
        facts = fleet.versions.get(adapter)
        for server in (*bound, *placement.beside.get(adapter, ())):
            loaded = live.resources.get(adapter_address(adapter, server))
            if facts is not None:
                yield LoadedAdapter(adapter, server, facts.digest)
            elif isinstance(loaded, LoadedAdapter):
                yield loaded


def _routes(
    fleet: FleetSpec, targets: RolloutTargets, placement: PlacementResult, live: State
) -> Iterator[Resource]:
    routes = live.routes()
    for alias, target in targets.wanted.items():
        before = routes.get(alias)
        if target.phase in (Phase.UNKNOWN, Phase.SET_ASIDE):
            continue
        if waits(target, placement, targets, live):
            if before is not None:
                where = {share.adapter: share.servers for share in before.shares}
                policy = traffic_policy_of(fleet, alias, where)
                route = _with_promise(replace(before, policy=policy), before)
                yield from _as_it_is(route, live)
        elif target.shares:
            had = {share.adapter: share.percent for share in before.shares} if before else {}
            shares = tuple(
                Share(adapter, percent, _answering(servers, live) if is_more else servers)
                for adapter, percent in target.shares
                if (servers := placement.bindings.get(adapter, ()))
                for is_more in [percent > had.get(adapter, 0)]
            )
            policy = traffic_policy_of(fleet, alias, placement.bindings)
            yield _with_promise(Route(alias, shares, target.salt, policy), before)


def _with_promise(route: Route, before: Route | None) -> Route:
    """Return a route; a promise alone changes no route that names none, as of earlier releases."""
    if before is None or route.policy is None or (before.policy and before.policy.promise_s):
        return route
    policy = replace(route.policy, promise_s=None)
    without = replace(route, policy=None if policy == TrafficPolicy() else policy)
    return without if without == before else route


def _answering(servers: tuple[str, ...], live: State) -> tuple[str, ...]:
    """Leave out servers that did not answer: no traffic moves to them; all, where none did."""
    answering = tuple(server for server in servers if server not in live.unknown_servers)
    return answering or servers


def waits(
    target: AliasTarget, placement: PlacementResult, targets: RolloutTargets, live: State
) -> tuple[str, ...]:
    """Return versions that should serve and cannot yet: the route stays until they can.

    They are on no server; or another server has them now than those that do not answer.
    """
    silent = live.unknown_servers.keys()
    return tuple(
        adapter
        for adapter, percent in target.shares
        for servers in [{*placement.bindings.get(adapter, ())}]
        if percent and (not servers or (targets.loaded.get(adapter) and silent >= servers))
    )


def _as_it_is(route: Route, live: State) -> Iterator[Resource]:
    """Yield a route whose versions must wait, and all resources that the route needs to go on."""
    yield route
    for share in route.shares:
        for server in share.servers:
            for address in (adapter_address(share.adapter, server), server_address(server)):
                if address in live.resources:
                    yield live.resources[address]


def _keys(fleet: FleetSpec, live: State) -> Iterator[Key]:
    """Yield declared keys; a key whose secret is not readable here stays as the live key."""
    for client in fleet.clients.values():
        for declared in client.keys:
            key = Key(client.name, declared.name, declared.reference, declared.fingerprint)
            issued = live.resources.get(key.address)
            same = isinstance(issued, Key) and issued.reference == key.reference
            yield issued if isinstance(issued, Key) and same and key.fingerprint is None else key


@dataclass(frozen=True, slots=True)
class StepRules:
    """Rules for the order of steps, beside the two states."""

    smoke: Mapping[str, tuple[str, ...]]
    """By full adapter name: inputs to ask before traffic; missing or empty: the built-in prompt."""
    passed: frozenset[Address] = frozenset()
    """Adapters whose bytes have passed a smoke test in the launch that answers; see `passed_in`."""
    tight: frozenset[str] = frozenset()
    """Servers where a load must wait until versions without traffic are unloaded."""
    gives_way: frozenset[str] = frozenset()
    """Servers that stop before a server starts on their devices."""
    turns: Mapping[Address, tuple[Address, ...]] = field(default_factory=dict)
    """Adapter address to the adapters that are unloaded before the load."""
    limited: Mapping[str, str] = field(default_factory=dict)
    """Server to host, where a load must wait until unused servers have stopped."""
    renames: Mapping[str, str] = field(default_factory=dict)
    """Alias to the former alias."""
    durations: Mapping[str, float] = field(default_factory=dict)
    """As `History.durations`; elsewhere the usual seconds are taken."""


def rules_of(plan_input: PlanInput) -> StepRules:
    """Return the rules for the order of a plan's steps."""
    fleet, placement = plan_input.fleet, plan_input.placement
    smoke = {
        version: fleet.adapters[target.alias].smoke
        for target in plan_input.targets.wanted.values()
        for version, _ in target.shares
    }
    limited = {
        name: server.host
        for name, server in placement.servers.items()
        if server.host in fleet.hosts and fleet.hosts[server.host].memory_bytes
    }
    return StepRules(
        smoke,
        passed_in(plan_input.history, plan_input.desired, plan_input.live),
        placement.tight,
        placement.gives_way,
        placement.turns,
        limited,
        fleet.renames,
        plan_input.history.durations,
    )
