"""View: a placement beside what was declared, wanted and live; and what a check of it finds."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property

from fleet.hardware import DeviceSpec
from fleet.names import adapter_address, alias_of
from fleet.placement.model.accounts import Accounting, AdapterAccount, ServerAccount, residents_of
from fleet.resources import Server, State
from fleet.rollouts import RolloutTargets
from fleet.spec import AdapterSpec, FleetSpec


@dataclass(frozen=True)
class PlacementView:
    """Servers and bindings, beside the declarations, targets and live state of their checks."""

    fleet: FleetSpec
    targets: RolloutTargets
    live: State
    servers: Mapping[str, Server]
    bindings: Mapping[str, tuple[str, ...]]
    unplaced: Mapping[str, str]

    @cached_property
    def accounting(self) -> Accounting:
        """Inputs of the accounts."""
        return Accounting(self.fleet)

    @cached_property
    def residents(self) -> dict[str, tuple[AdapterAccount, ...]]:
        """By server: the versions on the server."""
        return residents_of(self.fleet, self.bindings)

    @cached_property
    def accounts(self) -> dict[str, ServerAccount]:
        """By server: its versions, memory and load."""
        return self.accounting.accounts(self.servers, self.residents)

    @cached_property
    def foreign(self) -> dict[str, frozenset[str]]:
        """By server: versions that stay listed, and that fleetctl has not put there."""
        before = self.live.servers()
        foreign_versions: dict[str, set[str]] = defaultdict(set)
        for name, servers in self.targets.loaded.items():
            for server in servers:
                runs_on = server in before and self.servers.get(server) == before[server]
                bound = server in self.bindings.get(name, ())
                ours = adapter_address(name, server) in self.targets.owned
                if runs_on and not bound and not ours:
                    foreign_versions[server].add(name)
        return {server: frozenset(names) for server, names in foreign_versions.items()}

    def declared(self, adapter: str) -> AdapterSpec | None:
        """Return the declaration of a version's alias."""
        return self.fleet.adapters.get(alias_of(adapter))

    def device(self, host: str, name: str) -> DeviceSpec | None:
        """Return a device; None where the declarations lack the device."""
        return self.accounting.devices.get((host, name))

    def closed(self, server: Server) -> str:
        """Return the state of a server that takes no new versions, as words; empty: it does."""
        theirs = self.accounting.attached.get(server.name)
        devices = [self.device(server.host, device) for device in server.devices]
        states = [declared.state for declared in (theirs, *devices) if declared is not None]
        return next((f"it is {state}" for state in states if state != "active"), "")

    def was_there(self, adapter: str, server: str) -> bool:
        """Say whether a version is, or by its route should be, on a server already."""
        loaded = self.targets.loaded.get(adapter, ())
        return server in loaded or server in self.targets.routed.get(adapter, ())


def now_of(view: PlacementView) -> PlacementView:
    """Return the view of the live state, with target versions where they are or should be loaded.

    A server that has started again lacks the versions that routes send to it, and gets them back.
    Flags that are known by their digest alone are taken from the placement.
    """
    servers = {}
    for name, server in view.live.servers().items():
        after = view.servers.get(name)
        source = after if after is not None and after.digest == server.digest else server
        servers[name] = replace(server, flags=server.flags or source.flags)
    loaded, routed = view.targets.loaded, view.targets.routed
    bindings = {
        name: tuple(sorted({*loaded.get(name, ()), *routed.get(name, ())}))
        for name in {*loaded, *routed}
    }
    return replace(view, servers=servers, bindings=bindings, unplaced={})


class Constraint(StrEnum):
    """Constraints of a placement; a violation names its constraint."""

    REPLICAS = "replicas"
    """Every target version is on as many servers as declared, or named as unplaced."""
    SERVER = "server"
    """A version is on a server that exists and has its base."""
    SPREAD = "spread"
    """Replicas share no device, or no host where `spread: host` is declared."""
    PIN = "pin"
    AVOID = "avoid"
    APART = "apart"
    ISOLATION = "isolation"
    RESERVED = "reserved"
    CORDONED = "cordoned"
    """Nothing new comes to a device that is cordoned or draining."""
    SILENT = "silent"
    """Nothing changes on servers that do not answer."""
    ANSWERED = "answered"
    """No step leaves fewer requests of a declared alias to servers that answer."""
    FLAGS = "flags"
    """A server's flags agree with its base and its devices."""
    RANK = "rank"
    SLOTS = "slots"
    CPU_CACHE = "cpu cache"
    """A server lists at most `max_cpu_loras` versions."""
    MEMORY = "memory"
    HOST_MEMORY = "host memory"
    """The versions that the servers of a host may list fit in its declared memory."""
    SHARES = "memory shares"
    """The shares of a device's memory add up to 1 at most."""
    PORT = "port"
    LOAD = "load"
    LATENCY = "latency"
    """No new version comes to a server that, as measured, misses a declared p95 even while idle."""
    ROUTE = "route"
    """At every step of an apply, a route names only loaded versions."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A broken constraint with its place and numbers."""

    constraint: Constraint
    server: str
    """The server, or `host/device` of a device; empty: none in particular."""
    adapter: str
    """The version; empty: none in particular."""
    amount: float
    limit: float
    """Upper bound of `amount`, in the same unit (bytes, slots, tokens/s, count)."""
    text: str
    """A sentence with the numbers."""
    hour: int | None = None
    """Hour of the day, UTC, for a load."""

    @property
    def excess(self) -> float:
        """The amount above the limit."""
        return self.amount - self.limit

    @property
    def key(self) -> tuple[str, str, str, int]:
        """Constraint, place and hour: equal for violations before and after a change."""
        hour = -1 if self.hour is None else self.hour
        return (self.constraint.value, self.server, self.adapter, hour)
