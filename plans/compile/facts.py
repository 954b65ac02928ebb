"""Defines the facts from which a compile target of an extension makes its files."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fleet.resources import Route
from fleet.spec import FleetSpec


@dataclass(frozen=True, slots=True)
class CompileFacts:
    """The declared fleet, and the routes that gateways serve; no secret is among them."""

    fleet: FleetSpec
    revision: int
    """Of the routing table."""
    routes: Mapping[str, Route]
    """By alias."""
    servers: Mapping[str, str]
    """Base URL by server."""


CompileTarget = Callable[[CompileFacts], Mapping[str, str]]
"""Returns the texts of files by name; pure."""
