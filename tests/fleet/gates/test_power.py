"""How likely a gate is to tell: the preview against the published and simulated figures."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from fleet.gates import power
from fleet.gates.decide import Verdict
from fleet.gates.offline import judge_binary, judge_graded, judge_paired
from fleet.policies import GateSpec
from tests.fleet.gates.simulation import flagged, golden_runs, graded_runs, paths, shares_of

ERRORS = GateSpec("errors", "error_rate_rise", 2, "pp", alarm_at=0.25)
FORMAT = GateSpec("form", "format_drop", 3, "pp", alarm_at=0.25)
SEVERAL = GateSpec("answers", "accuracy_drop", 3, "pp", samples=5)
LATENCY = GateSpec("latency", "p95_ratio", 1.5, "x", alarm_at=1.2)


def verdict(items: int, worse: int, better: int) -> str:
    counts = {"items": items, "worse": worse, "better": better, "good": items,
              "must_pass_failed": 0}  # fmt: skip
    return judge_binary("g", "accuracy_drop", counts, {"margin": 0.03, "floor": 0}).verdict.value


@pytest.mark.parametrize(
    ("items", "discordance", "drop"),
    [(60, 0.2, 0.0), (100, 0.1, 0.03), (300, 0.05, 0.0), (300, 0.2, 0.05), (1000, 0.1, 0.03)],
)
def test_one_sample_of_each_item_is_worked_out_exactly(
    items: int, discordance: float, drop: float
) -> None:
    rng = np.random.default_rng(4)
    found = shares_of(partial(verdict, items), *golden_runs(rng, 6000, items, discordance, drop))
    passes, fails = power.paired_power(items, discordance, 1, 0.03, drop)
    assert 100 * passes == pytest.approx(found["PASS"], abs=2)
    assert 100 * fails == pytest.approx(found["FAIL"], abs=2)


@pytest.mark.parametrize(("items", "samples"), [(60, 10), (100, 3), (200, 5)])
def test_of_several_samples_no_more_is_promised_than_comes_true(items: int, samples: int) -> None:
    rng = np.random.default_rng(5)
    borderline = 0.4  # of which two answers differ once in four times
    for drop, place, verdict in ((0.0, 0, Verdict.PASS), (0.06, 1, Verdict.FAIL)):
        drawn = graded_runs(rng, 600, items, samples, drop, borderline=borderline)
        found = [each.verdict for each in drawn].count(verdict) / 600
        told = power.paired_power(items, borderline / 4, samples, 0.03, drop)[place]
        assert found - 0.13 <= told <= found + 0.06


@pytest.mark.parametrize("differ", [0.0, 0.06])
def test_counts_tell_what_is_chance_from_what_lasts(differ: float) -> None:
    """Some items are answered rightly half of the time, and some by one version alone."""
    rng = np.random.default_rng(6)
    found, passes = [], 0
    for _ in range(300):
        chance = np.where(rng.random(200) < 0.1, 0.5, 1.0)
        wrong = rng.random(200)
        old, new = (
            rng.binomial(1, np.where(mine, 0.0, chance), (5, 200))
            for mine in (wrong < differ / 2, wrong > 1 - differ / 2)
        )
        by_chance = float((old.var(axis=0, ddof=1) + new.var(axis=0, ddof=1)).sum())
        scores = (old.mean(axis=0).tolist(), new.mean(axis=0).tolist())
        made = judge_paired(SEVERAL, *scores, by_chance=by_chance)
        passes += made.verdict is Verdict.PASS
        whole, part = power.differed(made.counts) or (0.0, None)
        assert part is not None
        found.append([whole, part])
    differed, lasting = np.mean(found, axis=0)
    assert differed - lasting == pytest.approx(0.05, abs=0.005)
    assert lasting == pytest.approx(differ, abs=0.006)
    told = power.paired_power(200, differed, 5, 0.03, 0.0, lasting)[0]
    assert told == pytest.approx(passes / 300, abs=0.1)
    assert (power.paired_power(200, differed, 50, 0.03, 0.0, lasting)[0] < 0.8) is (differ > 0)


def test_what_lasts_is_met_by_more_items_and_hardly_by_more_samples() -> None:
    assert power.items_needed(0.1, 5, 0.03, 0.08) > 2.5 * power.items_needed(0.1, 5, 0.03)
    few, many = (power.certifiable(100, 0.1, samples, 0.08) for samples in (5, 100))
    assert few - many < 0.005
    counts = {
        "items": 100.0,
        "clusters": 100.0,
        "drop": 2.0,
        "drop_squares": 6.0,
        "good": 90.0,
        "good_squares": 9.0,
        "must_pass_failed": 0.0,
        "samples": 5.0,
        "by_chance": 10.0,
    }
    limits = {"margin": 0.03, "floor": 0.0, "pseudo_items": 1.5}
    found = judge_graded("g", "accuracy_drop", counts, limits)
    assert found.power == (
        "finds a drop of 7.3 pp 4 times in 5; with twice the samples 6.9 pp, with twice the items "
        "5.1 pp"
    )


def test_more_samples_say_more() -> None:
    found = [power.paired_power(200, 0.15, samples, 0.03, 0.0)[0] for samples in (1, 3, 5, 10)]
    assert found == sorted(found)
    assert found[-1] > 0.85


def test_a_small_golden_set_passes_nothing() -> None:
    assert power.paired_power(19, 0.1, 1, 0.03, 0.0) == (0.0, 0.0)
    assert power.paired_power(19, 0.1, 10, 0.5, 0.0) == (0.0, 0.0)
    assert power.paired_power(20, 0.01, 1, 0.5, 0.0)[0] == pytest.approx(1, abs=1e-4)


def test_what_a_set_can_certify_and_how_large_it_must_be() -> None:
    assert power.certifiable(120, 0.09, 1) == pytest.approx(0.071, abs=0.0005)
    needed = {psi: power.items_needed(psi, 1, 0.03) for psi in (0.02, 0.05, 0.10, 0.20)}
    assert needed == pytest.approx({0.02: 183, 0.05: 366, 0.1: 698, 0.2: 1378}, abs=1)
    for psi, items in needed.items():
        assert power.paired_power(items, psi, 1, 0.03, 0.0)[0] == pytest.approx(0.81, abs=0.015)
    assert power.items_needed(0.1, 5, 0.03) == 201
    assert power.certifiable(201, 0.1, 5) <= 0.03 < power.certifiable(200, 0.1, 5)


@pytest.mark.parametrize(("items", "samples"), [(20, 1), (60, 1), (60, 5), (200, 1), (300, 3)])
def test_equal_answers_pass_at_the_least_limit_of_a_set_and_at_none_below(
    items: int, samples: int
) -> None:
    least = power.certifiable(items, 0.0, samples)
    scores = [1.0] * items if samples == 1 else [0.6] * items
    for margin, verdict in ((least + 1e-9, Verdict.PASS), (least - 1e-9, Verdict.INCONCLUSIVE)):
        gate = GateSpec("g", "accuracy_drop", 100 * margin, "pp", samples=samples)
        assert judge_paired(gate, scores, scores).verdict is verdict


@pytest.mark.parametrize(("requests", "published"), [(200, 47), (500, 93)])
def test_the_requests_after_which_a_rise_is_caught(requests: int, published: float) -> None:
    found = 100 * power.catching(ERRORS, requests, 9 * requests, power.UsualRate(0.01))
    assert published - 10 < found < published + 3


def test_catching_is_no_more_than_the_test_that_is_looked_at_all_the_time() -> None:
    rng = np.random.default_rng(6)
    drawn = paths(rng, 3000, 6, (0.05, 0.01), windows=48)
    found = 100 * np.isfinite(flagged(drawn, 1.25, 0.01)).mean()
    assert found - 10 < 100 * power.catching(ERRORS, 288, 2592, power.UsualRate(0.01)) < found + 2


def test_without_an_alarm_harm_just_beyond_the_limit_is_hardly_caught() -> None:
    bare = replace(ERRORS, alarm_at=None)
    assert power.catching(bare, 540, 4860) < 0.1
    assert power.catching(ERRORS, 540, 4860) > 0.7


def test_no_requests_catch_nothing() -> None:
    assert power.catching(ERRORS, 0, 0) == 0
    assert power.catching(ERRORS, 100, 0) == 0


@pytest.mark.parametrize(
    ("gate", "rates"),
    [
        (ERRORS, (0.01, 0.05)),
        (FORMAT, (0.03, 0.09)),
        (LATENCY, (0.026, 0.214)),
        (GateSpec("limit", "error_rate", 2, "%"), (0.02, 0.08)),
        (GateSpec("limit", "p95_latency", 500, "ms"), (0.05, 0.2)),
    ],
)
def test_what_harm_means(gate: GateSpec, rates: tuple[float, float]) -> None:
    assert power.harm(gate) == pytest.approx(rates, abs=0.001)
    assert power.catching(gate, 1300, 11_700) > 0.99
