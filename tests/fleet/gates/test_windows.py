"""Usage rows become windows: whose requests, how many, how many bad, and since when."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fleet.gates.own_control import Seen, Usual
from fleet.gates.windows import Baseline, arms, baseline, count_windows, neighbours
from fleet.policies import GateSpec
from fleet.traffic import Sticky

NINE = datetime(2026, 3, 2, 9, tzinfo=UTC)
HOUR = timedelta(hours=1)
OLD, NEW = "acme-support-tiny-v2.1.0", "acme-support-tiny-v2.2.0"
SIDE = arms("acme-support", NEW, OLD)
KNOWN = {"acme-support": Baseline(total=1.0, first_token=0.2, token=0.01)}


def row(minute: float = 0, version: str = NEW, **fields: Any) -> dict[str, Any]:
    made = {
        "time": (NINE + timedelta(minutes=minute)).isoformat(),
        "alias": "acme-support",
        "version": version,
        "server": "one",
        "status": 200,
        "latency_s": 0.5,
        "first_byte_s": 0.1,
        "output_tokens": 50,
        "stream": True,
    }
    return made | fields


def counted(*rows: dict[str, Any], gates: tuple[GateSpec, ...] = ()) -> tuple[Any, ...]:
    return count_windows(rows, SIDE, gates, KNOWN, NINE, NINE + 3 * HOUR, percent=10)


def test_requests_are_counted_by_hour_and_side() -> None:
    found = counted(row(0), row(59), row(60), row(1, OLD), row(2, OLD), row(179, OLD))
    assert [(each.start, each.canary.requests, each.stable.requests) for each in found] == [
        (NINE, 2, 2), (NINE + HOUR, 1, 0), (NINE + 2 * HOUR, 0, 1)
    ]  # fmt: skip
    assert {each.percent for each in found} == {10}


@pytest.mark.parametrize("minute", [-1, 180])
def test_what_lies_outside_the_stage_does_not_count(minute: int) -> None:
    assert counted(row(minute)) == ()


@pytest.mark.parametrize(
    ("fields", "requests", "bad"),
    [
        ({"status": 500}, 1, {"errors": 1}),
        ({"status": 502}, 1, {"errors": 1}),
        ({"status": 499}, 1, {}),
        ({"status": 400}, 0, {}),
        ({"status": 429}, 0, {}),
        ({"purpose": "eval"}, 0, {}),
        ({"purpose": "smoke"}, 0, {}),
        ({"purpose": "shadow"}, 0, {}),
        ({"purpose": None}, 1, {}),
        ({"format_ok": False}, 1, {"format": 1}),
        ({"format_ok": True}, 1, {}),
        ({"finish": "length"}, 1, {"truncated": 1}),
        ({"finish": "stop"}, 1, {}),
        ({"alias": "acme-faq"}, 0, {}),
        ({"version": "acme-support-tiny-v2.0.0"}, 0, {}),
    ],
)
def test_what_is_bad_about_a_request(
    fields: dict[str, Any], requests: int, bad: dict[str, int]
) -> None:
    found = counted(row(**fields))
    assert sum(each.canary.requests for each in found) == requests
    assert {kind: n for each in found for kind, n in each.canary.bad.items()} == bad


def test_a_request_of_which_something_is_not_known_is_not_counted_as_good() -> None:
    (found,) = counted(row(), row(status=500, format_ok=None), row(format_ok=True, finish="stop"))
    assert found.canary.total("errors") == 3
    assert found.canary.total("format") == 1
    assert found.canary.total("truncated") == 1
    gate = GateSpec("g", "p95_ratio", 1.5, "x")
    (known,), blind = (
        counted(row(), gates=(gate,)),
        count_windows([row()], SIDE, (gate,), {}, NINE, NINE + HOUR),
    )
    assert (known.canary.total("late:g"), blind[0].canary.total("late:g")) == (1, 0)


@pytest.mark.parametrize(
    ("gate", "fields", "late"),
    [
        (GateSpec("g", "p95_ratio", 1.5, "x"), {"latency_s": 1.5}, 0),
        (GateSpec("g", "p95_ratio", 1.5, "x"), {"latency_s": 1.51}, 1),
        (GateSpec("g", "baseline_ratio", 2, "x"), {"latency_s": 2.01}, 1),
        (GateSpec("g", "first_token_ratio", 2, "x"), {"first_byte_s": 0.41}, 1),
        (
            GateSpec("g", "first_token_ratio", 2, "x"),
            {"first_byte_s": 0.1, "first_token_s": 0.41},
            1,
        ),
        # not a stream: the first byte is the last one, too
        (GateSpec("g", "first_token_ratio", 2, "x"), {"first_byte_s": 0.41, "stream": False}, 0),
        (GateSpec("g", "token_time_ratio", 2, "x"), {"output_tokens": 9, "stream": False}, 0),
        (GateSpec("g", "token_time_ratio", 2, "x"), {"output_tokens": 1}, 0),
        (GateSpec("g", "token_time_ratio", 2, "x"), {"output_tokens": 21}, 0),
        (GateSpec("g", "token_time_ratio", 2, "x"), {"output_tokens": 19}, 1),
        (GateSpec("g", "p95_latency", 800, "ms"), {"latency_s": 0.81}, 1),
        (GateSpec("g", "error_rate_rise", 2, "pp"), {"latency_s": 9.0}, 0),
    ],
)
def test_a_gate_counts_beyond_its_own_limit(
    gate: GateSpec, fields: dict[str, Any], late: int
) -> None:
    (found,) = counted(row(**fields), gates=(gate,))
    assert found.canary.bad.get("late:g", 0) == late


def test_a_user_without_a_past_contributes_the_first_bad_request() -> None:
    again = [row(minute, unit="ana", status=500 * (minute > 0) or 200) for minute in (0, 1, 2, 90)]
    found = counted(*again, row(3, unit="bob"), row(4), row(5, OLD, unit="ana"))
    assert [each.canary.requests for each in found] == [5, 1]
    assert [each.canary.bad.get("errors", 0) for each in found] == [2, 1]
    assert [each.canary.arrived for each in found] == [3, 0]
    assert [each.canary.unnamed for each in found] == [1, 0]
    first, later = ((each.canary.users or {})["errors"] for each in found)
    assert (first.hits, first.at_risk, first.people, first.units) == (1, 4, 1, 3)
    assert (later.hits, later.at_risk, later.people, later.units) == (0, 0, 0, 0)
    assert first.expected == pytest.approx(5 * 0.01)
    assert later.exposure == 0
    assert found[0].stable.users is not None
    assert found[0].stable.users["errors"].units == 1


def test_a_user_who_is_known_counts_again_when_the_echo_is_over() -> None:
    usual = Usual(0.01, users={"ana": Seen(3, 100)}, requests=1000)
    known = {"acme-support": Baseline(usual={"errors": usual})}
    rows = [row(minute, unit="ana", status=500) for minute in (0, 1, 4, 5, 9, 70)]
    found = count_windows(rows, SIDE, (), known, NINE, NINE + 3 * HOUR)
    first, later = ((each.canary.users or {})["errors"] for each in found)
    assert (first.hits, first.people, later.hits, later.people) == (2, 1, 1, 0)
    rate, variance = usual.rate("ana")
    assert 0.01 < rate < 0.03
    assert (first.exposure, first.expected) == pytest.approx((2 * rate, 5 * rate))
    assert first.spread + later.spread == pytest.approx(variance * 6**2)


def test_rows_that_name_nobody_count_one_by_one_and_are_told_of() -> None:
    (found,) = count_windows(
        [row(), row(1)], SIDE, (), {}, NINE, NINE + HOUR, sticky=Sticky.SESSION
    )
    assert (found.canary.users, found.canary.unnamed) == (None, 2)
    (found,) = count_windows([row(), row(1)], SIDE, (), {}, NINE, NINE + HOUR)
    assert found.canary.unnamed == 0


def test_neighbours_are_told_apart_by_server() -> None:
    serving = {"birch-faq": row()["version"]}
    side = neighbours("acme-support", frozenset({"one"}), serving)
    assert side(row(alias="birch-faq")) == "canary"
    assert side(row(alias="birch-faq", server="two")) == "stable"
    assert side(row()) is None
    assert side(row(alias="birch-faq", server="")) is None
    assert side(row(alias="birch-faq", version="what it tries itself")) is None
    assert side(row(alias="fjord-faq", version="whatever answers there")) == "canary"


def test_a_baseline_is_the_smallest_value_that_95_percent_do_not_exceed() -> None:
    rows = [row(latency_s=each / 100, first_byte_s=None) for each in range(1, 101)]
    assert baseline(rows) == Baseline(total=0.95, first_token=None, token=None, requests=100)


def test_a_baseline_of_few_requests_is_none() -> None:
    rows = [row() for _ in range(19)]
    assert baseline(rows).total is None
    assert baseline([*rows, row()]).total == 0.5
    assert baseline([*rows, row(status=500), row(purpose="eval")]).total is None
