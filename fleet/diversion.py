"""Diversion: keeping clients served while servers restart or a version is reloaded.

An alias that can leave a restarting server for good does so first. Else, where another replica
serves, its route leaves that server out meanwhile. Where nothing else serves, it is interrupted.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from fleet.plan import Action, Change
from fleet.resources import LoadedAdapter, Route, Server, State


@dataclass(frozen=True, slots=True)
class Diversion:
    """What happens to routes before servers restart."""

    meanwhile: Mapping[str, Route]
    """By alias: the route while servers restart or versions are reloaded."""
    first: frozenset[str]
    """Aliases whose new route needs nothing that restarts: they leave before."""
    interrupted: frozenset[str]
    """Aliases of which a version that has traffic is on no server for a while."""
    restarting: frozenset[str]
    """Servers that stop and start again."""


def divert(changes: Iterable[Change], desired: State, live: State) -> Diversion:
    """Decide for every live route how it gets past the restarts in `changes`."""
    listed = tuple(changes)
    restarting = frozenset(
        each.address.partition("/")[2] for each in listed if each.action is Action.REPLACE
    )
    wrong = frozenset(
        (each.before.adapter, each.before.server)
        for each in listed
        if each.action is Action.UPDATE and isinstance(each.before, LoadedAdapter)
    )
    if not restarting and not wrong:
        return Diversion({}, frozenset(), frozenset(), restarting)
    late = restarting | _on_reused_devices(listed, live)
    meanwhile: dict[str, Route] = {}
    first, interrupted = set(), set()
    goals = desired.routes()
    for alias, route in live.routes().items():
        serving = [(share, each) for share in route.shares if share.percent
                   for each in share.servers]  # fmt: skip
        reloads = any((share.adapter, each) in wrong for share, each in serving)
        if not reloads and not any(each in restarting for _, each in serving):
            continue
        goal = goals.get(alias)
        if not reloads and goal != route and not _uses(goal, late):
            first.add(alias)
            continue
        between = _between(route, restarting, wrong)
        if between != route:
            meanwhile[alias] = between
        if any(share.percent and restarting.issuperset(share.servers) for share in between.shares):
            interrupted.add(alias)
    return Diversion(meanwhile, frozenset(first), frozenset(interrupted), restarting)


def _between(route: Route, restarting: frozenset[str], wrong: frozenset[tuple[str, str]]) -> Route:
    """Leave out what cannot serve; a restarting server stays where it is the only one."""
    shares = []
    for share in route.shares:
        if share.percent:
            good = tuple(each for each in share.servers if (share.adapter, each) not in wrong)
            stay = tuple(each for each in good if each not in restarting)
            shares.append(replace(share, servers=stay or good))
        else:
            shares.append(share)
    return replace(route, shares=tuple(shares))


def _uses(route: Route | None, servers: frozenset[str]) -> bool:
    return route is not None and any(not servers.isdisjoint(each.servers) for each in route.shares)


def _on_reused_devices(changes: Iterable[Change], live: State) -> frozenset[str]:
    """Return servers that start where another one is or was: they may have to wait."""
    taken = {(each.host, device) for each in live.servers().values() for device in each.devices}
    return frozenset(
        each.after.name
        for each in changes
        if isinstance(each.after, Server)
        and any((each.after.host, device) in taken for device in each.after.devices)
    )
