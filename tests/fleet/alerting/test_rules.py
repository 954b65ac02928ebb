"""When an alert begins and ends, by the figures of an alias and of the fleet."""

from dataclasses import replace
from datetime import timedelta

import pytest

from fleet.alerting.alert import (
    AlertRule,
    LatencyBaseline,
    RuleFinding,
    Signal,
    latency_baseline,
    same_class,
)
from fleet.alerting.rules import (
    AliasFacts,
    BaseForecast,
    ProjectedCost,
    alias_findings,
    fleet_findings,
    slow,
    starved,
)
from fleet.usage import Sketch, UsageCell, UsageFigures
from tests.fleet.alerting.simulation import ALIAS, MONDAY, PROMISE, QUARTER, SERVER, VERSION

NOON = MONDAY + timedelta(days=30, hours=12)
USUAL = LatencyBaseline(1.0, 28)
CLEAR, BETWEEN, PENDING, FIRING, UNKNOWN = Signal


def quarters(*groups: tuple[int, int, float], errors: int = 0) -> tuple[UsageCell, ...]:
    """Return quarters up to noon: requests of half a second, and others of another time."""
    start = NOON - len(groups) * QUARTER
    return tuple(
        UsageCell(
            start + place * QUARTER,
            UsageFigures(
                requests=good + bad + errors,
                errors=errors,
                latency=Sketch.of_values([*[0.5] * good, *[seconds] * bad]),
            ),
            alias=ALIAS,
            version=VERSION,
        )
        for place, (good, bad, seconds) in enumerate(groups)
    )


def facts(*groups: tuple[int, int, float], errors: int = 0) -> AliasFacts:
    cells = quarters(*groups, errors=errors)
    return AliasFacts(ALIAS, PROMISE, USUAL, cells, cells, (SERVER,))


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ([], UNKNOWN),
        ([(20, 5, 3.0)], UNKNOWN),  # too few
        ([(60, 0, 0.0), (60, 0, 0.0)], CLEAR),
        ([(60, 0, 0.0), (50, 10, 1.9)], BETWEEN),  # above 1.5 x, below 2 x
        ([(60, 0, 0.0), (57, 3, 3.0)], CLEAR),  # 5 % are above a p95 by definition
        ([(60, 0, 0.0), (55, 5, 3.0)], BETWEEN),  # 8 %, and of 60 requests that is not sure
        ([(60, 0, 0.0), (45, 15, 3.0)], PENDING),
        ([(45, 15, 3.0), (45, 15, 3.0)], FIRING),
        ([(45, 15, 3.0), (60, 0, 0.0)], CLEAR),
        ([(10, 5, 3.0)] * 8, FIRING),  # little traffic: four quarters make a window
    ],
)
def test_an_alias_is_slow_when_two_windows_in_a_row_are_surely_slow(
    groups: list[tuple[int, int, float]], expected: Signal
) -> None:
    found = slow(facts(*groups), USUAL, NOON)
    assert found.signal is expected
    assert found.alert.command == f"fleetctl why {ALIAS}"
    if expected is FIRING:
        assert found.alert.since == NOON - len(groups) * QUARTER


def test_a_pinned_baseline_goes_before_the_one_that_moved() -> None:
    ill = facts((45, 15, 3.0), (45, 15, 3.0))
    signals = {f.alert.rule: f.signal for f in alias_findings(ill, LatencyBaseline(9, 7), NOON)}
    assert signals[AlertRule.SLOW] is CLEAR


def test_a_baseline_is_of_healthy_hours_of_the_version_and_else_the_promise() -> None:
    hours = same_class(NOON)
    assert {start.hour for start in hours} == {12}
    assert all(start.weekday() < 5 for start in hours)

    def cell(place: int, seconds: float, version: str = VERSION) -> UsageCell:
        latency = Sketch.of_values([seconds] * 60)
        return UsageCell(hours[place], UsageFigures(60, latency=latency), version=version)

    month = [cell(place, 0.4) for place in range(len(hours))]
    usual = latency_baseline(month, VERSION, (), PROMISE)
    assert usual.p95_s == pytest.approx(0.4, rel=0.01)
    assert usual.days > 20
    sick = [(hours[3], hours[3] + timedelta(minutes=30))]
    ill = [*month[:3], cell(3, 9.0), *month[4:6], cell(6, 9.0, "other"), *month[7:]]
    assert latency_baseline(ill, VERSION, sick, PROMISE).p95_s == usual.p95_s
    assert latency_baseline(month[:3], VERSION, (), PROMISE) == LatencyBaseline(PROMISE)
    assert latency_baseline(month, "a new version", (), PROMISE) == LatencyBaseline(PROMISE)


@pytest.mark.parametrize(
    ("late", "rule", "expected"),
    [
        (0, AlertRule.PROMISE, CLEAR),
        (30, AlertRule.PROMISE, CLEAR),  # 15 % of 200: below 6 x 5 %
        (80, AlertRule.PROMISE, FIRING),
        (80, AlertRule.PROMISE_BUDGET, FIRING),
        (9, AlertRule.PROMISE_BUDGET, CLEAR),
    ],
)
def test_a_promise_is_broken_when_its_budget_burns(
    late: int, rule: AlertRule, expected: Signal
) -> None:
    cells = facts(*[(200 - late, late, 5.0)] * 24)
    signals = {found.alert.rule: found for found in alias_findings(cells, None, NOON)}
    assert signals[rule].signal is expected
    assert signals[rule].alert.urgent is (rule is AlertRule.PROMISE)


def test_nothing_is_late_where_a_tier_drops_the_aim() -> None:
    cells = replace(facts(*[(120, 80, 5.0)] * 24), aimed=False)
    signals = {found.alert.rule: found.signal for found in alias_findings(cells, None, NOON)}
    assert signals[AlertRule.PROMISE] is signals[AlertRule.PROMISE_BUDGET] is CLEAR


def test_errors_ring_and_few_requests_do_not() -> None:
    def errors(count: int, requests: int) -> Signal:
        cells = facts(*[(requests - count, 0, 0.0)] * 8, errors=count)
        found = {f.alert.rule: f.signal for f in alias_findings(cells, None, NOON)}
        return found[AlertRule.ERRORS]

    assert errors(20, 100) is FIRING
    assert errors(1, 100) is CLEAR
    assert errors(1, 2) is BETWEEN


def signals(*findings: RuleFinding) -> dict[str, Signal]:
    return {found.alert.id: found.signal for found in findings}


def test_a_client_costs_too_much_above_40_percent_and_is_warned_of_from_30() -> None:
    costs = [
        ProjectedCost("acme", 0.45),
        ProjectedCost("birch", 0.38),
        ProjectedCost("cedar", 0.31),
        ProjectedCost("delta", 0.2),
        ProjectedCost("free", None),
    ]
    found = signals(*fleet_findings(costs, (), (), (), NOON))
    assert found["cost acme"] is FIRING
    assert found["cost birch"] is BETWEEN
    assert found["cost cedar"] is CLEAR
    assert found["cost_warning cedar"] is FIRING
    assert found["cost_warning delta"] is CLEAR
    assert found["cost free"] is UNKNOWN


def test_a_base_that_grows_is_told_two_weeks_ahead_with_a_purchase() -> None:
    grows = BaseForecast("tiny", 14, (0.5, 0.55, 0.6, 0.65), 0.7, ("acme", "birch"), "buy an A100")
    steady = BaseForecast("large", 9, (0.6, 0.61, 0.6, 0.6), 0.7)
    new = BaseForecast("young", 9, (0.9,), 0.7)
    found = [*fleet_findings((), (grows, steady, new), (), (), NOON)]
    assert [f.signal for f in found] == [FIRING, CLEAR, UNKNOWN]
    alert = found[0].alert
    assert alert.value == pytest.approx(0.75)
    assert "14:00" in alert.detail
    assert "acme, birch; buy an A100" in alert.detail


def test_a_starved_alias_names_its_full_servers() -> None:
    waited = Sketch.of_values([0.6] * 60)
    cell = UsageCell(NOON - QUARTER, UsageFigures(60, waited=waited))
    alone = replace(facts((60, 0, 0.0)), quarters=(cell,))
    found = starved(alone, NOON)
    assert (found.signal, found.alert.detail) == (FIRING, "no other alias waits at its servers")
    found = starved(replace(alone, full=("h0", "h1")), NOON)
    assert found.alert.detail == "full, for others wait there too: h0, h1"
