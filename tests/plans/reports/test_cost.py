"""Costs as documents of a page and of `fleetctl cost`."""

from fleet.costing import MonthCost
from plans.reports.cost import client_costs, cost_days


def test_the_odd_hour_where_clocks_go_back_is_the_last_days() -> None:
    daily = {"a": {"0": 1, "30": 5, "31": 2}}
    cost = MonthCost("2026-10", "EUR", "Europe/Paris", 745, 745, 745, 8, (), {}, daily=daily)
    assert [(line["day"], line["micro"]) for line in cost_days(cost)] == [
        ("2026-10-01", 1),
        ("2026-10-31", 7),
    ]


def test_clients_without_a_bill_have_no_costs() -> None:
    found = client_costs(None, None, ["b", "a"])
    assert [*found] == ["a", "b"]
    assert {**found["a"], "client": "", "state": ""} == {
        **dict.fromkeys(found["a"]),
        "client": "",
        "state": "",
    }
