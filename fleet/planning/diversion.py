"""Divert routes while servers restart or a version is reloaded.

An alias that can leave the restarting servers for good does so first. Else its route leaves out the
servers that are away, where other replicas serve, and names them again once they hold its versions.
Servers that hold the same version restart in different waves, one after another. Where nothing else
serves, the alias is interrupted.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from fleet.names import adapter_address, by_number, name_in_address
from fleet.plan import Action, Change
from fleet.resources import LoadedAdapter, Route, Server, Share, State, servers_in


@dataclass(frozen=True, slots=True)
class DivertedRoute:
    """The route of an alias at a moment between the first and the last step."""

    route: Route
    away: frozenset[str]
    """Servers that may stop once every gateway has the route."""
    needs: frozenset[tuple[str, str]]
    """(adapter, server) that must have been loaded before."""
    is_back: bool = False
    """Whether the route names servers again that were away, and takes nothing."""


@dataclass(frozen=True, slots=True)
class Interruption:
    """A time in which requests to an alias fail."""

    percent: int
    """Upper bound of the share of the requests."""
    servers: frozenset[str]
    """Servers of which no other can take the place; empty: a version is reloaded, or see `keys`."""
    keys: tuple[str, ...] = ()
    """Keys of the client that work now, if none of them works afterwards."""


@dataclass(frozen=True, slots=True)
class Diversion:
    """Routes and aliases before and during the restart of servers."""

    meanwhile: Mapping[str, tuple[DivertedRoute, ...]]
    """By alias: the routes while servers restart or versions are reloaded, in order."""
    first: frozenset[str]
    """Aliases whose new route needs nothing that restarts: they leave before."""
    interrupted: Mapping[str, Interruption]
    """By alias of which a version that has traffic is on no server for a while."""
    restarting: frozenset[str]
    """Servers that stop and start again."""


def reroute(changes: Iterable[Change], desired: State, live: State) -> Diversion:
    """Decide for every live route how the alias is served during the restarts in `changes`."""
    listed = tuple(changes)
    restarting = frozenset(
        name_in_address(change.address) for change in listed if change.action is Action.REPLACE
    )
    wrong = frozenset(
        (change.before.adapter, change.before.server)
        for change in listed
        if change.action is Action.UPDATE and isinstance(change.before, LoadedAdapter)
    )
    if not restarting and not wrong:
        return Diversion({}, frozenset(), {}, restarting)
    late = restarting | _on_reused_devices(listed)
    way = _Way(desired, live, _waves(restarting, desired, live), wrong, late)
    meanwhile: dict[str, tuple[DivertedRoute, ...]] = {}
    interrupted: dict[str, Interruption] = {}
    first = set()
    goals = desired.routes()
    for alias, route in live.routes().items():
        serving = [(share, server) for share in route.shares if share.percent
                   for server in share.servers]  # fmt: skip
        reloads = any((share.adapter, server) in wrong for share, server in serving)
        if not reloads and not any(server in restarting for _, server in serving):
            continue
        goal = goals.get(alias)
        if not reloads and goal != route and not (goal and late.intersection(servers_in(goal))):
            first.add(alias)
            continue
        stages, interruption = way.stages(route, goal)
        if stages:
            meanwhile[alias] = stages
        if interruption.percent:
            interrupted[alias] = interruption
    return Diversion(meanwhile, frozenset(first), interrupted, restarting)


def _named(route: Route | None, goal: Route | None) -> Iterator[tuple[str, str]]:
    """Yield the (adapter, server) that have traffic by a route, and those of its goal beside."""
    served = {share.adapter for share in route.shares if share.percent} if route else set()
    for share in (*(route.shares if route else ()), *(goal.shares if goal else ())):
        if share.adapter in served:
            yield from ((share.adapter, server) for server in share.servers)


def _waves(restarting: frozenset[str], desired: State, live: State) -> dict[str, int]:
    """Return the wave of a restart by server; servers of the same version get different waves.

    Servers that do not answer are away already, and all in the first wave. A server comes late that
    loses a version, or that alone has a version which another restarting server gets.
    """
    answering, goals = restarting - live.unknown_servers.keys(), desired.routes()
    versions: dict[str, set[str]] = defaultdict(set)
    holders: dict[str, set[str]] = defaultdict(set)
    for alias, route in live.routes().items():
        for adapter, server in _named(route, goals.get(alias)):
            if server in answering:
                versions[server].add(adapter)
                holders[adapter].add(server)
    last = set()
    for adapter, servers in holders.items():
        has = {server for server in servers if adapter_address(adapter, server) in live.resources}
        gets = {s for s in servers if adapter_address(adapter, s) in desired.resources}
        last |= has - gets
        if len(has) == 1 and gets - has:
            last |= has
    waves = dict.fromkeys(sorted(restarting - answering), 0)
    for server in sorted(answering, key=lambda name: (name in last, by_number(name))):
        beside = {name for adapter in versions[server] for name in holders[adapter]}
        used_waves = {waves[name] for name in beside if name in waves}
        waves[server] = next(wave for wave in range(len(used_waves) + 1) if wave not in used_waves)
    return waves


@dataclass(frozen=True, slots=True)
class _Way:
    """The way from the live to the desired state, by waves of restarts."""

    desired: State
    live: State
    waves: Mapping[str, int]
    """By restarting server."""
    wrong: frozenset[tuple[str, str]]
    """(adapter, server) that may answer other bytes until they are loaded again."""
    late: frozenset[str]
    """Servers that restart, or start where another server has to stop first."""

    def stages(
        self, route: Route, goal: Route | None
    ) -> tuple[tuple[DivertedRoute, ...], Interruption]:
        """Return the routes between a route and its goal, and when versions have no server."""
        named = {server for _, server in _named(route, goal)}
        waves = sorted({self.waves[server] for server in named if server in self.waves})
        diverted: list[DivertedRoute] = []
        percents, lacking = [0], set[str]()

        def add(stage: DivertedRoute) -> None:
            if stage.route != (diverted[-1].route if diverted else route):
                diverted.append(stage)
            elif diverted:
                diverted[-1] = replace(diverted[-1], away=diverted[-1].away | stage.away)

        for number, wave in enumerate(waves or [0]):
            away = frozenset(server for server in named if self.waves.get(server) == wave)
            if number:
                add(self._at(route, goal, waves[number - 1] + 1, frozenset(), is_back=True))
            stage = self._at(route, goal, wave, away)
            add(stage)
            failing = [share for share in stage.route.shares if self._fails(share, away)]
            percents.append(sum(share.percent for share in failing))
            lacking |= {name for share in failing if share.percent for name in share.servers} & away
        return tuple(diverted), Interruption(max(percents), frozenset(lacking))

    def _fails(self, share: Share, away: frozenset[str]) -> bool:
        """Say whether a share has no server left: those that are silent do not answer either."""
        remaining = {*share.servers} - away
        is_less = len(remaining) < len({*share.servers})
        return not remaining or (is_less and remaining <= self.live.unknown_servers.keys())

    def _at(
        self,
        route: Route,
        goal: Route | None,
        done: int,
        away: frozenset[str],
        *,
        is_back: bool = False,
    ) -> DivertedRoute:
        """Return the route while servers are away and `done` waves are back."""
        goals = {share.adapter: share.servers for share in goal.shares} if goal else {}
        shares, needs = [], set[tuple[str, str]]()
        for share in route.shares:
            servers = self._servers(share, goals.get(share.adapter, ()), done, away)
            shares.append(replace(share, servers=servers))
            needs |= {
                (share.adapter, server)
                for server in servers
                if (server in self.waves and self.waves[server] < done)
                or (server not in self.waves and server not in share.servers)
            }
        diverted = replace(route, shares=tuple(shares))
        return DivertedRoute(diverted, away, frozenset(needs), is_back)

    def _servers(
        self, share: Share, goal: tuple[str, ...], done: int, away: frozenset[str]
    ) -> tuple[str, ...]:
        """Return the servers of a share; servers that are away stay where no other is left."""
        if not share.percent:
            return tuple(s for s in share.servers if s not in away) or share.servers
        good = tuple(s for s in share.servers if (share.adapter, s) not in self.wrong)
        holders = tuple(s for s in good if self._may_hold(share.adapter, s))
        for servers in (share.servers, goal):
            if stay := tuple(s for s in servers if self._holds(share, s, done, away)):
                return stay
        waits = len(good) < len(share.servers) and self.live.unknown_servers.keys() >= {*good}
        # Requests wait for a reload, and reach no silent server.
        return () if waits else holders or good

    def _may_hold(self, adapter: str, server: str) -> bool:
        """Say whether a server lists a version now, or is silent; others are away or empty."""
        unknown = self.live.unknown_servers
        return server in unknown or adapter_address(adapter, server) in self.live.resources

    def _holds(self, share: Share, server: str, done: int, away: frozenset[str]) -> bool:
        """Say whether a server can answer with the version of a share; no traffic moves to silence.

        A server of the share has to hold the version now, as its host may be away; another one has
        to hold the version now, or to wait for no restart.
        """
        address = adapter_address(share.adapter, server)
        if server in away:
            return False
        if self.waves.get(server, done) < done:
            return address in self.desired.resources
        if (share.adapter, server) in self.wrong or server in self.live.unknown_servers:
            return False
        if server in share.servers:
            return self._may_hold(share.adapter, server)
        return address in self.live.resources if server in self.waves else server not in self.late


def _on_reused_devices(changes: Iterable[Change]) -> frozenset[str]:
    """Return servers that start on devices of servers that stop for good: they may have to wait."""
    listed = tuple(changes)
    reused_devices = {
        (change.before.host, device)
        for change in listed
        if isinstance(change.before, Server) and change.after is None
        for device in change.before.devices
    }
    return frozenset(
        change.after.name
        for change in listed
        if isinstance(change.after, Server)
        and any((change.after.host, device) in reused_devices for device in change.after.devices)
    )
