"""What a plan says of a rollout's gates before they are asked."""

from dataclasses import replace
from datetime import timedelta

import pytest

from fleet.config.scalars.quantities import parse_duration
from fleet.gates.decide import Counts, percent_text
from fleet.history.values import History
from fleet.policies import AUTO, EndpointFaults, GoldenFacts, RolloutPolicy
from fleet.rollouts.evidence import gates_of
from fleet.rollouts.forecast import _span, forecast_rollouts, outlook
from fleet.spec import DemandSpec, FleetSpec
from tests.fleet.planning.builders import NOON
from tests.fleet.rollouts.gate_trials import (
    ACCURACY,
    ALIAS,
    ALONE,
    FAIL,
    GATED,
    GOLDEN,
    OLD,
    UNSURE,
    declared,
    evidence,
    override,
    past,
    shared,
    wanted,
)


def said(
    what: FleetSpec, before: History | None = None, *, live: object = None
) -> tuple[dict[str, str], str]:
    history = before or past(None)
    made = wanted(live or ALONE, history, NOON, what)  # type: ignore[arg-type]
    gates, chances = forecast_rollouts(what, made, history)
    return {gate.gate: gate.power for gate in gates}, str(outlook(made, chances)) if chances else ""


def fleet(
    items: int = 300, peak_rpm: float | None = 5, rollout: RolloutPolicy = GATED
) -> FleetSpec:
    demand = None if peak_rpm is None else DemandSpec(peak_rpm, (9, 18))
    made = declared(rollout=rollout, demand=demand)
    return replace(made, golden={GOLDEN: GoldenFacts("9" * 64, items)} if items else {})


def test_a_golden_set_that_is_too_small_says_what_would_help() -> None:
    gates, likely = said(fleet(120))
    assert gates["accuracy"] == (
        "120 items x 1, 10 % differ (taken as usual): an unchanged version gets PASS 24 %, "
        "INCONCLUSIVE 74 %; a drop of 6.0 pp gets FAIL 58 %. "
        "To be surer: 580 more items, or max: 8pp"
    )
    assert likely == (
        "acme-support: if 2.2.0 is no worse, it is promoted by itself with 23 %, held for people "
        "with 74 %, failed by mistake with 2.6 %"
    )


def test_items_of_a_group_count_as_one_in_the_forecast() -> None:
    grouped = replace(fleet(), golden={GOLDEN: GoldenFacts("9" * 64, 360, repeated=240)})
    gates, _ = said(grouped)
    assert gates["accuracy"].startswith("360 items in 120 groups x 1, 10 % differ")
    assert gates["accuracy"].partition(":")[2] == said(fleet(120))[0]["accuracy"].partition(":")[2]


def test_a_limit_of_a_gate_may_be_what_its_golden_set_can_show() -> None:
    made = fleet(60)
    auto = replace(made.gates["accuracy"], threshold=0, unit=AUTO)
    assert auto.limit == AUTO
    made = replace(made, gates={**made.gates, "accuracy": auto})
    (gate, _), _chances = forecast_rollouts(made, wanted(ALONE, past(None), NOON, made), past(None))
    assert (gate.gate, gate.threshold) == ("accuracy", "11 pp")
    assert "an unchanged version gets PASS 82 %" in gate.power
    larger = replace(made, golden={GOLDEN: GoldenFacts("9" * 64, 300)})
    assert gates_of(larger, larger.adapters[ALIAS])[0].limit == "5 pp"


def test_replays_are_forecast_by_the_newest_captured_requests() -> None:
    made = fleet(60)
    replay = replace(made.gates["accuracy"], metric="replay_drop")
    made = replace(made, gates={**made.gates, "accuracy": replay})
    assert said(made)[0]["accuracy"] == (
        "300 captured requests x 1, 2 % differ (taken as usual): an unchanged version gets PASS "
        "95 %, INCONCLUSIVE 3.6 %; a drop of 6.0 pp gets FAIL 100 %"
    )


def test_a_large_golden_set_needs_no_help() -> None:
    gates, likely = said(fleet(1000, 50))
    assert gates["accuracy"].endswith("a drop of 6.0 pp gets FAIL 100 %")
    assert "promoted by itself with 91 %" in likely


def test_what_differed_last_time_is_used() -> None:
    seen = evidence("accuracy", percent=0)
    counts = {"items": 298.0, "worse": 3.0, "better": 2.0, "good": 290.0}
    unsure = replace(seen.finding, counts=counts, verdict=UNSURE)
    before = past(0, replace(seen, finding=unsure))
    gates, _ = said(fleet(300), before, live=shared(0, 100))
    assert gates["accuracy"].startswith("300 items x 1, 2 % differ (as last time): an unchanged")


CHANCE = "10 % by the chance of an answer, 0 % every time"
LASTS = "10 % by the chance of an answer, 18 % every time"


@pytest.mark.parametrize(
    ("items", "squares", "basis", "fixes"),
    [
        (120, 3.0, CHANCE, "samples: 10 (PASS 60 %), or 160 more items, or max: 5pp"),
        (160, 3.0, CHANCE, "samples: 10, or 120 more items, or max: 5pp"),
        (120, 30.0, LASTS, "samples: 10 (PASS 16 %), or 1360 more items, or max: 11pp"),
    ],
)
def test_answers_of_last_time_say_whether_more_samples_help(
    items: int, squares: float, basis: str, fixes: str
) -> None:
    seen = evidence("accuracy", percent=0)
    counts = {
        "items": 150.0, "clusters": 150.0, "drop": 1.0, "drop_squares": squares,
        "samples": 5.0, "by_chance": 15.0,
    }  # fmt: skip
    unsure = replace(seen.finding, counts=counts, verdict=UNSURE)
    made = fleet(items)
    answers = replace(made.gates["accuracy"], samples=3)
    made = replace(made, gates={**made.gates, "accuracy": answers})
    gates, _ = said(made, past(0, replace(seen, finding=unsure)), live=shared(0, 100))
    assert f"(as last time: {basis}): an" in gates["accuracy"]
    assert gates["accuracy"].endswith(f". To be surer: {fixes}")


def test_of_answers_given_once_more_samples_are_advised_with_a_doubt() -> None:
    seen = evidence("accuracy", percent=0)
    counts = {"items": 298.0, "worse": 15.0, "better": 14.0, "good": 290.0}
    unsure = replace(seen.finding, counts=counts, verdict=UNSURE)
    gates, _ = said(fleet(300), past(0, replace(seen, finding=unsure)), live=shared(0, 100))
    assert "To be surer: samples: 3 if what differs is chance, or " in gates["accuracy"]


def test_without_a_golden_set_the_gate_can_never_pass() -> None:
    gates, likely = said(fleet(0))
    assert gates["accuracy"] == "golden/support.jsonl holds no item, so this gate can never pass"
    assert "held for people with 100 %" in likely


AT_FIVE = (
    "540 requests at 10 % in 48 h, 1 % bad (taken as usual): a healthy version gets PASS 98 %; a "
    "rise from 1 % to 5 % is caught with at least 3.3 %. To catch it sooner: alarm: 0.25pp (79 %)"
)
AT_ONE = (
    "108 requests at 10 % in 48 h, 1 % bad (taken as usual): a healthy version gets PASS 47 %; a "
    "rise from 1 % to 5 % is caught with at least 0.14 %. "
    "To be surer: low_traffic: 50%, or max_bake: 96h. To catch it sooner: alarm: 0.25pp (8.4 %)"
)


@pytest.mark.parametrize(
    ("peak_rpm", "text"),
    [
        (None, "no demand is declared, so nothing can be said of it"),
        (0.0, "no demand is declared, so nothing can be said of it"),
        (5, AT_FIVE),
        (1, AT_ONE),
    ],
)
def test_the_declared_traffic_says_how_much_will_be_seen(peak_rpm: float | None, text: str) -> None:
    gates, _ = said(fleet(1000, peak_rpm))
    assert gates["errors"] == text


@pytest.mark.parametrize(
    ("counts", "text"),
    [
        ({"bad_stable": (40.0,), "requests_stable": (8000.0,)}, "0.5 % bad (as seen on 8000 requ"),
        ({"bad_stable": (0.0,), "requests_stable": (8000.0,)}, "0.01 % bad (as seen on 8000 requ"),
        ({"bad_stable": (9.0,), "requests_stable": (199.0,)}, "1 % bad (taken as usual)"),
        (
            {"bad_stable": (80.0,), "requests_stable": (8000.0,), "dispersion": 8.0},
            "1 % bad (as seen on 8000 requests), of users who ask often, so that 8.0 of theirs",
        ),
    ],
)  # fmt: skip
def test_what_traffic_showed_of_the_old_version_is_used_and_said(counts: Counts, text: str) -> None:
    seen = evidence("errors", adapter=OLD)
    told = replace(seen.finding, counts=counts)
    gates, _ = said(fleet(1000), past(None, replace(seen, finding=told)))
    assert text in gates["errors"]


def test_what_was_recorded_is_used_where_no_rollout_has_shown_anything() -> None:
    demand = DemandSpec(5, (9, 18), faults=EndpointFaults(6000, errors=30))
    gates, _ = said(replace(declared(demand=demand), golden={GOLDEN: GoldenFacts("9" * 64, 300)}))
    assert "0.5 % bad (as seen on 6000 requests)" in gates["errors"]
    few = replace(demand, faults=EndpointFaults(100, errors=30))
    gates, _ = said(replace(declared(demand=few), golden={GOLDEN: GoldenFacts("9" * 64, 300)}))
    assert "1 % bad (taken as usual)" in gates["errors"]


def test_what_has_passed_or_was_accepted_is_no_longer_at_stake() -> None:
    before = past(10, evidence("accuracy"), evidence("errors", FAIL))
    what = replace(fleet(120, 50), overrides=(override(),))
    gates, likely = said(what, before, live=shared(10, 90))
    assert gates == {"accuracy": "", "errors": ""}
    assert "promoted by itself with 100 %" in likely


def test_a_rollout_without_gates_or_one_that_ends_has_no_outlook() -> None:
    assert said(fleet(rollout=replace(GATED, gates=()))) == ({}, "")
    unsure = past(0, evidence("accuracy", UNSURE, percent=0))
    assert said(fleet(), unsure, live=shared(0, 100))[1] == ""
    failed = past(10, evidence("errors", FAIL))
    assert said(fleet(), failed, live=shared(10, 90))[1] == ""


def test_samples_are_counted() -> None:
    what = fleet(160)
    what = replace(what, gates={**what.gates, "accuracy": replace(ACCURACY, samples=10)})
    gates, _ = said(what)
    assert gates["accuracy"].startswith(
        "160 items x 10, 10 % differ (taken as usual): an unchanged"
    )
    assert "To be surer" not in gates["accuracy"]
    assert ALIAS in said(what)[1]


@pytest.mark.parametrize(
    ("length", "text", "written"),
    [
        (timedelta(hours=48), "48 h", "48h"),
        (timedelta(minutes=90), "90 min", "90m"),
        (timedelta(minutes=1), "1 min", "1m"),
        (timedelta(seconds=90.5), "90.5 s", "90.5s"),
    ],
)
def test_times_are_whole_and_can_be_declared(length: timedelta, text: str, written: str) -> None:
    assert (_span(length, " "), _span(length)) == (text, written)
    assert parse_duration(written) == length


def test_a_chance_that_is_next_to_none_is_told_as_that() -> None:
    assert [percent_text(each) for each in (0.0, 9e-7, 2.5e-4, 0.5)] == [
        "0 %",
        "under 0.01 %",
        "0.025 %",
        "50 %",
    ]
