"""What a check finds: one broken constraint, where, and by how much."""

from dataclasses import dataclass
from enum import StrEnum


class Constraint(StrEnum):
    """What a placement must keep to; each finding names one."""

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
    """One broken constraint."""

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
