"""Defines the lines of a bill, and divides whole amounts."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, NamedTuple, TypeVar

from fleet.names import client_of

PLATFORM: Final = ""
"""In the place of a client: the operator's own cost."""
Key = TypeVar("Key", bound=Any)


class LineKind(StrEnum):
    """The purpose of a cost."""

    SERVING = "serving"
    CANARY = "canary"
    RETAINED = "retained"
    EVAL = "eval"
    SMOKE = "smoke"
    IDLE = "idle"
    UNPLACED = "unplaced device"
    UNKNOWN = "not attributed"
    STORAGE = "storage"
    STAFF = "staff"
    CORRECTION = "correction"


Weights = Mapping[tuple[str, LineKind], int]


class WorkNames(NamedTuple):
    """The names that the requests of a cell have in common."""

    client: str
    alias: str
    version: str
    server: str
    purpose: str

    @property
    def payer(self) -> str:
        """The client of the alias; without an alias the client of the key."""
        return client_of(self.alias) if self.alias else self.client


class WorkCell(NamedTuple):
    """The requests of an hour with all of their names equal; a tuple, as a month has many."""

    names: WorkNames
    requests: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    outputs: int
    """Requests whose output tokens are known."""
    unknown: int
    """Answered requests of which a token count is not known."""


COUNTED: Final = WorkCell._fields[1:]
"""The counts of a cell, as the usage store names them."""


@dataclass(frozen=True, slots=True)
class CostLine:
    """A cost of a client, or of the platform."""

    client: str
    """`PLATFORM`: the operator pays."""
    kind: LineKind
    device: str
    """`HOST/DEVICE`; empty: no device's hour."""
    micro: int
    """Millionths of the currency; negative in corrections alone."""
    reason: str = ""
    """Why the platform pays, or the month that is corrected."""


class HourLine(NamedTuple):
    """A cost of a device's hour; a tuple, as a month has a million."""

    client: str
    """`PLATFORM`: the operator pays."""
    kind: LineKind
    device: str
    micro: int
    """Millionths of the currency."""
    reason: str = ""
    """Why the platform pays."""


@dataclass(frozen=True, slots=True)
class ServerHour:
    """An hour of a server on a device, and how its cost was split."""

    server: str
    device: str
    cost: int
    capacity: int | None
    """Work that the hour could do, in millionths of a token; None: not known."""
    work: Weights
    """Work by client and kind, in millionths of a token."""
    reserved: Weights
    """Weights of the idle part."""
    shares: Weights
    """Millionths of the currency by client and kind."""
    rest: HourLine | None = None
    """The part that the platform pays."""
    estimated: int = 0
    """Requests whose tokens were taken from the mean of the others of their alias."""

    @property
    def lines(self) -> Iterator[HourLine]:
        """The shares and the rest; a month has too many to make each of them."""
        for (client, kind), micro in self.shares.items():
            if micro:
                yield HourLine(client, kind, self.device, micro)
        if self.rest:
            yield self.rest


def apportion(amount: int, weights: Mapping[Key, int]) -> dict[Key, int]:
    """Divide a whole amount by weights: floors, then the largest remainders; ties by name.

    Empty where no weight is above 0.
    """
    total = sum(weights.values())
    if total <= 0:
        return {}
    divided = [divmod(amount * weight, total) for weight in weights.values()]
    parts = {key: part for key, (part, _) in zip(weights, divided, strict=True)}
    rests = sorted([(-rest, key) for key, (_, rest) in zip(weights, divided, strict=True)])
    for _, key in rests[: amount - sum(parts.values())]:
        parts[key] += 1
    return parts
