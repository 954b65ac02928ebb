"""Splits the hours of leased devices: by work, then the idle part by the declared rule.

Whole millionths throughout. The lines of a device's hour add up to the price of the hour.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from fleet.cost_policy import MICRO, IdleRule
from fleet.costing.lines import (
    PLATFORM,
    CostLine,
    LineKind,
    ServerHour,
    Weights,
    apportion,
)
from fleet.costing.terms import ResidentTerms, Role, ServerTerms, Terms
from fleet.names import client_of
from fleet.usage import UsageCell, UsageFigures

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
    known: dict[str, Mapping[str, Any]] = {}
    removed: set[str] = set()
    at, terms, hour = 0, None, begin
    while hour < end:
        changed = bool(removed)
        for key in removed:
            known.pop(key, None)
        removed.clear()
        while at < len(changes) and changes[at][0] < hour + HOUR:
            time, documents = changes[at]
            for key, document in documents.items():
                if document is not None:
                    known[key] = document
                    removed.discard(key)
                elif time <= hour:
                    known.pop(key, None)
                else:
                    removed.add(key)
            at, changed = at + 1, True
        if changed and known:
            terms = Terms.of_documents(known)
        if terms is not None:
            yield hour, terms
        hour += HOUR


def split_hour(
    terms: Terms, hour: datetime, cells: Iterable[UsageCell] | None
) -> dict[str, tuple[CostLine, ...] | tuple[ServerHour, ...]]:
    """Return the cost of an hour by device: a line of its own, or the hours of its servers.

    `cells`: None where a gateway's log of the hour was not read; the platform pays.
    """
    on_device: dict[str, list[str]] = defaultdict(list)
    for name, server in terms.servers.items():
        for device in server.devices:
            on_device[device].append(name)
    by_server: dict[str, list[UsageCell]] = defaultdict(list)
    for cell in cells or ():
        by_server[cell.server].append(cell)
    found: dict[str, tuple[CostLine, ...] | tuple[ServerHour, ...]] = {}
    for device, lease in sorted(terms.devices.items()):
        servers = sorted(on_device.get(device, ()))
        if servers:
            costs = apportion(lease.price, dict.fromkeys(servers, 1))
            found[device] = tuple(
                _server_hour(
                    terms, name, device, costs[name], hour.hour,
                    None if cells is None else by_server[name],
                )
                for name in servers
            )  # fmt: skip
        elif lease.always:
            found[device] = (CostLine(PLATFORM, LineKind.UNPLACED, device, lease.price),)
    return found


def lines_of(parts: tuple[CostLine, ...] | tuple[ServerHour, ...]) -> Iterator[CostLine]:
    """Yield the lines of a device's hour."""
    for part in parts:
        if isinstance(part, ServerHour):
            yield from part.lines
        else:
            yield part


def _server_hour(
    terms: Terms, name: str, device: str, cost: int, hour: int, cells: list[UsageCell] | None
) -> ServerHour:
    server = terms.servers[name]
    capacity = server.capacity[hour] * MICRO if server.capacity else None
    if cells is None:
        lines = _platform(device, cost, "usage of the hour is not known")
        return ServerHour(name, cost, capacity, {}, {}, lines)
    work, estimated = _work(server, cells)
    if not work and any(cell.figures.unknown for cell in cells):
        lines = _platform(device, cost, "no server reported tokens")
        return ServerHour(name, cost, capacity, {}, {}, lines)
    return split_server(server, name, device, cost, hour, terms.fleet.idle, work, estimated)


def split_server(
    server: ServerTerms,
    name: str,
    device: str,
    cost: int,
    hour: int,
    rule: IdleRule,
    work: Weights,
    estimated: int = 0,
) -> ServerHour:
    """Split the cost of a server's hour by work; the rest is idle, shared by the rule.

    Used parts are rounded down, so that a further request of a client raises no other used part;
    what rounding leaves is idle too. Above capacity, or where capacity is not known, work takes
    all.
    """
    capacity = server.capacity[hour] * MICRO if server.capacity else None
    whole = max(sum(work.values()), capacity or 0)
    used = {key: cost * weight // whole for key, weight in work.items()} if whole else {}
    lines = [CostLine(client, kind, device, part) for (client, kind), part in used.items() if part]
    idle = cost - sum(used.values())
    weights = _idle_weights(server, hour, rule, work)
    shared = apportion(idle, weights)
    lines += [
        CostLine(client, kind, device, part) for (client, kind), part in shared.items() if part
    ]
    if idle and not shared:
        lines.append(CostLine(PLATFORM, LineKind.IDLE, device, idle, _REASONS[rule]))
    return ServerHour(name, cost, capacity, work, weights, tuple(lines), estimated)


def _platform(device: str, cost: int, reason: str) -> tuple[CostLine, ...]:
    return (CostLine(PLATFORM, LineKind.UNKNOWN, device, cost, reason),) if cost else ()


def payer(cell: UsageCell) -> str:
    """Return the client of a cell's alias; without an alias the client of the key."""
    return client_of(cell.alias) if cell.alias else cell.client


def _work(server: ServerTerms, cells: Sequence[UsageCell]) -> tuple[Counter[Any], int]:
    """Return the work by client and kind, and the requests of unknown size.

    Such a request weighs as the mean of the others of its alias here, else nothing.
    """
    kinds = {
        resident.adapter: LineKind.CANARY
        for resident in server.residents
        if resident.role is Role.CANARY
    }
    work: Counter[tuple[str, LineKind]] = Counter()
    unknown = []
    for cell in cells:
        usual = kinds.get(cell.version, LineKind.SERVING)
        key = payer(cell), PURPOSES.get(cell.purpose, usual)
        work[key] += _weight(server, cell.figures)
        if cell.figures.unknown:
            unknown.append((key, cell.alias, cell.figures.unknown))
    estimated = 0
    added: Counter[tuple[str, LineKind]] = Counter()
    for key, alias, count in unknown:
        alike = [cell.figures for cell in cells if cell.alias == alias]
        if known := sum(figures.outputs for figures in alike):
            added[key] += sum(_weight(server, figures) for figures in alike) * count // known
            estimated += count
    return +(work + added), estimated


def _weight(server: ServerTerms, figures: UsageFigures) -> int:
    """Return the work of requests, in millionths of a decoded token."""
    fresh = max(figures.input_tokens - figures.cached_tokens, 0)
    return server.prompt_weight * fresh + MICRO * figures.output_tokens


def _idle_weights(server: ServerTerms, hour: int, rule: IdleRule, work: Weights) -> Weights:
    match rule:
        case IdleRule.RESERVED:
            return _reserved(server.residents, hour)
        case IdleRule.USAGE:
            found: Counter[tuple[str, LineKind]] = Counter()
            for (client, _), weight in work.items():
                found[client, LineKind.IDLE] += weight
            return found
        case IdleRule.EVEN:
            clients = {client_of(resident.adapter) for resident in server.residents}
            return {(client, LineKind.IDLE): 1 for client in sorted(clients)}
        case IdleRule.PLATFORM:
            return {}


def _reserved(residents: Sequence[ResidentTerms], hour: int) -> Weights:
    found: Counter[tuple[str, LineKind]] = Counter()
    is_declared = any(resident.slots * resident.load[hour] for resident in residents)
    for resident in residents:
        key = client_of(resident.adapter), ROLES.get(resident.role, LineKind.IDLE)
        found[key] += resident.slots * (resident.load[hour] if is_declared else 1)
    return +found
