"""Engines, gateways, ledger and library of an execution: all effects, so that tests swap them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from runtime.engines.protocol import Engine
from runtime.gateway.protocol import Gateways
from runtime.ledger.protocol import Ledger

Publish = Callable[[str, str], Path]
"""Takes a full adapter name and its digest, checks the bytes, gives the folder to load from.

Raises `LibraryError` if the bytes are not those of the digest.
"""


@dataclass(frozen=True, slots=True)
class Timings:
    """Durations of an execution, in seconds."""

    lease: int = 60
    """Life of the lease without renewal."""
    renew: float = 15.0
    heartbeat: float = 10.0
    """How often a long step says that it still runs."""
    drain_poll: float = 0.2
    refresh: float = 5.0
    """How old the picture of a host may be when a step is checked against it."""
    lanes: int = 8
    """Servers that are worked on at the same time."""


@dataclass(frozen=True, slots=True)
class ExecutionContext:
    """Engines, gateways, ledger and library of one fleet."""

    engines: Mapping[str, Engine]
    """By host."""
    gateways: Gateways
    ledger: Ledger
    publish: Publish
    secret: Callable[[str], str | None]
    """Gives the secret behind `env:NAME` or `file:path`; None where it cannot be read."""
    holder: str
    """Who takes the lease."""
    hosts: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Host by server, for servers that are declared and may not answer."""
    commit: str = ""
    """Commit of the declarations, for the record."""
    timings: Timings = Timings()
