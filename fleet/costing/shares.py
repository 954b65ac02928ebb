"""Judges cost against fee: the share's state, the month's projection, and ways under the limit."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from fleet.costing.hours import LineKind, Weights, idle_weights, split_server
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


def change_since(month: MonthCost, before: MonthCost | None, client: str) -> tuple[int, int] | None:
    """Return the change of a client's cost since the month before, and the cost in that month.

    The month before counts with as many hours; corrections are left out. None: not known.
    """
    if before is None or client not in {*before.clients, *before.daily}:
        return None
    cost_before = before.recurring(client, month.counted)
    return month.recurring(client, month.counted) - cost_before, cost_before


@dataclass(frozen=True, slots=True)
class Projection:
    """The cost of a whole month: expected, and the range of the last four weeks."""

    low: int
    expected: int
    high: int


def projection(month: MonthCost, client: str, before: Mapping[int, int]) -> Projection | None:
    """Return the projected cost of a client; None before day 7, and of a month that is over.

    A day to come costs as much as the same days of the week before: their mean, and their least and
    most. `before`: cost of devices by day before the month, the last is -1.
    """
    today = month.elapsed // DAY_HOURS
    first_day = min(before, default=-((month.counted - month.elapsed) // DAY_HOURS))
    cost_by_day = {int(day): cost for day, cost in month.daily.get(client, {}).items()}
    cost_by_day = {**before, **cost_by_day}
    past_days = [cost_by_day.get(day, 0) for day in range(first_day, today)][-4 * WEEK :]
    if today < FIRST_DAY or len(past_days) < WEEK or month.elapsed >= month.hours:
        return None
    lines = [line for line in month.lines if line.client == client]
    monthly = sum(line.micro for line in lines if line.kind in {LineKind.STORAGE, LineKind.STAFF})
    devices = sum(line.micro for line in lines) - monthly
    hours_to_come = month.hours - month.elapsed
    # Storage and staff cost the same in each hour of the month.
    recurring = devices + monthly + monthly * hours_to_come // month.counted
    return Projection(
        low=recurring + _cost_to_come(past_days, hours_to_come, min),
        expected=recurring + _cost_to_come(past_days, hours_to_come, _mean),
        high=recurring + _cost_to_come(past_days, hours_to_come, max),
    )


def _cost_to_come(past_days: list[int], hours: int, estimate: Callable[[list[int]], int]) -> int:
    """Return the cost of the next hours, by the same weekdays of the past."""
    cost = 0
    for day, start in enumerate(range(0, hours, DAY_HOURS), len(past_days)):
        same_weekdays = past_days[day % WEEK :: WEEK]
        cost += estimate(same_weekdays) * min(hours - start, DAY_HOURS) // DAY_HOURS
    return cost


def _mean(amounts: list[int]) -> int:
    return sum(amounts) // len(amounts)


def monthly_costs(terms: Terms) -> Counter[str]:
    """Return the cost of a month in which clients ask as much as they declare, by client.

    Slots, canaries and idle time are theirs as in a bill.
    """
    servers_by_device = _servers_by_device(terms)
    costs: Counter[str] = Counter()
    for name, server in terms.servers.items():
        costs.update(_server_costs(terms, servers_by_device, name, server))
    for name, client in terms.clients.items():
        costs[name] += client.staff + client.storage_bytes * terms.fleet.storage // GIB
    return costs


def _servers_by_device(terms: Terms) -> Counter[str]:
    """Return the number of servers on the devices."""
    return Counter(device for server in terms.servers.values() for device in server.devices)


def _server_costs(
    terms: Terms, servers_by_device: Mapping[str, int], name: str, server: ServerTerms
) -> Counter[str]:
    """Return the cost of a server in a month of declared demand, by client."""
    costs: Counter[str] = Counter()
    rule = terms.fleet.idle
    for device in server.devices:
        lease = terms.devices.get(device)
        shares = servers_by_device[device] * DAY_HOURS
        cost_of_hour = lease.price * MONTH_HOURS // shares if lease else 0
        for hour in range(DAY_HOURS):
            work = _declared_work(server, hour)
            weights = idle_weights(server, hour, rule, work)
            split = split_server(server, name, device, cost_of_hour, hour, rule, work, weights)
            for line in split.lines:
                costs[line.client] += line.micro
    return costs


def _declared_work(server: ServerTerms, hour: int) -> Weights:
    work: Counter[tuple[str, LineKind]] = Counter()
    for resident in server.residents:
        kind = LineKind.CANARY if resident.role is Role.CANARY else LineKind.SERVING
        key = client_of(resident.adapter), kind
        work[key] += resident.load[hour] * resident.percent * (MICRO // 100)
    return +work


def cost_changes(before: Terms, after: Terms) -> tuple[CostChange, ...]:
    """Return the clients with a fee whose cost changes by a cent or more, or crosses the limit."""
    if not (before.is_priced or after.is_priced):
        return ()
    costs_before, costs_after = monthly_costs(before), monthly_costs(after)
    changes = []
    for name in sorted(before.clients.keys() | after.clients.keys()):
        fee_before, fee_after = _fee(before, name), _fee(after, name)
        cost_before, cost_after = costs_before[name], costs_after[name]
        was_over = share_state(cost_before, fee_before) is ShareState.ALARM
        is_over = share_state(cost_after, fee_after) is ShareState.ALARM
        if fee_before is None and fee_after is None:
            continue
        if abs(cost_after - cost_before) >= CENT or was_over != is_over:
            changes.append(
                CostChange(
                    client=name,
                    fee=None if fee_after is None else fee_after / MICRO,
                    before=cost_before / MICRO,
                    after=cost_after / MICRO,
                    crosses=was_over != is_over,
                    over=is_over,
                    currency=after.fleet.currency,
                )
            )
    return tuple(changes)


def _fee(terms: Terms, client: str) -> int | None:
    declared = terms.clients.get(client)
    return declared.fee if declared else None


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
    servers_by_device = _servers_by_device(terms)

    def saved(name: str, before: ServerTerms, residents: tuple[ResidentTerms, ...]) -> int:
        """Return the saving of the client on a server with other residents."""
        after = replace(before, residents=residents)
        cost_before = _server_costs(terms, servers_by_device, name, before)[client]
        return cost_before - _server_costs(terms, servers_by_device, name, after)[client]

    moves = []
    for source_name, source in terms.servers.items():
        for resident in (item for item in source.residents if client_of(item.adapter) == client):
            remaining = tuple(item for item in source.residents if item is not resident)
            for target_name, target in terms.servers.items():
                same_base = target_name != source_name and target.base == source.base
                if not same_base or not _fits(resident, target):
                    continue
                saving = saved(source_name, source, remaining)
                saving += saved(target_name, target, (*target.residents, resident))
                if saving > 0:
                    moves.append(CostMove(resident.adapter, target_name, saving))
    return tuple(sorted(moves, key=lambda move: (-move.saved, move.adapter, move.server)))


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
