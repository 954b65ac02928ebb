"""What a placement says: servers, bindings, reasons and figures."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from fleet.names import Address
from fleet.plan import DeviceUse
from fleet.resources import Server

Status = Literal["optimal", "feasible"]


@dataclass(frozen=True, slots=True)
class Placement:
    """Where everything wanted goes. Mappings are sorted by key."""

    servers: Mapping[str, Server]
    """The servers that should exist, without those that do not answer."""
    bindings: Mapping[str, tuple[str, ...]]
    """Full adapter name to the servers that should hold it, sorted; may name unknown ones."""
    why: Mapping[Address, str]
    """By adapter address: why it is there, for newly placed ones."""
    server_why: Mapping[str, str]
    """By server: why it is opened or started with other flags."""
    capacity: tuple[DeviceUse, ...]
    unplaced: Mapping[str, str]
    """Full adapter name to why it is nowhere, or on fewer servers than it should be."""
    tight: frozenset[str]
    """Servers where a load must wait until versions without traffic are unloaded."""
    warnings: tuple[str, ...]
    forced: Mapping[str, str]
    """Full adapter name to why it cannot stay where it is."""
    optional: Mapping[str, str]
    """Full adapter name to what moving it saves, though it could stay."""
    price: float
    """Of all devices in use, an hour."""
    bound: float
    """No placement of these versions costs less."""
    status: Status
    """`optimal`: the price is the bound."""
