"""Decides the rollouts of all aliases."""

from collections.abc import Mapping
from datetime import datetime

from fleet.history import History
from fleet.resources import Route, State
from fleet.rollouts.guards import shadowed
from fleet.rollouts.live_index import (
    freeable,
    left_over,
    loaded_on,
    lost_routes,
    resident_versions,
    route_of,
    routed_to,
)
from fleet.rollouts.progress import decide_rollout
from fleet.rollouts.targets import AliasTarget, Phase, RolloutTargets
from fleet.rollouts.trials import engine_of
from fleet.spec import AdapterSpec, FleetSpec


def decide_rollouts(
    fleet: FleetSpec, live: State, history: History, now: datetime
) -> RolloutTargets:
    """Decide the versions and shares of all aliases at `now`.

    A stage whose start is not in the history counts as entered now, so that a lost ledger
    delays a rollout and never speeds one up. A route that only the ledger knows was lost, and
    goes on from where it was.
    """
    routes = live.routes()
    lost = {} if live.routes_unknown else lost_routes(fleet, live, history)
    resident = resident_versions(live, history) if live.routes_unknown else {}
    strange = _other_bytes(fleet, live) if history.evidence else frozenset()
    known = {**lost, **routes}
    loaded, routed = loaded_on(live), routed_to(routes)

    def target(alias: str, adapter: AdapterSpec) -> AliasTarget:
        if live.routes_unknown:
            return _frozen(adapter, resident.get(alias, ()), live.routes_unknown)
        route, name = _route(fleet, alias, known, live, history), str(adapter.name)
        asked = alias in history.evidence
        base = engine_of(live, loaded.get(name, ()), routed.get(name, ())) if asked else ""
        made = decide_rollout(fleet, adapter, route, history, now, altered=strange, base=base)
        return shadowed(fleet, adapter, made, route, history)

    wanted = {alias: target(alias, adapter) for alias, adapter in sorted(fleet.adapters.items())}
    names = frozenset(adapter for target in wanted.values() for adapter, _ in target.shares)
    idle = frozenset(freeable(fleet, names, loaded, routes, history))
    return RolloutTargets(wanted, loaded, routed, idle, history.owned)


def _route(
    fleet: FleetSpec, alias: str, known: Mapping[str, Route], live: State, history: History
) -> Route | None:
    """Return the route that an alias's rollout goes on from; None: no route.

    A version that was kept out and has been released goes on beside the one before, also where
    the alias has been gone meanwhile.
    """
    route = route_of(fleet, alias, known)
    if route is None and str(fleet.adapters[alias].name) in history.released.get(alias, ()):
        return left_over(fleet, alias, live, history)
    return route


def _other_bytes(fleet: FleetSpec, live: State) -> frozenset[str]:
    """Return the versions of which a server holds other bytes than the lock pins."""
    pinned: Mapping[str, str] = {name: version.digest for name, version in fleet.versions.items()}
    return frozenset(
        adapter.adapter
        for adapter in live.adapters().values()
        if adapter.digest != pinned.get(adapter.adapter, adapter.digest)
    )


def _frozen(adapter: AdapterSpec, resident: tuple[str, ...], reason: str) -> AliasTarget:
    """Keep the loaded versions, and touch no route."""
    shares = tuple((name, 0) for name in resident)
    return AliasTarget(adapter.alias, str(adapter.name), shares, "", Phase.FROZEN, reason)
