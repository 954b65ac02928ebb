"""Steps: replays the steps of a plan and finds moments at which servers do not fit.

A placement may be sound and the way to it not: while old and new copies are both there, slots
and memory must hold both, no route may name what is not loaded, and what a server answers stays
answered.
"""

from collections import defaultdict
from collections.abc import Iterator
from collections.abc import Set as AbstractSet

from fleet import steps
from fleet.capacity import least_bytes
from fleet.names import alias_of
from fleet.placement.model.accounts import Accounting
from fleet.placement.verify.placement import SLACK
from fleet.placement.verify.view import Constraint, Violation
from fleet.plan import Plan
from fleet.resources import Route, Server, State
from fleet.spec import FleetSpec
from fleet.steps import Step


def verify_steps(plan: Plan, fleet: FleetSpec, live: State) -> tuple[Violation, ...]:
    """Return the violations after any of a plan's steps, in their order; empty: none.

    The routes of aliases that the plan itself calls interrupted may name versions that are gone
    for a while. An amount that was too large before the first step may stay, and not grow.
    """
    replay = _Replay(plan, fleet, live)
    violations = [violation for step in plan.steps for violation in replay.after(step)]
    return (*violations, *replay.less_answered(fleet.adapters.keys(), "after all steps"))


class _Replay:
    """Servers, versions and routes at a moment of an apply."""

    def __init__(self, plan: Plan, fleet: FleetSpec, live: State) -> None:
        self.fleet, self.live = fleet, live
        self.accounting = Accounting(fleet)
        self.servers = dict(live.servers())
        self.routes = dict(live.routes())
        self.listed: dict[str, set[str]] = defaultdict(set)
        self.largest: dict[str, int] = defaultdict(int)
        """By server: the bytes of the largest version that it has listed; it keeps the weights."""
        served_names = {adapter.served_as for adapter in fleet.adapters.values()}
        for adapter in live.adapters().values():
            if adapter.adapter in served_names - fleet.versions.keys():
                continue  # its client asks for it or for the alias: one of the two has the slot
            self._list(adapter.adapter, adapter.server)
        self.at: dict[str, set[str]] = defaultdict(set)
        for name, server in self.servers.items():
            self.at[server.host].add(name)
        limited = (name for name, host in fleet.hosts.items() if host.memory_bytes is not None)
        self.before = {name: self._host_bytes(name) for name in limited}
        self.interrupted = {impact.alias for impact in plan.impacts if impact.interrupted}
        declared = fleet.adapters.keys() & self.routes.keys()
        self.answered = {alias: self._answered(self.routes[alias]) for alias in declared}

    def after(self, step: Step) -> Iterator[Violation]:
        """Carry out a step, and yield the violations then."""
        match step.operation:
            case steps.StartServer(server):
                self.servers[server.name] = server
                self.at[server.host].add(server.name)
                self.listed[server.name] = set()
                self.largest[server.name] = 0
                yield from self._started(server, step)
            case steps.StopServer(server):
                self.servers.pop(server.name, None)
                self.at[server.host].discard(server.name)
                for adapter in sorted(self.listed.pop(server.name, set())):
                    yield from self._still_routed(adapter, server.name, step)
            case steps.LoadAdapter(adapter):
                before = len(self.listed[adapter.server])
                self._list(adapter.adapter, adapter.server)
                if len(self.listed[adapter.server]) > before:
                    yield from self._loaded(adapter.server, step)
            case steps.UnloadAdapter(adapter):
                self.listed[adapter.server].discard(adapter.adapter)
                yield from self._still_routed(adapter.adapter, adapter.server, step)
            case steps.SetRoute(route):
                self.routes[route.alias] = route
                yield from self._dangling(route, step)
                yield from self.less_answered(
                    {route.alias} - self.interrupted, f"after `{step.id}`"
                )
            case steps.DeleteRoute(route):
                self.routes.pop(route.alias, None)
            case steps.SmokeTest() | steps.Drain() | steps.SetKey() | steps.DeleteKey():
                pass

    def less_answered(self, aliases: AbstractSet[str], when: str) -> Iterator[Violation]:
        """Find declared aliases of which fewer requests have a server that answers than before."""
        for alias in sorted(aliases & self.answered.keys()):
            route, before = self.routes.get(alias), self.answered[alias]
            percent = self._answered(route) if route is not None else 0
            if percent < before:
                text = f"{when}, servers answer {percent} % of `{alias}`, and {before} % before"
                yield Violation(Constraint.ANSWERED, "", alias, before - percent, 0, text)
                del self.answered[alias]

    def _answered(self, route: Route) -> int:
        """Return the percent of an alias's requests that a server which answers gets."""
        return sum(
            share.percent
            for share in route.shares
            if any(
                share.adapter in self.listed.get(server, ())
                for server in share.servers
                if server not in self.live.unknown_servers
            )
        )

    def _started(self, server: Server, step: Step) -> Iterator[Violation]:
        """Find devices whose servers, the new server among them, do not fit together."""
        beside = [self.servers[name] for name in sorted(self.at[server.host])]
        for device in server.devices:
            declared = self.accounting.devices.get((server.host, device))
            if declared is None:
                continue
            limit, need, part = declared.memory_bytes, 0, 0.0
            neighbours = [neighbour for neighbour in beside if device in neighbour.devices]
            for neighbour in neighbours:
                shape = self.accounting.shape(neighbour, 1)
                needed_bytes = least_bytes(shape) if shape else 0
                share = neighbour.flags.memory_share if neighbour.flags else None
                need, part = need + needed_bytes, part + (share or needed_bytes / limit)
            names = ", ".join(f"`{neighbour.name}`" for neighbour in neighbours)
            address, at = f"{server.host}/{device}", f"after `{step.id}`"
            if need > limit:
                text = f"{at}, {names} do not fit together in the memory of `{address}`"
                yield Violation(Constraint.MEMORY, address, "", need, limit, text)
            elif part > 1 + SLACK:
                text = f"{at}, {names} take {part:.2f} of the memory of `{address}`"
                yield Violation(Constraint.SHARES, address, "", part, 1, text)
        on_port = sum(other.port == server.port for other in beside if other.devices)
        if on_port > 1:
            text = f"after `{step.id}`, two servers are on port {server.port} of `{server.host}`"
            yield Violation(Constraint.PORT, server.name, "", on_port, 1, text)

    def _loaded(self, name: str, step: Step) -> Iterator[Violation]:
        """Find a server that lists more versions than its slots or `max_cpu_loras`."""
        server = self.servers.get(name)
        if server is None:
            if name not in self.live.unknown_servers:
                text = f"`{step.id}` comes while the server is not there"
                yield Violation(Constraint.SERVER, name, "", 1, 0, text)
            return
        account = self.accounting.server(server, (), 1)
        listed = self.listed[name]
        declared = (self.fleet.adapters.get(alias_of(adapter)) for adapter in listed)
        pinned = sum(not (spec and spec.residency == "cached") for spec in declared) + account.kept
        if 0 < account.slots < pinned:
            text = f"after `{step.id}`, `{name}` has {account.slots} slots for {pinned} versions"
            yield Violation(Constraint.SLOTS, name, "", pinned, account.slots, text)
        most = server.flags.max_cpu_loras if server.flags else len(listed)
        if len(listed) > most:
            text = f"after `{step.id}`, `{name}` lists {len(listed)} with max_cpu_loras {most}"
            yield Violation(Constraint.CPU_CACHE, name, "", len(listed), most, text)
        host = self.fleet.hosts.get(server.host)
        if host is None or host.memory_bytes is None:
            return
        amount = self._host_bytes(host.name)
        if amount > max(host.memory_bytes, self.before[host.name]):
            text = (
                f"after `{step.id}`, the servers of host `{host.name}` may list {amount} bytes of "
                f"versions, and it declares {host.memory_bytes}"
            )
            yield Violation(Constraint.HOST_MEMORY, host.name, "", amount, host.memory_bytes, text)

    def _list(self, adapter: str, server: str) -> None:
        self.listed[server].add(adapter)
        facts = self.fleet.versions.get(adapter)
        self.largest[server] = max(self.largest[server], facts.bytes if facts else 0)

    def _host_bytes(self, name: str) -> int:
        """Return the bytes that the servers of a host may list, once for every device."""
        return sum(
            neighbour.flags.max_cpu_loras
            * neighbour.flags.tensor_parallel
            * self.largest[neighbour.name]
            for neighbour in map(self.servers.__getitem__, self.at[name])
            if neighbour.devices and neighbour.flags
        )

    def _still_routed(self, adapter: str, server: str, step: Step) -> Iterator[Violation]:
        """Find a route that sends traffic to a version that has just gone."""
        alias = alias_of(adapter)
        route = self.routes.get(alias)
        shares = route.shares if route is not None else ()
        if alias not in self.interrupted and any(
            share.adapter == adapter and share.percent > 0 and server in share.servers
            for share in shares
        ):
            text = f"after `{step.id}`, the route of `{alias}` still names `{adapter}` there"
            yield Violation(Constraint.ROUTE, server, adapter, 1, 0, text)

    def _dangling(self, route: Route, step: Step) -> Iterator[Violation]:
        """Find versions that a new route sends traffic to and that are not loaded."""
        for share in route.shares:
            for server in share.servers if share.percent else ():
                silent = server in self.live.unknown_servers
                if not silent and share.adapter not in self.listed.get(server, ()):
                    text = f"`{step.id}` names `{share.adapter}` on `{server}`, not loaded there"
                    yield Violation(Constraint.ROUTE, server, share.adapter, 1, 0, text)
