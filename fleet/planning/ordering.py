"""Order the steps of a plan, make before break, as a graph.

    start -> load -> smoke -> set route -> drain -> unload -> stop

A server that restarts: divert -> drain -> stop -> start -> load -> smoke -> restore or set route.

No step unloads a version while a route sends traffic to it on that server. No route names a version
on a server, or raises its share, before a smoke test that passed there: in this plan, or before.
Steps of a server form a lane, routes and keys another; `needs` links steps across lanes.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace

from fleet import steps
from fleet.names import adapter_address, alias_of, route_address, server_address, step_id
from fleet.plan import Change
from fleet.planning.desired import StepRules, pairs_in, raised
from fleet.planning.diversion import Diversion
from fleet.resources import Key, LoadedAdapter, Resource, Route, Server, State, servers_in
from fleet.steps import TIMES, Operation, Step

GATEWAY = "gateway"
"""The lane of routes and keys."""


def order(
    changes: Iterable[Change], desired: State, live: State, diversion: Diversion, rules: StepRules
) -> tuple[Step, ...]:
    """Return the steps that carry out `diff(desired, live)`, in an order that their needs allow."""
    graph = _Graph(desired, live, diversion, rules)
    listed = tuple(changes)
    graph.routes(listed, rules.renames)
    graph.keys(listed)
    graph.servers(listed)
    for change in listed:
        if isinstance(change.before, LoadedAdapter):
            graph.unload(change.before)
    for change in listed:
        if isinstance(change.after, LoadedAdapter):
            graph.load(change.after)
    graph.reload()
    graph.link_routes()
    graph.link_servers()
    graph.leave()
    return graph.sorted()


class _Graph:
    """Steps by id, and the steps that they must wait for."""

    def __init__(self, desired: State, live: State, diversion: Diversion, rules: StepRules) -> None:
        self.desired, self.live, self.diversion, self.rules = desired, live, diversion, rules
        self.live_routes, self.live_servers = live.routes(), live.servers()
        self.steps: dict[str, Step] = {}
        self.needs: dict[str, set[str]] = defaultdict(set)
        self.moved: dict[str, str] = {}
        """Alias to the step that brings its final route."""
        self.lasting: set[str] = set()
        """Aliases whose final route needs loads, or waits for one that does."""
        self.ready: dict[tuple[str, str], str] = {}
        """(adapter, server) to the step after which it can serve."""
        self.unloads: dict[str, set[str]] = defaultdict(set)
        """By server: all unloads there."""
        self.early: dict[str, set[str]] = defaultdict(set)
        """By server: unloads there that wait for no load."""
        self.starts: dict[tuple[str, str], list[str]] = defaultdict(list)
        """By device: steps that start a server there."""
        self.stops: dict[str, str] = {}
        """Step that stops a server to the server's name."""
        self.loads: dict[str, list[str]] = defaultdict(list)
        """By host that declares its memory: loads there."""
        self.left: dict[str, dict[str, str]] = defaultdict(dict)
        """By restarting server: alias to the step after which its traffic is elsewhere."""
        self.between: dict[str, list[str]] = defaultdict(list)
        """By alias: the steps that set its diverted routes, in order."""

    def _add(
        self, verb: str, operation: Operation, before: Resource | None, number: int = 1
    ) -> str:
        resource = steps.resource_of(operation)
        lane = GATEWAY if isinstance(resource, Route | Key) else servers_in(resource)[0]
        usual, limit = TIMES[verb]
        usual = self.rules.durations.get(steps.duration_key(verb, resource), usual)
        if isinstance(operation, steps.SmokeTest) and operation.inputs:
            usual, limit = usual * len(operation.inputs), limit * len(operation.inputs)
        name = step_id(verb, resource.address, number)
        self.steps[name] = Step(name, operation, resource.address, before, (), lane, usual, limit)
        return name

    def routes(self, changes: Iterable[Change], renames: Mapping[str, str]) -> None:
        """Make the steps of routes; diverted routes come back, also where they do not change."""
        meanwhile: dict[str, Route] = {}
        for alias, stages in self.diversion.meanwhile.items():
            before, numbers = self.live_routes[alias], Counter[str]()
            for stage in stages:
                verb = "restore" if stage.is_back else "divert"
                numbers[verb] += 1
                step = self._add(verb, steps.SetRoute(stage.route), before, numbers[verb])
                self._follow(alias, step)
                self.between[alias].append(step)
                # A silent server answers no request: its stop waits for no load elsewhere.
                idle = self.live.unknown_servers.keys() if stage.needs else ()
                for server in stage.away.difference(idle):
                    self.left[server][alias] = step
                before = stage.route
            meanwhile[alias] = before
            goal = self.desired.resources.get(before.address)
            if isinstance(goal, Route):
                self._follow(alias, self._add("set", steps.SetRoute(goal), before))
        for change in changes:
            match change.before, change.after:
                case was, Route() as route:
                    now = meanwhile.get(route.alias, was)
                    self._follow(route.alias, self._add("set", steps.SetRoute(route), now))
                    self.lasting.add(route.alias)
                case Route() as route, None:
                    now = meanwhile.get(route.alias, route)
                    self._follow(route.alias, self._add("delete", steps.DeleteRoute(now), now))
                case _:
                    pass
        for alias, former in renames.items():
            if alias in self.moved and former in self.moved:
                self.needs[self.moved[former]].add(self.moved[alias])
                self.lasting.add(former)

    def _follow(self, alias: str, step: str) -> None:
        """Let a step on the route of an alias come after the alias's steps before."""
        before = self.moved.get(alias, step)
        if before != step:
            self.needs[step].add(before)
        self.moved[alias] = step

    def keys(self, changes: Iterable[Change]) -> None:
        """Make the steps of keys, which wait for nothing."""
        for change in changes:
            if isinstance(change.after, Key):
                self._add("set", steps.SetKey(change.after), change.before)
            elif isinstance(change.before, Key):
                self._add("delete", steps.DeleteKey(change.before), change.before)

    def servers(self, changes: Iterable[Change]) -> None:
        """Make the steps that start and stop servers."""
        for change in changes:
            if isinstance(change.after, Server):
                start = self._add("start", steps.StartServer(change.after), None)
                for device in _devices(change.after):
                    self.starts[device].append(start)
            if isinstance(before := change.before, Server):
                stop = self._add("stop", steps.StopServer(before, before == change.after), before)
                self.stops[stop] = before.name

    def unload(self, adapter: LoadedAdapter) -> None:
        """Drain and unload, once no route sends traffic there.

        A server that restarts forgets its versions by itself.
        """
        name, server, alias = adapter.adapter, adapter.server, alias_of(adapter.adapter)
        if server in self.diversion.restarting:
            return
        drain = self._add("drain", steps.Drain(adapter, steps.DRAIN_S), adapter)
        again = replace(adapter, unsure=False) == self.desired.resources.get(adapter.address)
        unload = self._add("unload", steps.UnloadAdapter(adapter, again), adapter)
        self.needs[unload].add(drain)
        self.unloads[server].add(unload)
        if adapter.address in self.desired.resources:
            if alias in self.diversion.meanwhile:
                self.needs[drain].add(step_id("divert", route_address(alias)))
            self.early[server].add(unload)
            return
        waits = _serves(self.live_routes.get(alias), name, server) and alias in self.lasting
        if not waits:
            self.early[server].add(unload)
        if alias in self.moved and (waits or not self._pressed(server, alias)):
            self.needs[drain].add(self.moved[alias])

    def _pressed(self, server: str, alias: str) -> bool:
        """Say whether a load or start may be waiting for a version without traffic to go."""
        if alias not in self.lasting or server in self.rules.tight:
            return alias in self.lasting
        former = self.live_servers.get(server)
        if former is None or former.address in self.desired.resources:
            return False
        return former.host in self.rules.limited.values() or not _devices(former).isdisjoint(
            self.starts
        )

    def load(self, adapter: LoadedAdapter) -> None:
        """Load a version, and ask the smoke test."""
        server = adapter.server
        load = self._add("load", steps.LoadAdapter(adapter), None)
        start = step_id("start", server_address(server))
        if start in self.steps:
            self.needs[load].add(start)
        elif (unload := step_id("unload", adapter.address)) in self.steps:
            self.needs[load].add(unload)
        if server in self.rules.tight:
            self.needs[load] |= self.early[server]
        turns = self.rules.turns.get(adapter.address, ())
        self.needs[load].update(step_id("unload", unloaded) for unloaded in turns)
        self.loads[self.rules.limited.get(server, "")].append(load)
        self.ready[adapter.adapter, server] = smoke = self._smoke(adapter)
        self.needs[smoke].add(load)

    def _smoke(self, adapter: LoadedAdapter, number: int = 1) -> str:
        """Ask the smoke test of a version."""
        inputs = self.rules.smoke.get(adapter.adapter, ())
        return self._add("smoke", steps.SmokeTest(adapter, inputs), adapter, number)

    def reload(self) -> None:
        """Load again the versions that a restarting server held and keeps."""
        if self.diversion.restarting:
            for address, adapter in self.desired.adapters().items():
                again = (
                    address in self.live.resources and step_id("load", address) not in self.steps
                )
                if again and adapter.server in self.diversion.restarting:
                    self.load(adapter)

    def link_routes(self) -> None:
        """Let routes wait for the versions that they name, and ask smoke tests that are missing."""
        named: dict[str, tuple[Route, Iterable[tuple[str, str]]]] = {}
        for step in self.moved.values():
            operation = self.steps[step].operation
            if isinstance(operation, steps.SetRoute):
                named[step] = operation.route, pairs_in(operation.route)
        for alias, stages in self.diversion.meanwhile.items():
            for step, stage in zip(self.between[alias], stages, strict=True):
                named[step] = stage.route, stage.needs
        for step, (route, waits) in named.items():
            loaded = self.ready.keys() & waits
            self.needs[step] |= {self.ready[pair] for pair in loaded}
            for pair in raised(route, self.live_routes.get(route.alias)):
                if pair not in loaded and adapter_address(*pair) not in self.rules.passed:
                    self.needs[step].add(self._first_asked(*pair))

    def _first_asked(self, name: str, server: str) -> str:
        """Ask the smoke test of a loaded version; a second one where it is loaded again later."""
        address = adapter_address(name, server)
        adapter = self.live.resources.get(address) or self.desired.resources.get(address)
        entry = adapter if isinstance(adapter, LoadedAdapter) else LoadedAdapter(name, server, None)
        return self._smoke(entry, 2 if (name, server) in self.ready else 1)

    def link_servers(self) -> None:
        """Let servers wait for their users, and starts and loads for servers that stop."""
        for stop, name in self.stops.items():
            server = self.live_servers[name]
            self.needs[stop] |= self.unloads[server.name]
            restarts = server.name in self.diversion.restarting
            is_early = self.unloads[server.name] <= self.early[server.name]
            gives_way = server.name in self.rules.gives_way
            for device in _devices(server) if restarts or gives_way or is_early else ():
                for start in self.starts.get(device, ()):
                    if gives_way or not restarts or start == step_id("start", server.address):
                        self.needs[start].add(stop)
            for load in self.loads.get(server.host, ()) if is_early and not restarts else ():
                self.needs[load].add(stop)

    def leave(self) -> None:
        """Let a server that restarts stop once its traffic is elsewhere and its requests ended.

        A server that does not answer is not waited for.
        """
        restarting = self.diversion.restarting
        for alias in self.diversion.first & self.moved.keys():
            for server in restarting.intersection(servers_in(self.live_routes[alias])):
                self.left[server][alias] = self.moved[alias]
        for server, moves in self.left.items():
            self.needs[step_id("stop", server_address(server))].update(moves.values())
        for adapter in self.live.adapters().values():
            server = adapter.server
            leaving = self.left.get(server, {}).get(alias_of(adapter.adapter))
            if leaving is None or server in self.live.unknown_servers:
                continue
            operation = self.steps[leaving].operation
            route = operation.route if isinstance(operation, steps.SetRoute) else None
            if not _serves(route, adapter.adapter, server):
                drain = self._add("drain", steps.Drain(adapter, steps.DRAIN_S), adapter)
                self.needs[drain].add(leaving)
                self.needs[step_id("stop", server_address(server))].add(drain)

    def sorted(self) -> tuple[Step, ...]:
        """Return the steps in an order that `needs` allows, the same for the same steps."""
        return tuple(
            replace(self.steps[name], needs=tuple(sorted(self.needs.get(name, ()))))
            for name in steps.in_order({**dict.fromkeys(self.steps, ()), **self.needs})
        )


def _devices(server: Server) -> set[tuple[str, str]]:
    return {(server.host, device) for device in server.devices}


def _serves(route: Route | None, adapter: str, server: str) -> bool:
    return route is not None and any(
        share.adapter == adapter and share.percent > 0 and server in share.servers
        for share in route.shares
    )
