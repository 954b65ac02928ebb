"""Defines the lines of a bill, and splits the hours of leased devices by work and by rule.

Whole millionths throughout. The lines of a device's hour add up to the price of the hour.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final, NamedTuple, TypeVar

from fleet.costing.terms import ResidentTerms, Role, ServerTerms, Terms
from fleet.names import client_of
from fleet.policies import MICRO, IdleRule

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
    rests = sorted([(-spare, key) for key, (_, spare) in zip(weights, divided, strict=True)])
    for _, key in rests[: amount - sum(parts.values())]:
        parts[key] += 1
    return parts


HOUR: Final = timedelta(hours=1)
PURPOSES: Final[Mapping[str, LineKind]] = {
    "eval": LineKind.EVAL,
    "smoke": LineKind.SMOKE,
    "shadow": LineKind.SMOKE,
}
"""Kind of a line by the purpose of its requests; others are a client's own."""
ROLES: Final[Mapping[Role, LineKind]] = {
    Role.CANARY: LineKind.CANARY,
    Role.RETAINED: LineKind.RETAINED,
}
"""Kind of a slot's idle part by the role of its version; else `IDLE`."""
_NO_WORK: Final[Weights] = {}
_REASONS: Final[Mapping[IdleRule, str]] = {
    IdleRule.RESERVED: "no client has a slot",
    IdleRule.USAGE: "no request in the hour",
    IdleRule.EVEN: "no client has an adapter",
    IdleRule.PLATFORM: "by the rule `platform`",
}


def hourly_terms(
    changes: Sequence[tuple[datetime, Mapping[str, Mapping[str, Any] | None]]],
    begin: datetime,
    end: datetime,
) -> Iterator[tuple[datetime, Terms]]:
    """Yield the full hours from `begin` to `end` with their terms, from the first recorded on.

    `changes` are recorded documents by key, oldest first; None: removed. A begun hour counts: what
    is recorded in an hour holds for all of the hour, and what is removed, until its end.
    """
    recorded: dict[str, Mapping[str, Any]] = {}
    removed: set[str] = set()
    at, terms, hour = 0, None, begin
    while hour < end:
        changed = bool(removed)
        for key in removed:
            recorded.pop(key, None)
        removed.clear()
        while at < len(changes) and changes[at][0] < hour + HOUR:
            time, documents = changes[at]
            for key, document in documents.items():
                if document is not None:
                    recorded[key] = document
                    removed.discard(key)
                elif time <= hour:
                    recorded.pop(key, None)
                else:
                    removed.add(key)
            at, changed = at + 1, True
        if changed and recorded:
            terms = Terms.of_documents(recorded)
        if terms is not None:
            yield hour, terms
        hour += HOUR


class HourSplitter:
    """Splits hours with the same terms."""

    def __init__(self, terms: Terms) -> None:
        """Prepare the split of every device and server."""
        self.terms = terms
        on_device: dict[str, list[str]] = defaultdict(list)
        for name, server in sorted(terms.servers.items()):
            for device in server.devices:
                on_device[device].append(name)
        self._servers = {
            device: apportion(lease.price, dict.fromkeys(on_device[device], 1))
            for device, lease in sorted(terms.devices.items())
        }
        self._canaries = {
            (name, resident.adapter)
            for name, server in terms.servers.items()
            for resident in server.residents
            if resident.role is Role.CANARY
        }
        self._reserved: dict[tuple[str, int], Weights] = {}
        self._keys: dict[WorkNames, tuple[str, LineKind]] = {}
        """Client and kind of requests; names are those of many cells."""

    def split(
        self, hour: datetime, cells: Iterable[WorkCell] | None
    ) -> dict[str, tuple[HourLine, ...] | tuple[ServerHour, ...]]:
        """Return the cost of an hour by device: a line of its own, or the hours of its servers.

        `cells`: None where rows of the hour were not read; the platform pays.
        """
        by_server: dict[str, list[WorkCell]] = defaultdict(list)
        for cell in cells or ():
            by_server[cell.names.server].append(cell)
        by_device: dict[str, tuple[HourLine, ...] | tuple[ServerHour, ...]] = {}
        for device, costs in self._servers.items():
            lease = self.terms.devices[device]
            if costs:
                by_device[device] = tuple(
                    self._server_hour(
                        name, device, cost, hour.hour, None if cells is None else by_server[name]
                    )
                    for name, cost in costs.items()
                )
            elif lease.always:
                by_device[device] = (HourLine(PLATFORM, LineKind.UNPLACED, device, lease.price),)
        return by_device

    def _server_hour(
        self, name: str, device: str, cost: int, hour: int, cells: list[WorkCell] | None
    ) -> ServerHour:
        server, rule = self.terms.servers[name], self.terms.fleet.idle
        capacity = server.capacity[hour] * MICRO if server.capacity else None
        reason, work, estimated = "usage of the hour is not known", _NO_WORK, 0
        if cells is not None:
            work, estimated = self._work(server, cells)
            is_known = bool(work) or not any(cell.unknown for cell in cells)
            reason = "" if is_known else "no server reported tokens"
        if reason:
            line = HourLine(PLATFORM, LineKind.UNKNOWN, device, cost, reason)
            return ServerHour(name, device, cost, capacity, {}, {}, {}, line if cost else None)
        if rule is IdleRule.RESERVED and (name, hour) not in self._reserved:
            self._reserved[name, hour] = idle_weights(server, hour, rule, work)
        weights = self._reserved.get((name, hour)) or idle_weights(server, hour, rule, work)
        return split_server(server, name, device, cost, hour, rule, work, weights, estimated)

    def _key(self, names: WorkNames) -> tuple[str, LineKind]:
        kind = PURPOSES.get(names.purpose)
        if kind is None:
            is_canary = (names.server, names.version) in self._canaries
            kind = LineKind.CANARY if is_canary else LineKind.SERVING
        return self._keys.setdefault(names, (names.payer, kind))

    def _work(self, server: ServerTerms, cells: Sequence[WorkCell]) -> tuple[Weights, int]:
        """Return the work by client and kind, and the requests of unknown size.

        Such a request weighs as the mean of the others of its alias here, else nothing.
        """
        work: defaultdict[tuple[str, LineKind], int] = defaultdict(int)
        unknown = []
        keys, prompt_weight = self._keys, server.prompt_weight
        for names, _, prompt, output, cached, _, count in cells:  # a month has half a million
            key = keys.get(names) or self._key(names)
            work[key] += (
                prompt_weight * (prompt - cached if prompt > cached else 0) + MICRO * output
            )
            if count:
                unknown.append((key, names.alias, count))
        if not unknown:
            return {key: weight for key, weight in work.items() if weight}, 0
        estimated = 0
        added: Counter[tuple[str, LineKind]] = Counter()
        for key, alias, count in unknown:
            alike = [cell for cell in cells if cell.names.alias == alias]
            if outputs := sum(cell.outputs for cell in alike):
                added[key] += sum(_weight(server, cell) for cell in alike) * count // outputs
                estimated += count
        return +Counter(work) + added, estimated


def lines_of(parts: tuple[HourLine, ...] | tuple[ServerHour, ...]) -> Iterator[HourLine]:
    """Yield the lines of a device's hour."""
    for part in parts:
        if isinstance(part, ServerHour):
            yield from part.lines
        else:
            yield part


def split_server(
    server: ServerTerms,
    name: str,
    device: str,
    cost: int,
    hour: int,
    rule: IdleRule,
    work: Weights,
    weights: Weights,
    estimated: int = 0,
) -> ServerHour:
    """Split the cost of a server's hour by work; the rest is idle, shared by weights.

    Used parts are rounded down, so that a further request of a client raises no other used part;
    what rounding leaves is idle too. Above capacity, or where capacity is not known, work takes
    all.
    """
    capacity = server.capacity[hour] * MICRO if server.capacity else None
    whole = max(sum(work.values()), capacity or 0)
    shares = {key: cost * weight // whole for key, weight in work.items()} if whole else {}
    idle, unshared = cost - sum(shares.values()), None
    shared = apportion(idle, weights)
    for key, part in shared.items():
        shares[key] = shares.get(key, 0) + part
    if idle and not shared:
        unshared = HourLine(PLATFORM, LineKind.IDLE, device, idle, _REASONS[rule])
    return ServerHour(name, device, cost, capacity, work, weights, shares, unshared, estimated)


def _weight(server: ServerTerms, cell: WorkCell) -> int:
    """Return the work of a cell's requests, in millionths of a decoded token."""
    fresh = max(cell.input_tokens - cell.cached_tokens, 0)
    return server.prompt_weight * fresh + MICRO * cell.output_tokens


def idle_weights(server: ServerTerms, hour: int, rule: IdleRule, work: Weights) -> Weights:
    """Return the weights by which a rule shares the idle part of a server's hour."""
    match rule:
        case IdleRule.RESERVED:
            return _reserved(server.residents, hour)
        case IdleRule.USAGE:
            weights: Counter[tuple[str, LineKind]] = Counter()
            for (client, _), weight in work.items():
                weights[client, LineKind.IDLE] += weight
            return weights
        case IdleRule.EVEN:
            clients = {client_of(resident.adapter) for resident in server.residents}
            return {(client, LineKind.IDLE): 1 for client in sorted(clients)}
        case IdleRule.PLATFORM:
            return {}


def _reserved(residents: Sequence[ResidentTerms], hour: int) -> Weights:
    weights: Counter[tuple[str, LineKind]] = Counter()
    is_declared = any(resident.slots * resident.load[hour] for resident in residents)
    for resident in residents:
        key = client_of(resident.adapter), ROLES.get(resident.role, LineKind.IDLE)
        weights[key] += resident.slots * (resident.load[hour] if is_declared else 1)
    return +weights
