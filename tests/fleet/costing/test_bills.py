"""Bills worked out by hand: an hour of 1.00 (1,000,000 millionths) on a server of 1,000 tokens."""

from typing import Any

import pytest

from fleet.costing import Role, Terms
from fleet.policies import IdleRule
from tests.fleet.costing.worlds import bill, cell, fleet, leases, resident, server

A, B = resident("a", 300), resident("b", 100)
SHARED = {"s": server(A, B)}


def terms(servers: Any = None, idle: IdleRule = IdleRule.RESERVED, **more: Any) -> Terms:
    its = SHARED if servers is None else servers
    return Terms(fleet(idle), more.get("devices", leases(1_000_000)), its)


BILLS: list[Any] = [
    # 100 of 1,000 tokens used, 900,000 idle; declared 300 to 100.
    ("reserved idle", terms(), [cell("a", 100)],
     {"a serving": 100_000, "a idle": 675_000, "b idle": 225_000}),
    # b used all there is: its work alone pays, a pays no idle time.
    ("busy", terms(), [cell("b", 1000)], {"b serving": 1_000_000}),
    # 1,500 asked of 1,000: in proportion, 1/3 and 2/3; a millionth is left over, and idle.
    ("overload", terms(), [cell("a", 500), cell("b", 1000)],
     {"a serving": 333_333, "b serving": 666_666, "a idle": 1}),
    # 400 prompt tokens of which 200 were cached: 200 / 4 = 50 tokens.
    ("cached prompt", terms(idle=IdleRule.PLATFORM), [cell("a", 0, prompt=400, cached=200)],
     {"a serving": 50_000, "platform idle": 950_000}),
    # Idle by usage: a did 3 of 4 parts.
    ("idle by usage", terms(idle=IdleRule.USAGE), [cell("a", 300), cell("b", 100)],
     {"a serving": 300_000, "b serving": 100_000, "a idle": 450_000, "b idle": 150_000}),
    # A canary's and a retained version's slot: 800,000 idle by 300 + 300 + 300 + 100.
    ("canary and retained", terms({"s": server(
        A, resident("a", 300, Role.CANARY, version="2.0.0"),
        resident("a", 300, Role.RETAINED, version="0.9.0"), B)}),
     [cell("a", 100), cell("a", 100, version="2.0.0")],
     {"a serving": 100_000, "a canary": 340_000, "a idle": 240_000, "a retained": 240_000,
      "b idle": 80_000}),
    # An evaluation and a smoke test of a are costs of a.
    ("evaluation", terms(), [cell("a", 600, purpose="eval"), cell("a", 400, purpose="smoke")],
     {"a eval": 600_000, "a smoke": 400_000}),
    # Two devices, a server over both: each device is split alike. A third is empty, a fourth costs
    # in use only.
    ("devices", Terms(fleet(), {**leases(500_000, "h/0", "h/1", "h/2"),
                                **leases(7, "h/3", always=False)},
                      {"s": server(A, devices=("h/0", "h/1"))}), [cell("a", 500)],
     {"a serving": 500_000, "a idle": 500_000, "platform unplaced device": 500_000}),
    # Two servers share a device: half each. No load is declared: by slots. No capacity is known
    # for the second: its work takes all.
    ("shared device", terms({"s": server(resident("a"), resident("b")),
                             "t": server(A, capacity=0)}),
     [cell("a", 7, server="t")],
     {"a idle": 250_000, "b idle": 250_000, "a serving": 500_000}),
    # Of b's two requests one told no tokens: it weighs as the other. a's told nothing: nothing.
    ("unknown tokens", terms(idle=IdleRule.PLATFORM),
     [cell("b", 100, requests=2, unknown=1), cell("a", 0, unknown=1)],
     {"b serving": 200_000, "platform idle": 800_000}),
]  # fmt: skip


@pytest.mark.parametrize(("terms", "cells", "expected"), [case[1:] for case in BILLS],
                         ids=[case[0] for case in BILLS])  # fmt: skip
def test_a_bill_worked_out_by_hand(terms: Terms, cells: Any, expected: dict[str, int]) -> None:
    assert bill(terms, *cells) == expected


def test_where_usage_is_not_known_the_platform_pays_all() -> None:
    assert bill(terms(), is_known=False) == {"platform not attributed": 1_000_000}
    told_nothing = cell("a", 0, unknown=1)
    assert bill(terms(), told_nothing) == {"platform not attributed": 1_000_000}


@pytest.mark.parametrize("rule", IdleRule)
def test_a_server_without_versions_is_paid_by_the_platform(rule: IdleRule) -> None:
    assert bill(terms({"s": server()}, rule)) == {"platform idle": 1_000_000}


def test_an_hour_in_which_a_client_was_refused_is_idle_and_not_unknown() -> None:
    refused = cell("a", 0, requests=3)
    assert bill(terms(), refused) == {"a idle": 750_000, "b idle": 250_000}
