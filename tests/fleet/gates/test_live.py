"""Live verdicts: bad requests of the new version beside the old one's, at any time."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.gates.decide import Finding, Verdict
from fleet.gates.live import judge_live
from fleet.gates.own_control import ByUser, Usual
from fleet.gates.rows import Tally, Window
from fleet.gates.soak import recheck_verdict
from fleet.gates.windows import Baseline
from fleet.policies import GateSpec

NINE = datetime(2026, 3, 2, 9, tzinfo=UTC)
HOUR = timedelta(hours=1)
ERRORS = GateSpec("errors", "error_rate_rise", 2, "pp", alarm_at=0.25)
FORMAT = GateSpec("form", "format_drop", 3, "pp")
LATENCY = GateSpec("latency", "p95_ratio", 1.5, "x")
LIMIT = GateSpec("limit", "error_rate", 2, "%")
BASELINE = GateSpec("baseline", "baseline_ratio", 2, "x")
NEIGHBOURS = GateSpec("neighbours", "neighbour_ratio", 1.25, "x")
PASS, FAIL, UNSURE = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE
LATE_ONES = "late:latency"
KNOWN = Baseline(usual={LATE_ONES: Usual(0.01, requests=5000)})
KINDS = ("format", "truncated", "late:latency", "late:baseline", "late:neighbours")


def tally(requests: int, bad: Mapping[str, int]) -> Tally:
    return Tally(requests, bad, dict.fromkeys(KINDS, requests))


def hours(
    number: int,
    canary: tuple[int, Mapping[str, int]],
    stable: tuple[int, Mapping[str, int]],
    percent: int | None = None,
) -> list[Window]:
    return [
        Window(
            NINE + each * HOUR, NINE + (each + 1) * HOUR, tally(*canary), tally(*stable), percent
        )
        for each in range(number)
    ]


def errors(number: int, bad: int, bad_stable: int, requests: int = 30) -> list[Window]:
    return hours(
        number, (requests, {"errors": bad}), (requests * 9, {"errors": bad_stable}), percent=10
    )


def test_beside_an_old_version_that_is_broken_nothing_passes() -> None:
    found = judge_live(ERRORS, errors(48, 20, 200))
    assert found.verdict is UNSURE
    assert "which is broken itself and shows nothing" in found.reason
    assert recheck_verdict(found.plain()).verdict is UNSURE


@pytest.mark.parametrize(
    ("windows", "verdict"),
    [
        ([], UNSURE),
        (errors(1, 0, 2), UNSURE),
        (errors(48, 0, 2), PASS),
        (errors(30, 1, 0), FAIL),
        (errors(2, 2, 2), UNSURE),
        (errors(12, 2, 2), FAIL),
        (errors(12, 1, 3), UNSURE),
    ],
)
def test_an_error_rate_against_the_old_version(windows: list[Window], verdict: Verdict) -> None:
    assert judge_live(ERRORS, windows).verdict is verdict


@pytest.mark.parametrize(
    ("gate", "other"), [(LATENCY, "the old version"), (NEIGHBOURS, "elsewhere")]
)
def test_a_failure_by_late_requests_names_them(gate: GateSpec, other: str) -> None:
    late = f"late:{gate.name}"
    found = judge_live(gate, hours(10, (144, {late: 30}), (400, {late: 4})))
    assert found.verdict is FAIL
    assert found.reason.startswith(
        f"300 of 1440 took over {gate.threshold:g} times the old p95, {other} 40 of 4000 (99 % "
    )
    assert recheck_verdict(found.plain()) == found


def test_a_finding_says_what_it_rests_on() -> None:
    found = judge_live(ERRORS, errors(12, 2, 2))
    assert found.rule == "rise_by_own_control"
    assert found.counts["bad"] == (2.0,) * 12
    assert found.counts["requests_stable"] == (270.0,) * 12
    assert found.parameters == {"each_window": 1.0,
        "margin": 0.02, "tolerate": 1.25, "alpha": 0.01, "least_requests": 50, "alarm": 0.0025,
        "z": pytest.approx(2.3263, abs=1e-4), "mismatch": 1e-3, "misplaced": 1e-3, "material": 0.05,
    }  # fmt: skip
    assert found.estimate == pytest.approx(2 / 30 - 2 / 270)
    assert found.value is not None
    assert found.value >= 100
    assert found.reason.startswith("24 of 360 bad, the old version 24 of 3240 (99 % sure: at most")


def test_a_failure_stays_one_whatever_comes_after_it() -> None:
    bad, good = errors(12, 2, 2), errors(200, 0, 3)
    assert judge_live(ERRORS, [*bad, *good]).verdict is FAIL
    assert judge_live(ERRORS, [*good, *bad]).value != judge_live(ERRORS, [*bad, *good]).value


@pytest.mark.parametrize(
    ("requests", "bad", "verdict"),
    [(4, 4, UNSURE), (5, 5, FAIL), (1000, 6, FAIL), (2000, 9, UNSURE)],
)
def test_a_failure_needs_five_bad_requests_and_half_a_point(
    requests: int, bad: int, verdict: Verdict
) -> None:
    # The old version makes no mistake at all, so that every bad request is strong evidence.
    windows = hours(1, (requests, {"errors": bad}), (requests * 99, {"errors": 0}))
    gate = replace(ERRORS, threshold=0.01)
    assert judge_live(gate, windows).verdict is verdict


@pytest.mark.parametrize(("least", "verdict"), [(1440, PASS), (1441, UNSURE)])
def test_nothing_passes_on_too_few_requests(least: int, verdict: Verdict) -> None:
    gate = replace(ERRORS, min_requests=least)
    assert judge_live(gate, errors(48, 0, 2)).verdict is verdict


def test_a_kind_that_was_never_told_never_passes() -> None:
    blind = [replace(each, canary=Tally(500), stable=Tally(4500)) for each in errors(48, 0, 0)]
    for gate in (FORMAT, LATENCY, BASELINE, NEIGHBOURS):
        assert judge_live(gate, blind).verdict is UNSURE, gate.name
    assert judge_live(ERRORS, blind).verdict is PASS


def test_the_other_side_must_have_been_seen_too() -> None:
    alone = hours(20, (50, {}), (0, {}))
    assert judge_live(ERRORS, alone).verdict is UNSURE
    assert judge_live(ERRORS, alone).estimate is None


@pytest.mark.parametrize(("late", "verdict"), [(0, PASS), (1, PASS), (5, UNSURE), (20, FAIL)])
def test_a_latency_against_the_old_version(late: int, verdict: Verdict) -> None:
    windows = hours(5, (100, {"late:latency": late}), (900, {"late:latency": 9}), 10)
    found = judge_live(LATENCY, windows)
    assert (found.rule, found.verdict) == ("rise_by_own_control", verdict)
    assert found.estimate == pytest.approx(late / 100 - 0.01)


def test_an_hour_in_which_both_are_late_says_nothing_against_the_new_version() -> None:
    busy = hours(5, (100, {"late:latency": 30}), (900, {"late:latency": 270}), 10)
    calm = hours(10, (100, {"late:latency": 1}), (900, {"late:latency": 9}), 10)
    assert judge_live(LATENCY, busy).verdict is UNSURE
    found = judge_live(LATENCY, [*calm, *busy[:1]], known=KNOWN)
    assert found.verdict is PASS
    assert "without 1 windows in which the old version was out of order" in found.reason


def test_a_version_that_is_late_for_each_of_few_users_fails() -> None:
    def side(late: int) -> Tally:
        users = ByUser(
            hits=2 * bool(late), at_risk=2 if late else 60, exposure=0.02 if late else 0.6,
            expected=0.6, people=2 * bool(late), units=2,
        )  # fmt: skip
        return Tally(60, {LATE_ONES: late}, {LATE_ONES: 60}, {LATE_ONES: users}, 2)

    for late, verdict in ((60, FAIL), (30, UNSURE)):
        window = Window(NINE, NINE + HOUR, side(late), side(0))
        assert judge_live(LATENCY, [window]).verdict is verdict


def test_kinds_that_did_not_occur_are_none() -> None:
    assert judge_live(LATENCY, hours(5, (100, {}), (900, {}), 10)).estimate == 0


@pytest.mark.parametrize(("bad", "verdict"), [(0, PASS), (2, UNSURE), (8, FAIL)])
def test_an_error_rate_against_a_fixed_limit(bad: int, verdict: Verdict) -> None:
    windows = hours(8, (100, {"errors": bad}), (900, {"errors": 900}), 10)
    found = judge_live(LIMIT, windows)
    assert (found.rule, found.verdict) == ("rate_by_own_control", verdict)
    assert found.parameters["limit"] == pytest.approx(0.02)


@pytest.mark.parametrize(("late", "verdict"), [(0, PASS), (100, FAIL)])
def test_both_sides_together_against_the_time_before(late: int, verdict: Verdict) -> None:
    windows = hours(6, (100, {"late:baseline": 0}), (900, {"late:baseline": late}), 10)
    found = judge_live(BASELINE, windows)
    assert found.verdict is verdict
    assert sum(found.counts["requests"]) == 6000  # type: ignore[arg-type]
    assert found.parameters["limit"] == pytest.approx(0.05)


def test_neighbours_on_its_servers_against_neighbours_elsewhere() -> None:
    late = "late:neighbours"
    slower = hours(6, (200, {late: 40}), (200, {late: 2}))
    assert judge_live(NEIGHBOURS, slower).verdict is FAIL
    found = judge_live(NEIGHBOURS, [], alone=True)
    assert (found.verdict, found.reason) == (PASS, "no other adapter shares a server with it")
    assert judge_live(ERRORS, [], alone=True).verdict is UNSURE


def test_a_version_fails_that_is_surely_beyond_its_alarm_and_without_one_beyond_its_limit() -> None:
    windows = hours(40, (300, {"errors": 6}), (2700, {"errors": 27}), 10)  # one point worse
    assert judge_live(ERRORS, windows).verdict is FAIL
    assert judge_live(replace(ERRORS, alarm_at=1.5), windows).verdict is PASS
    assert judge_live(replace(ERRORS, alarm_at=None), windows).verdict is PASS
    worse = hours(40, (300, {"errors": 15}), (2700, {"errors": 27}), 10)
    assert judge_live(replace(ERRORS, alarm_at=None), worse).verdict is FAIL


def test_an_alarm_of_a_time_counts_requests_beyond_it() -> None:
    gate = replace(LATENCY, alarm_at=1.2)
    kinds = {LATE_ONES: 1, "alarm:latency": 20}
    mine = Tally(100, kinds, dict.fromkeys(kinds, 100))
    other = Tally(900, {LATE_ONES: 9, "alarm:latency": 20}, dict.fromkeys(kinds, 900))
    windows = [Window(NINE + n * HOUR, NINE + (n + 1) * HOUR, mine, other) for n in range(5)]
    found = judge_live(gate, windows)
    assert found.verdict is FAIL
    assert recheck_verdict(found.plain()) == found
    assert judge_live(LATENCY, windows).verdict is PASS


def test_the_tolerated_ratio_is_no_finding() -> None:
    # 2 % against 1 %: twice the rate.
    windows = hours(40, (300, {"errors": 6}), (2700, {"errors": 27}), 10)
    assert judge_live(ERRORS, windows).verdict is FAIL
    assert judge_live(replace(ERRORS, tolerate=2.0), windows).verdict is PASS


@pytest.mark.parametrize("usual", [0.001, 0.01])
def test_without_an_alarm_max_decides_beside_an_old_version_that_never_fails(usual: float) -> None:
    gate = GateSpec("errors", "error_rate_rise", 6, "pp")
    known = Baseline(usual={"errors": Usual(usual, requests=5000)})
    verdicts = [
        judge_live(gate, hours(1, (650, {"errors": bad}), (650, {}), 50), known=known).verdict
        for bad in (10, 40, 95)
    ]
    assert verdicts == [PASS, UNSURE, FAIL]


counts = st.tuples(st.integers(0, 40), st.integers(0, 40))


@given(st.lists(st.tuples(counts, counts), max_size=8), st.sampled_from([ERRORS, LATENCY, LIMIT,
       BASELINE, NEIGHBOURS]))  # fmt: skip
@settings(max_examples=60)
def test_every_verdict_is_computed_again_from_its_counts(
    drawn: list[tuple[tuple[int, int], tuple[int, int]]], gate: GateSpec
) -> None:
    windows = [
        window
        for (requests, bad), (more, worse) in drawn
        for window in hours(
            1,
            (requests, dict.fromkeys(("errors", *KINDS), min(bad, requests))),
            (more, dict.fromkeys(("errors", *KINDS), min(worse, more))),
            10,
        )
    ]
    found = judge_live(gate, windows)
    assert recheck_verdict(found.plain()) == Finding.of(found.plain()) == found


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"rule": "gut_feeling"}, "no rule is called"),
        ({"counts": {"bad": [1]}}, "do not fit"),
        ({"counts": {"bad": [1], "requests": []}}, "do not fit"),
        ({"parameters": {}}, "do not fit"),
        ({"verdict": "MAYBE"}, "MAYBE"),
        ({"counts": None}, "not a finding"),
    ],
)
def test_a_damaged_finding_is_refused(change: Mapping[str, object], text: str) -> None:
    plain = judge_live(ERRORS, errors(3, 1, 2)).plain()
    with pytest.raises(ValueError, match=text):
        recheck_verdict({**plain, **change})


def test_a_finding_that_was_tampered_with_shows() -> None:
    plain = judge_live(ERRORS, errors(12, 2, 2)).plain()
    assert recheck_verdict(plain | {"verdict": "PASS"}).verdict is FAIL


@pytest.mark.parametrize("gate", [ERRORS, LIMIT])
def test_a_finding_says_what_its_counts_could_have_shown(gate: GateSpec) -> None:
    said = judge_live(gate, errors(1, 0, 24, requests=360)).power
    least, _, rest = said.partition(" of 360 bad at once would have failed it (")
    assert rest == f"{100 * int(least) / 360:.2g} %)"
    assert judge_live(gate, errors(1, int(least), 24, requests=360)).verdict is FAIL
    assert judge_live(gate, errors(1, int(least) - 1, 24, requests=360)).verdict is not FAIL
    assert judge_live(gate, errors(1, 0, 2, requests=4)).power == (
        "so few requests could not have failed it"
    )
    assert judge_live(gate, ()).power == ""
