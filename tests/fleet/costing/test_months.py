"""Months: sums, fees, storage, staff, cents; shares of fees, projections and moves."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from fleet.costing import (
    HOUR,
    CostLine,
    LineKind,
    MonthCost,
    ShareState,
    Terms,
    apportion,
    cheaper_moves,
    cost_changes,
    fee_needed,
    month_cost,
    monthly_costs,
    projection,
    rollback_seconds,
    share_state,
    to_cents,
)
from fleet.history import Entry, RolledBack
from fleet.policies import MICRO
from tests.fleet.costing.worlds import cell, client, fleet, leases, resident, server

BEGIN = datetime(2026, 11, 1, tzinfo=UTC)
END = datetime(2026, 12, 1, tzinfo=UTC)
WHOLE = 720
GIB = 1 << 30


def month(terms: Terms, hours: int = WHOLE, tokens: int = 0, **more: Any) -> MonthCost:
    cells = [cell("a", tokens)] if tokens else []
    given = ((BEGIN + n * HOUR, terms, cells) for n in range(hours))
    found = month_cost("2026-11", BEGIN, END, given, **more)
    assert found is not None
    return found


TERMS = Terms(
    fleet(storage=720_000),
    leases(1_000_000),
    {"s": server(resident("a", 100))},
    {"a": client(1000 * MICRO, staff=72 * MICRO, staff_rate=50 * MICRO, storage_bytes=2 * GIB,
                 included=72_000, overage=10 * MICRO)},
)  # fmt: skip


def test_a_month_adds_up_leases_storage_and_staff() -> None:
    found = month(TERMS, tokens=500)
    kinds = {line.kind: line.micro for line in found.lines}
    assert kinds == {
        LineKind.SERVING: 360 * MICRO, LineKind.IDLE: 360 * MICRO, LineKind.STAFF: 72 * MICRO,
        LineKind.STORAGE: 1_440_000,
    }  # fmt: skip
    assert (found.leased, found.total) == (720 * MICRO, 793_440_000)
    its = found.clients["a"]
    assert (its.fee, its.included, its.output_tokens) == (1000 * MICRO, 72_000, 360_000)
    assert its.overage == 2_880_000  # 288,000 tokens at 10 a million


def test_half_a_month_has_half_of_what_is_paid_by_the_month() -> None:
    found = month(TERMS, WHOLE // 2)
    kinds = {line.kind: line.micro for line in found.lines}
    assert (kinds[LineKind.STAFF], kinds[LineKind.STORAGE]) == (36 * MICRO, 720_000)
    assert (found.clients["a"].fee, found.clients["a"].included) == (500 * MICRO, 36_000)


def test_a_fee_that_changes_counts_for_its_hours() -> None:
    later = Terms(TERMS.fleet, TERMS.devices, TERMS.servers, {"a": client(3000 * MICRO)})
    given = [(BEGIN + n * HOUR, TERMS if n < 360 else later, ()) for n in range(WHOLE)]
    found = month_cost("2026-11", BEGIN, END, given)
    assert found is not None
    assert found.clients["a"].fee == 2000 * MICRO


def test_imported_hours_replace_the_declared_ones() -> None:
    found = month(TERMS, worked={"a": 1500})
    assert {line.micro for line in found.lines if line.kind is LineKind.STAFF} == {75 * MICRO}


def test_a_client_that_leaves_pays_until_then_and_its_lines_stay() -> None:
    without = Terms(TERMS.fleet, TERMS.devices, {"s": server()}, {})
    given = [(BEGIN + n * HOUR, TERMS if n < 240 else without, ()) for n in range(WHOLE)]
    found = month_cost("2026-11", BEGIN, END, given)
    assert found is not None
    assert found.clients["a"].fee == 1000 * MICRO // 3
    assert found.cost("") == 480 * MICRO
    assert found.total == found.leased + 24 * MICRO + 480_000


def test_cents_add_up_to_the_bill_also_with_corrections() -> None:
    parts = apportion(1_000_000, {"a": 1, "b": 1, "c": 1})
    lines = [CostLine(name, LineKind.SERVING, "d", part) for name, part in parts.items()]
    assert list(to_cents(lines).values()) == [34, 33, 33]
    moved = [CostLine("a", LineKind.CORRECTION, "", -4_999, "2026-10"),
             CostLine("b", LineKind.CORRECTION, "", 4_999, "2026-10")]  # fmt: skip
    cents = to_cents([*lines, *moved])
    assert sum(cents.values()) == 100


@pytest.mark.parametrize(
    ("cost", "fee", "state"),
    [
        (0, None, ShareState.NO_FEE),
        (1, 0, ShareState.ALARM),
        (0, 0, ShareState.OK),
        (30, 100, ShareState.OK),
        (31, 100, ShareState.WARN),
        (40, 100, ShareState.WARN),
        (41, 100, ShareState.ALARM),
    ],
)
def test_a_share_has_a_state(cost: int, fee: int, state: ShareState) -> None:
    assert share_state(cost, fee) is state


@pytest.mark.parametrize("cost", [1, 4_000, 123_456_789])
def test_the_fee_that_is_needed_is_the_least(cost: int) -> None:
    fee = fee_needed(cost)
    assert share_state(cost, fee) is not ShareState.ALARM
    assert share_state(cost, fee - 10_000) is ShareState.ALARM


def test_a_correction_is_not_expected_again() -> None:
    found = month(TERMS, 168)
    once = replace(found, lines=(*found.lines, CostLine("a", LineKind.CORRECTION, "", 5 * MICRO)))
    assert once.cost("a") == found.cost("a") + 5 * MICRO
    assert once.recurring("a", 336) == found.recurring("a", 336) == 2 * found.cost("a")


def test_a_projection_begins_on_day_7_and_goes_by_weekdays() -> None:
    assert projection(month(TERMS, 167), "a", {}) is None
    found = projection(month(TERMS, 168), "a", {})
    assert found is not None
    assert found.low == found.expected == found.high == (720 + 72) * MICRO + 1_440_000
    ranged = projection(
        month(TERMS, 168), "a", {day: day % 2 * 48 * MICRO for day in range(-28, 0)}
    )
    assert ranged is not None
    assert ranged.low < ranged.expected < ranged.high
    assert projection(month(TERMS), "a", {}) is None


def test_a_month_whose_terms_began_late_is_over_at_its_end_and_projected_before() -> None:
    def late(last: int) -> MonthCost:
        given = ((BEGIN + n * HOUR, TERMS, ()) for n in range(240, last))
        found = month_cost("2026-11", BEGIN, END, given)
        assert found is not None
        return found

    assert projection(late(WHOLE), "a", {}) is None
    assert projection(late(300), "a", {}) is None
    found = projection(late(480), "a", {})
    assert found is not None
    assert found.expected == 480 * MICRO + 48 * MICRO + 960_000


def test_a_move_to_a_server_with_room_is_told_with_its_saving() -> None:
    dear, cheap = leases(9_000_000, "h/0"), leases(1_000_000, "h/1")
    a, b = resident("a", 100), resident("b", 100)
    terms = Terms(fleet(), {**dear, **cheap}, {"s": server(a, devices=("h/0",)),
                  "t": server(b, devices=("h/1",))}, {"a": client(), "b": client()})  # fmt: skip
    (move,) = cheaper_moves(terms, "a")
    assert (move.adapter, move.server) == (a.adapter, "t")
    assert move.saved == monthly_costs(terms)["a"] - monthly_costs(terms)["b"] // 2
    full = server(b, devices=("h/1",), capacity=150)
    assert cheaper_moves(Terms(fleet(), terms.devices, {**terms.servers, "t": full}), "a") == ()


def test_a_plan_tells_the_clients_that_cross_the_limit() -> None:
    def priced(price: int, fee: int | None) -> Terms:
        return Terms(fleet(), leases(price), TERMS.servers, {"a": client(fee)})

    before, after = priced(1_000_000, 2000 * MICRO), priced(2_000_000, 2000 * MICRO)
    (change,) = cost_changes(before, after)
    assert (change.client, round(change.before), round(change.after)) == ("a", 730, 1460)
    assert (change.crosses, change.over) == (True, True)
    assert cost_changes(before, before) == ()
    assert cost_changes(priced(1, None), priced(10**9, None)) == ()


@pytest.mark.parametrize(("pays", "expected"), [(False, (3, 0)), (True, (5, 2))])
def test_evaluations_count_where_the_client_pays_for_them(
    expected: tuple[int, int], *, pays: bool
) -> None:
    its = replace(TERMS.clients["a"], bill_evals=pays)
    cells = [cell("a", 9, requests=3), cell("a", 9, requests=2, purpose="eval")]
    given = [(BEGIN, replace(TERMS, clients={"a": its}), cells)]
    found = month_cost("2026-11", BEGIN, END, given)
    assert found is not None
    assert (found.clients["a"].requests, found.clients["a"].evaluations) == expected


def test_a_rollback_counts_once_and_an_undone_one_is_none() -> None:
    back = RolledBack("a-x", "a-x-tiny-v1.0.0", decided="2026-11-05T02:00:00", seconds=1.26)
    others: list[dict[str, Any]] = [
        {"adapter": "a-x-tiny-v1.1.0"},
        {"forward": True, "decided": "later"},
        {"decided": "2026-11-06", "seconds": 2.0},
        {"alias": "b-x"},
    ]
    events = [back, *(replace(back, **other) for other in others)]
    entries = [Entry(1, BEGIN + HOUR, event, "r", "me", 1, "", "") for event in events]
    late = Entry(1, END, replace(back, decided="next"), "r", "me", 1, "", "")
    found = rollback_seconds([*entries, late], BEGIN, END)
    assert found == {"a": (1.26, 2.0), "b": (1.26,)}
