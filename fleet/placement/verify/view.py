"""View: a placement beside what was declared, wanted and live; and what a check of it finds."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property

from fleet.hardware import DeviceSpec, HostSpec
from fleet.names import adapter_address, alias_of
from fleet.placement.accounting import Accounting, crowds, residents_of
from fleet.placement.accounts import AdapterAccount, ServerAccount
from fleet.resources import Server, State
from fleet.rollouts import RolloutTargets
from fleet.spec import AdapterSpec, FleetSpec


@dataclass(frozen=True)
class PlacementView:
    """Servers with what they hold, and all that they are checked against."""

    fleet: FleetSpec
    targets: RolloutTargets
    live: State
    servers: Mapping[str, Server]
    bindings: Mapping[str, tuple[str, ...]]
    unplaced: Mapping[str, str]

    @cached_property
    def accounting(self) -> Accounting:
        """What accounts are drawn up from."""
        return Accounting(self.fleet)

    @cached_property
    def residents(self) -> dict[str, tuple[AdapterAccount, ...]]:
        """By server: what it holds."""
        return residents_of(self.fleet, self.bindings)

    @cached_property
    def accounts(self) -> dict[str, ServerAccount]:
        """By server: what it holds and carries."""
        crowd = crowds(self.servers.values())
        return {
            name: self.accounting.server(server, self.residents.get(name, ()), crowd[name])
            for name, server in self.servers.items()
        }

    @cached_property
    def on_device(self) -> dict[tuple[str, str], list[Server]]:
        """By (host, device): the servers on it, by name."""
        found: dict[tuple[str, str], list[Server]] = defaultdict(list)
        for _, server in sorted(self.servers.items()):
            for device in server.devices:
                found[server.host, device].append(server)
        return found

    @cached_property
    def homes(self) -> dict[str, tuple[str, ...]]:
        """By server: the host, and the devices or, where it has none, the server itself."""
        return {
            name: (server.host, *(server.devices or (name,)))
            for name, server in self.servers.items()
        }

    @cached_property
    def foreign(self) -> dict[str, frozenset[str]]:
        """By server: versions that stay listed, and that fleetctl has not put there."""
        ours = self.targets.owned
        before = self.live.servers()
        found: dict[str, set[str]] = defaultdict(set)
        for name, servers in self.targets.loaded.items():
            for server in servers:
                there = self.servers.get(server)
                restarts = there is None or server not in before or there != before[server]
                bound = server in self.bindings.get(name, ())
                if not restarts and not bound and adapter_address(name, server) not in ours:
                    found[server].add(name)
        return {server: frozenset(names) for server, names in found.items()}

    def declared(self, adapter: str) -> AdapterSpec | None:
        """Return the declaration of a version's alias."""
        return self.fleet.adapters.get(alias_of(adapter))

    def host(self, server: Server) -> HostSpec | None:
        """Return a server's host, where it is declared."""
        return self.fleet.hosts.get(server.host)

    def device(self, host: str, name: str) -> DeviceSpec | None:
        """Return a device, where it is declared."""
        return self.accounting.devices.get((host, name))

    def closed(self, server: Server) -> str:
        """Return the state of a server that takes nothing new; empty: it does."""
        theirs = self.accounting.attached.get(server.name)
        here = [self.device(server.host, device) for device in server.devices]
        states = [declared.state for declared in (theirs, *here) if declared is not None]
        return next((f"it is {state}" for state in states if state != "active"), "")

    def was_there(self, adapter: str, server: str) -> bool:
        """Say whether a version is, or by its route should be, on a server already."""
        wanted = self.targets
        return server in wanted.loaded.get(adapter, ()) or server in wanted.routed.get(adapter, ())


def now_of(view: PlacementView) -> PlacementView:
    """Return the view of what is live, wanted versions where they are loaded.

    Flags that could be told by their digest alone are taken from the placement.
    """
    servers = {}
    for name, server in view.live.servers().items():
        after = view.servers.get(name)
        known = after if after is not None and after.digest == server.digest else server
        servers[name] = replace(server, flags=server.flags or known.flags)
    return replace(view, servers=servers, bindings=view.targets.loaded, unplaced={})


class Constraint(StrEnum):
    """What a placement has to keep to; a violation names its constraint."""

    REPLICAS = "replicas"
    """Every wanted version is on as many servers as declared, or said to be unplaced."""
    SERVER = "server"
    """A version is on a server that exists and has its base."""
    SPREAD = "spread"
    """Replicas share no device, or no host where that is asked."""
    PIN = "pin"
    AVOID = "avoid"
    APART = "apart"
    ISOLATION = "isolation"
    RESERVED = "reserved"
    CORDONED = "cordoned"
    """Nothing new comes to a device that is cordoned or draining."""
    SILENT = "silent"
    """Nothing changes on servers that do not answer."""
    FLAGS = "flags"
    """A server's flags agree with its base and its devices."""
    RANK = "rank"
    SLOTS = "slots"
    CPU_CACHE = "cpu cache"
    """All that a server lists fits in its host memory's places (`max_cpu_loras`)."""
    MEMORY = "memory"
    HOST_MEMORY = "host memory"
    """All that the servers of a host may list fits in the memory that it declares for it."""
    SHARES = "memory shares"
    """The shares of a device's memory add up to 1 at most."""
    PORT = "port"
    LOAD = "load"
    LATENCY = "latency"
    """Nothing new comes to a server that, as measured, misses a declared p95 even while idle."""
    ROUTE = "route"
    """At every step of an apply, a route names only what is loaded."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A broken constraint, where, and by how much."""

    constraint: Constraint
    server: str
    """The server, or `host/device` for what concerns a device; empty: none in particular."""
    adapter: str
    """The version; empty where it concerns none in particular."""
    amount: float
    limit: float
    """What `amount` must not exceed, in the same unit (bytes, slots, tokens/s, count)."""
    text: str
    """One sentence with the numbers."""
    hour: int | None = None
    """Hour of the day, UTC, for a load."""

    @property
    def excess(self) -> float:
        """By how much the limit is passed."""
        return self.amount - self.limit

    @property
    def key(self) -> tuple[str, str, str, int]:
        """What tells whether two findings are about the same thing."""
        hour = -1 if self.hour is None else self.hour
        return (self.constraint.value, self.server, self.adapter, hour)
