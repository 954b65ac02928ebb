"""Alternatives: the other places of an adapter version, with their cost and obstacles."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from math import isfinite

from fleet.names import alias_of, server_name
from fleet.placement.model.accounts import ServerAccount
from fleet.placement.model.latency_slo import answer_of
from fleet.placement.model.state import PlacementResult
from fleet.placement.verify import placement
from fleet.placement.verify.view import PlacementView, Violation
from fleet.resources import Server, State
from fleet.rollouts import RolloutTargets
from fleet.spec import FleetSpec

CHECKS: tuple[Callable[[PlacementView], Iterator[Violation]], ...] = (
    placement.spread,
    placement.choices,
    placement.company,
    placement.flags,
    placement.ranks,
    placement.slots,
    placement.memory,
    placement.loads,
)
"""Checks of a version's place, those of a plan."""


@dataclass(frozen=True, slots=True)
class Alternative:
    """Another place for a version."""

    server: str
    new: bool
    """Whether the server would have to be started for the version."""
    added_per_hour: float
    peak: float
    """Utilisation of the server in its worst hour, with the version."""
    obstacles: tuple[str, ...]
    """Sentences; empty: the version could be there."""


@dataclass(frozen=True, slots=True)
class Weighed:
    """The place of a version beside its other possible places."""

    account: ServerAccount
    """Its server as placed."""
    without: ServerAccount
    """The same server without the version."""
    alternatives: tuple[Alternative, ...]
    """Possible places first; then the cheapest, the quietest, by name."""

    @property
    def closed(self) -> Alternative | None:
        """The running server with the fewest obstacles, where only a new server is possible."""
        if self.runner_up is not None and not self.runner_up.new:
            return None
        kept_out = [other for other in self.alternatives if other.obstacles and not other.new]
        return min(kept_out, key=lambda other: (len(other.obstacles), other.server), default=None)

    @property
    def runner_up(self) -> Alternative | None:
        """The best other place; None where there is none."""
        return next((other for other in self.alternatives if not other.obstacles), None)


def weigh(
    fleet: FleetSpec,
    targets: RolloutTargets,
    live: State,
    placement: PlacementResult,
    adapter: str,
    server: str,
) -> Weighed:
    """Compare a version's server with every other server of its base, and with a new server.

    The other servers are taken as placed: with their flags and versions.
    """
    scale = _Scale(fleet, targets, live, placement)
    current = placement.servers[server]
    bindings = placement.bindings
    alternatives = [
        scale.tried(adapter, server, other, new=False)
        for name, other in sorted(placement.servers.items())
        if other.base == current.base and name not in bindings[adapter]
    ]
    fresh = [scale.tried(adapter, server, other, new=True) for other in scale.unused(current)]
    alternatives += sorted(fresh, key=_best_first)[:1]
    other_servers = tuple(name for name in bindings[adapter] if name != server)
    account, without = (
        scale.view({current.name: current}, bound, current).accounts[server]
        for bound in (bindings, {**bindings, adapter: other_servers})
    )
    return Weighed(account, without, tuple(sorted(alternatives, key=_best_first)))


def _best_first(other: Alternative) -> tuple[bool, float, float, str]:
    return bool(other.obstacles), other.added_per_hour, other.peak, other.server


class _Scale:
    """Compares servers with a version moved there."""

    def __init__(
        self, fleet: FleetSpec, targets: RolloutTargets, live: State, placement: PlacementResult
    ) -> None:
        self.fleet, self.targets, self.live, self.placement = fleet, targets, live, placement
        self.on: dict[str, set[str]] = defaultdict(set)
        for name, servers in placement.bindings.items():
            for server in servers:
                self.on[server].add(name)
        self.used = {
            (server.host, device)
            for server in placement.servers.values()
            for device in server.devices
        }

    def view(
        self, servers: Mapping[str, Server], bindings: Mapping[str, tuple[str, ...]], at: Server
    ) -> PlacementView:
        """Return the view of a server and its neighbours on the devices, with its versions."""
        near = {
            name: server
            for name, server in self.placement.servers.items()
            if server.host == at.host and set(server.devices) & set(at.devices)
        }
        listed = {name: bound for name, bound in sorted(bindings.items()) if at.name in bound}
        return PlacementView(self.fleet, self.targets, self.live, {**near, **servers}, listed, {})

    def tried(self, adapter: str, source: str, target: Server, *, new: bool) -> Alternative:
        """Return the alternative of a version moved from a server to another server."""
        placed = self.placement
        staying = tuple(name for name in placed.bindings[adapter] if name != source)
        names = {*self.on.get(target.name, ()), adapter}
        bindings = {name: placed.bindings[name] for name in names}
        bindings[adapter] = (*staying, target.name)
        replicas = {name: placed.servers[name] for name in staying if name in placed.servers}
        view = self.view({**replicas, target.name: target}, bindings, target)
        about = {target.name, *(f"{target.host}/{device}" for device in target.devices)}
        broken = [
            violation
            for check in CHECKS
            for violation in check(view)
            if violation.server in about or violation.adapter == adapter
        ]
        broken += self._listed(bindings, target)
        account = view.accounts[target.name]
        obstacles = (
            *(violation.text for violation in broken),
            *self._worse(adapter, target, account),
        )
        texts = tuple(dict.fromkeys(obstacles))
        price = account.price_per_hour if new else 0.0
        return Alternative(target.name, new, price, account.peak, texts)

    def _worse(self, adapter: str, target: Server, account: ServerAccount) -> Iterator[str]:
        """Yield obstacles that a plan avoids beyond the rules: a drain, an answer that is late."""
        host = self.fleet.hosts.get(target.host)
        for device in host.devices if host else ():
            if device.name in target.devices and device.state == "draining":
                yield f"`{target.host}/{device.name}` is draining"
        declared = self.fleet.adapters.get(alias_of(adapter))
        moved = next(
            (resident for resident in account.residents if resident.adapter == adapter), None
        )
        answer = answer_of(moved, declared, account) if moved else None
        if answer and answer.promised and answer.late:
            took = f"take {answer.seconds:.2g} s" if isfinite(answer.seconds) else "never end"
            yield f"its answers {took}, and {answer.due_s:g} s are promised"

    def _listed(
        self, bindings: Mapping[str, tuple[str, ...]], target: Server
    ) -> Iterator[Violation]:
        """Yield the main memory that a host lacks, servers that stop only in the end counted."""
        host = self.fleet.hosts.get(target.host)
        if host is None or host.memory_bytes is None:
            return
        ours = self.placement.servers
        every = {**self.live.servers(), **ours, target.name: target}
        near = {name: server for name, server in every.items() if server.host == host.name}
        names = {name for other in near for name in self.on.get(other, ())}
        bound = {name: self.placement.bindings[name] for name in names} | dict(bindings)
        for name, servers in self.targets.loaded.items():
            if any(server in near and server not in ours for server in servers):
                bound[name] = tuple(sorted({*bound.get(name, ()), *servers}))
        yield from placement.host_memory(
            PlacementView(self.fleet, self.targets, self.live, near, bound, {})
        )

    def unused(self, like: Server) -> Iterator[Server]:
        """Yield servers like `like` on unused devices; the first of a kind on a host."""
        if like.flags is None:
            return
        for _, host in sorted(self.fleet.hosts.items()):
            free: dict[str, list[str]] = defaultdict(list)
            for device in host.devices:
                if (host.name, device.name) not in self.used and device.state == "active":
                    free[device.kind].append(device.name)
            for devices in free.values():
                some = tuple(devices[: like.flags.tensor_parallel])
                if len(some) == like.flags.tensor_parallel:
                    name = server_name(like.base, host.name, some[0])
                    yield replace(like, name=name, host=host.name, devices=some)
