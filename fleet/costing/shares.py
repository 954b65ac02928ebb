"""Judges cost against fee: the share's state, the month's projection, and ways under the limit."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from fleet.costing.hours import idle_weights, split_server
from fleet.costing.lines import LineKind, Weights
from fleet.costing.months import CENT, DAY_HOURS, GIB, MonthCost
from fleet.costing.terms import ResidentTerms, Role, ServerTerms, Terms
from fleet.names import alias_of, client_of
from fleet.plan import CostChange
from fleet.policies import MICRO

WARN, ALARM, CLEAR = 30, 40, 35
"""Cost in percent of the fee: above `WARN` a warning, above `ALARM` an alarm. A standing alert of
`watch` ends below `CLEAR`."""
FIRST_DAY: Final = 7
"""Days of a month before which nothing is projected."""
WEEK: Final = 7
MONTH_HOURS: Final = 730
"""Hours of the month of an estimate."""


class ShareState(StrEnum):
    """The state of a client's cost against its fee."""

    NO_FEE = "no fee declared"
    OK = "ok"
    WARN = "warning"
    ALARM = "alarm"


def share_state(cost: int, fee: int | None) -> ShareState:
    """Return the state of a cost against a fee."""
    if fee is None:
        return ShareState.NO_FEE
    if 100 * cost > ALARM * fee:
        return ShareState.ALARM
    return ShareState.WARN if 100 * cost > WARN * fee else ShareState.OK


def fee_needed(cost: int) -> int:
    """Return the least fee in whole cents of which a cost is no more than `ALARM` percent."""
    return -(-100 * cost // (ALARM * CENT)) * CENT


@dataclass(frozen=True, slots=True)
class Bill:
    """A month's cost, of a closed month or of the hours that are over."""

    cost: MonthCost
    sha256: str
    """Hash of the file of a closed month; empty: the month is open."""
    terms: Terms
    """Terms of its last hour."""
    before: Mapping[str, Mapping[int, int]]
    """By client: cost of devices by day before the month, the last is -1; for projections."""
    rollbacks: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """By client: seconds of the rollbacks of the month, in the order of time."""


def change_since(found: MonthCost, before: MonthCost | None, client: str) -> tuple[int, int] | None:
    """Return the change of a client's cost since the month before, and the cost in that month.

    The month before counts with as many hours; corrections are left out. None: not known.
    """
    if before is None or client not in {*before.clients, *before.daily}:
        return None
    now, then = (month.recurring(client, found.counted) for month in (found, before))
    return now - then, then


@dataclass(frozen=True, slots=True)
class Projection:
    """The cost of a whole month: expected, and the range of the last four weeks."""

    low: int
    expected: int
    high: int


def projection(found: MonthCost, client: str, before: Mapping[int, int]) -> Projection | None:
    """Return the projected cost of a client; None before day 7, and of a month that is over.

    A day that is left costs as much as the same days of the week before: their mean, and their
    least and most. `before`: cost of devices by day before the month, the last is -1.
    """
    today = found.elapsed // DAY_HOURS
    first = min(before, default=-((found.counted - found.elapsed) // DAY_HOURS))
    days = {**before, **{int(day): cost for day, cost in found.daily.get(client, {}).items()}}
    known = [days.get(day, 0) for day in range(first, today)][-4 * WEEK :]
    if today < FIRST_DAY or len(known) < WEEK or found.elapsed >= found.hours:
        return None
    monthly = (LineKind.STORAGE, LineKind.STAFF)
    its = [line for line in found.lines if line.client == client]
    fixed = sum(line.micro for line in its if line.kind in monthly)
    so_far = sum(line.micro for line in its) - fixed
    left, ends = found.hours - found.elapsed, []
    for pick in (min, _mean, max):
        rest, hours, day = 0, left, len(known)
        while hours > 0:
            alike = known[day % WEEK :: WEEK]
            rest += pick(alike) * min(hours, DAY_HOURS) // DAY_HOURS
            hours, day = hours - DAY_HOURS, day + 1
        ends.append(so_far + rest + fixed + fixed * left // found.counted)
    return Projection(*ends)


def _mean(amounts: list[int]) -> int:
    return sum(amounts) // len(amounts)


def monthly_costs(terms: Terms) -> Counter[str]:
    """Return the cost of a month in which clients ask as much as they declare, by client.

    Slots, canaries and idle time are theirs as in a bill.
    """
    crowd = Counter(device for server in terms.servers.values() for device in server.devices)
    found: Counter[str] = Counter()
    for name, server in terms.servers.items():
        found.update(_server_costs(terms, crowd, name, server))
    for name, client in terms.clients.items():
        found[name] += client.staff + client.storage_bytes * terms.fleet.storage // GIB
    return found


def _server_costs(
    terms: Terms, crowd: Mapping[str, int], name: str, server: ServerTerms
) -> Counter[str]:
    found: Counter[str] = Counter()
    rule = terms.fleet.idle
    for device in server.devices:
        lease = terms.devices.get(device)
        cost = lease.price * MONTH_HOURS // (crowd[device] * DAY_HOURS) if lease else 0
        for hour in range(DAY_HOURS):
            work = _declared_work(server, hour)
            weights = idle_weights(server, hour, rule, work)
            split = split_server(server, name, device, cost, hour, rule, work, weights)
            for line in split.lines:
                found[line.client] += line.micro
    return found


def _declared_work(server: ServerTerms, hour: int) -> Weights:
    found: Counter[tuple[str, LineKind]] = Counter()
    for resident in server.residents:
        kind = LineKind.CANARY if resident.role is Role.CANARY else LineKind.SERVING
        key = client_of(resident.adapter), kind
        found[key] += resident.load[hour] * resident.percent * (MICRO // 100)
    return +found


def cost_changes(before: Terms, after: Terms) -> tuple[CostChange, ...]:
    """Return the clients with a fee whose cost changes by a cent or more, or crosses the limit."""
    if not (before.is_priced or after.is_priced):
        return ()
    was, will = monthly_costs(before), monthly_costs(after)
    found = []
    for name in sorted(before.clients.keys() | after.clients.keys()):
        known = [terms.clients.get(name) for terms in (before, after)]
        fees = [client.fee if client else None for client in known]
        costs = was[name], will[name]
        states = [share_state(cost, fee) for cost, fee in zip(costs, fees, strict=True)]
        crosses = (states[0] is ShareState.ALARM) != (states[1] is ShareState.ALARM)
        if fees != [None, None] and (abs(costs[1] - costs[0]) >= CENT or crosses):
            over = states[1] is ShareState.ALARM
            fee = None if fees[1] is None else fees[1] / MICRO
            old, new = (cost / MICRO for cost in costs)
            found.append(CostChange(name, fee, old, new, crosses, over, after.fleet.currency))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class CostMove:
    """A move of an adapter version that lowers its client's cost."""

    adapter: str
    server: str
    saved: int
    """Millionths a month, by declared demand."""


def cheaper_moves(terms: Terms, client: str) -> tuple[CostMove, ...]:
    """Return the moves of a client's versions to a running server of their base, best first.

    The server has a free slot, and the declared load stays within its capacity. Other rules of
    placement are not asked here: a plan with the adapter pinned there asks them.
    """
    crowd = Counter(device for server in terms.servers.values() for device in server.devices)
    found = []
    for name, server in terms.servers.items():
        for resident in (item for item in server.residents if client_of(item.adapter) == client):
            for other, target in terms.servers.items():
                if other == name or target.base != server.base or not _fits(resident, target):
                    continue
                left = tuple(item for item in server.residents if item is not resident)
                changes = (
                    (name, server, replace(server, residents=left)),
                    (other, target, replace(target, residents=(*target.residents, resident))),
                )
                saved = sum(
                    _server_costs(terms, crowd, its, before)[client]
                    - _server_costs(terms, crowd, its, after)[client]
                    for its, before, after in changes
                )
                if saved > 0:
                    found.append(CostMove(resident.adapter, other, saved))
    return tuple(sorted(found, key=lambda move: (-move.saved, move.adapter, move.server)))


def _fits(resident: ResidentTerms, target: ServerTerms) -> bool:
    """Say whether a server has a slot and room for a version, and no version of its alias."""
    loads = {alias_of(item.adapter): item.load for item in target.residents}
    if alias_of(resident.adapter) in loads:
        return False
    free = target.slots - sum(item.slots for item in target.residents)
    return free >= resident.slots and all(
        sum(load[hour] for load in (resident.load, *loads.values())) <= most
        for hour, most in enumerate(target.capacity)
    )
