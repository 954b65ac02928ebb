"""Defines the declared terms of costs: currency, billing, idle rule, storage, staff, overage."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

Billing = Literal["always", "in_use"]
"""`always`: a device costs while declared. `in_use`: a device costs while it has a server."""

MICRO: Final = 1_000_000
"""Millionths in a unit of the currency; amounts are whole millionths."""


def micro(amount: float) -> int:
    """Return an amount of the currency in whole millionths."""
    return round(amount * MICRO)


class IdleRule(StrEnum):
    """The rule by which clients share the idle part of a server's hour."""

    RESERVED = "reserved"
    """By slots, times the load declared for the hour of the day; without any load by slots."""
    USAGE = "usage"
    """By the work of the hour."""
    EVEN = "even"
    """Evenly among the clients with an adapter on the server."""
    PLATFORM = "platform"
    """None: the platform pays."""


@dataclass(frozen=True, slots=True)
class CostPolicy:
    """The fleet's terms of costs."""

    currency: str = "EUR"
    """ISO 4217 code of all prices and fees."""
    timezone: str = "UTC"
    """Zone in which months begin."""
    idle: IdleRule = IdleRule.RESERVED
    storage_price: float = 0.0
    """Price of a GiB of adapters a month."""


@dataclass(frozen=True, slots=True)
class ClientCosts:
    """A client's staff hours and overage."""

    staff_hours: float = 0.0
    """Hours of work a month."""
    staff_rate: float = 0.0
    """Price of an hour of work."""
    included_tokens: int = 0
    """Tokens a month that the fee covers; counts where `overage_price` is more than 0."""
    overage_price: float = 0.0
    """Price of a million further tokens, which the client pays beside the fee."""
