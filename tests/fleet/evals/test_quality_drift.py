"""Drift rules: at their edges, and over simulated years.

`python -m tests.fleet.evals.test_quality_drift` prints the table that `docs/evals.md` quotes.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from fleet.evals.records import (
    RETRAIN_CONFIDENCE,
    DriftStatus,
    QualityLevel,
    drifts,
    eval_records,
    judge_anchor,
    judge_rolling,
    ratchet,
)
from fleet.evals.run import due_evaluations
from fleet.history.events import Entry, event_of
from fleet.names import AdapterName
from fleet.spec import AdapterSpec

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)
NAME = "acme-support-tiny-v1.0.0"
WEEK = timedelta(days=7)


@pytest.mark.parametrize(
    ("changed", "n", "floor", "standing"),
    [
        (6, 40, QualityLevel(0, 40), DriftStatus.STEADY),
        (7, 40, QualityLevel(0, 40), DriftStatus.SERVING),
        (7, 100, QualityLevel(2, 100), DriftStatus.SERVING),
        (9, 300, QualityLevel(6, 300), DriftStatus.STEADY),
        (0, 200, None, DriftStatus.STEADY),
        (3, 200, None, DriftStatus.STEADY),
        (9, 200, None, DriftStatus.SERVING),
        (9, 200, QualityLevel(6, 200), DriftStatus.SERVING),
        (6, 200, QualityLevel(6, 200), DriftStatus.STEADY),
        (30, 200, QualityLevel(6, 200), DriftStatus.SERVING),
        (3, 20, QualityLevel(0, 20), DriftStatus.STEADY),
        (0, 0, None, DriftStatus.UNKNOWN),
    ],
)
def test_the_frozen_set_alarms_on_more_than_three_times_the_noise_floor(
    changed: int, n: int, floor: QualityLevel | None, standing: DriftStatus
) -> None:
    assert judge_anchor(changed, changed, n, floor).standing is standing


def test_answers_that_change_both_ways_are_noise() -> None:
    assert judge_anchor(9, 5, 100, QualityLevel(6, 200)).standing is DriftStatus.STEADY
    assert judge_anchor(9, 8, 100, QualityLevel(6, 200)).standing is DriftStatus.STEADY
    assert judge_anchor(9, 9, 100, QualityLevel(6, 200)).standing is DriftStatus.SERVING


BASE = QualityLevel(950, 1000)


@pytest.mark.parametrize(
    ("weeks", "standing"),
    [
        ([], DriftStatus.UNKNOWN),
        ([(95, 100)] * 4, DriftStatus.STEADY),
        ([(88, 100)], DriftStatus.STEADY),
        ([(88, 100)] * 2, DriftStatus.WATCH),
        ([(88, 100)] * 3, DriftStatus.WATCH),
        ([(88, 100)] * 4, DriftStatus.RETRAIN),
        ([(80, 100)], DriftStatus.RETRAIN),
        ([(18, 20)], DriftStatus.STEADY),
        ([(88, 100)] * 4 + [(95, 100)] * 3, DriftStatus.STEADY),
        ([(45, 50)] * 4, DriftStatus.WATCH),
        ([(93, 100)] * 4, DriftStatus.STEADY),
        ([(93_000, 100_000)] * 4, DriftStatus.STEADY),
    ],
)
def test_fresh_sets_ask_for_a_retraining_when_four_are_surely_worse_or_one_by_far(
    weeks: Sequence[tuple[float, int]], standing: DriftStatus
) -> None:
    assert judge_rolling(BASE, [QualityLevel(*each) for each in weeks]).standing is standing


def test_without_a_result_after_training_nothing_is_judged() -> None:
    assert judge_rolling(None, [QualityLevel(1, 100)] * 4).standing is DriftStatus.UNKNOWN
    assert ratchet(None, QualityLevel(1, 100)).standing is DriftStatus.UNKNOWN


def test_a_slide_of_two_points_a_release_is_seen_at_the_second_release() -> None:
    levels = [QualityLevel(each, 1000) for each in (950, 930, 910)]
    best = max(levels[:2], key=lambda each: each.share)
    assert ratchet(levels[0], levels[1]).standing is DriftStatus.STEADY
    assert ratchet(best, levels[2]).standing is DriftStatus.WATCH


def yearly(
    n: int,
    baseline: int,
    drop: float,
    weeks: int,
    years: int,
    confidence: float = RETRAIN_CONFIDENCE,
) -> float:
    """Return in what share of simulated times a retraining was asked for."""
    chance = np.random.default_rng(7)
    asked = 0
    for _ in range(years):
        first = QualityLevel(float(chance.binomial(baseline, 0.85)), baseline)
        sets = [QualityLevel(float(each), n) for each in chance.binomial(n, 0.85 - drop, weeks)]
        asked += any(
            judge_rolling(first, sets[:end], confidence=confidence).standing is DriftStatus.RETRAIN
            for end in range(1, weeks + 1)
        )
    return asked / years


def test_a_healthy_year_seldom_asks_for_a_retraining_and_a_fall_does_in_time() -> None:
    assert yearly(100, 1000, 0.0, 52, 1000) <= 0.08
    assert yearly(300, 1000, 0.0, 52, 1000) <= 0.05
    assert yearly(300, 1000, 0.05, 8, 100) >= 0.7  # 80 % within eight weeks
    assert yearly(100, 1000, 0.10, 8, 100) >= 0.95


def test_a_bound_of_95_percent_at_each_look_would_cry_wolf_in_every_other_healthy_year() -> None:
    assert yearly(100, 1000, 0.0, 52, 200, confidence=0.95) >= 0.4


def entry(number: int, purpose: str, at: datetime, name: str = NAME, **summary: Any) -> Entry:
    data = {
        "run": f"r{number}", "alias": "acme-support", "adapter": name, "purpose": purpose,
        "summary": {
            "valid": True, "golden": summary.pop("path", ""),
            "golden_digest": f"g{summary.pop('golden', 0)}", **summary,
        },
    }  # fmt: skip
    return Entry(number, at, event_of("eval_finished", data), "run", "me", 0, "", "")


def scored(good: float, n: int = 200) -> dict[str, Any]:
    return {"levels": {"accuracy": {"good": good, "n": n}}}


def test_a_set_that_nobody_replaced_is_not_fresh_twice() -> None:
    anchor = entry(1, "anchor", NOON, **scored(190))
    stale = [entry(n, "rolling", NOON + n * WEEK, golden=1, **scored(170)) for n in range(2, 6)]
    fresh = [entry(n, "rolling", NOON + n * WEEK, golden=n, **scored(170)) for n in range(2, 6)]

    def standings(*past: Entry) -> list[DriftStatus]:
        return [each.standing for each in drifts(eval_records(past)["acme-support"], NAME)]

    assert standings(anchor, *stale) == [DriftStatus.STEADY]
    assert standings(anchor, *fresh) == [DriftStatus.RETRAIN]
    broken = [entry(9, "rolling", NOON, golden=9, **scored(170)) for _ in range(9)]
    assert standings(anchor, *broken) == [DriftStatus.STEADY]


def told(*past: Entry, name: str = NAME) -> dict[str, tuple[DriftStatus, str]]:
    found = drifts(eval_records(past)["acme-support"], name)
    return {each.rule: (each.standing, each.reason) for each in found}


def test_a_gate_on_another_set_gives_no_baseline() -> None:
    hard = entry(1, "gate", NOON, path="golden/hard.jsonl", golden=90, **scored(120))
    own = entry(2, "gate", NOON, path="golden/own.jsonl", golden=91, **scored(190))
    fresh = [entry(n, "rolling", NOON + n * WEEK, golden=n, **scored(140)) for n in range(3, 7)]
    assert told(hard, own, *fresh)["rolling"] == (
        DriftStatus.UNKNOWN, "no result after training on its own golden set was evaluated"
    )  # fmt: skip
    anchor = entry(7, "anchor", NOON, path="golden/own.jsonl", golden=91, **scored(190))
    assert told(hard, own, *fresh, anchor)["rolling"][0] is DriftStatus.RETRAIN
    assert told(own, *fresh)["rolling"][0] is DriftStatus.RETRAIN


def test_an_edit_of_the_golden_set_is_said_where_versions_are_compared() -> None:
    newer = NAME.replace("v1.0.0", "v1.1.0")
    old = entry(1, "gate", NOON, path="golden/own.jsonl", golden=1, **scored(190))
    same = entry(2, "gate", NOON + WEEK, newer, path="golden/own.jsonl", golden=1, **scored(160))
    edited = entry(2, "gate", NOON + WEEK, newer, path="golden/own.jsonl", golden=2, **scored(160))
    assert told(old, same, name=newer)["ratchet"][0] is DriftStatus.WATCH
    assert told(old, edited, name=newer)["ratchet"] == (
        DriftStatus.UNKNOWN,
        f"golden/own.jsonl was changed since {NAME} was evaluated on it: the two do not compare",
    )


def test_an_evaluation_that_does_not_count_is_not_counted() -> None:
    past = eval_records(
        [
            entry(1, "anchor", NOON, **scored(200)),
            entry(2, "anchor", NOON, valid=False, compared={"accuracy": {"n": 200, "changed": 99}}),
        ]
    )["acme-support"]
    assert drifts(past, NAME) == ()


def adapter(rolling: str | None) -> AdapterSpec:
    return AdapterSpec(
        AdapterName.parse(NAME), "careful", None, "short_generation", 1, None, "g.jsonl", (),
        rolling=rolling,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("past", "rolling", "engine", "expected"),
    [
        ([], "r.jsonl", "a", ["anchor", "rolling"]),
        ([], None, "a", ["anchor"]),
        ([("anchor", WEEK - timedelta(seconds=1), {})], None, "a", []),
        ([("anchor", WEEK, {})], None, "a", ["anchor"]),
        ([("anchor", timedelta(), {"valid": False})], None, "a", ["anchor"]),
        ([("anchor", timedelta(), {"serving": "b"})], None, "a", ["anchor"]),
        ([("anchor", timedelta(), {"serving": "a"})], None, "a", []),
        ([("anchor", timedelta(), {})], "r.jsonl", "a", ["rolling"]),
    ],
)
def test_what_is_due(
    past: list[tuple[str, timedelta, dict[str, Any]]],
    rolling: str | None,
    engine: str,
    expected: list[str],
) -> None:
    entries = [entry(1, purpose, NOON - ago, **more) for purpose, ago, more in past]
    serving = {"acme-support": (adapter(rolling), NAME, engine)}
    assert [
        each.purpose for each in due_evaluations(serving, eval_records(entries), WEEK, NOON)
    ] == expected


if __name__ == "__main__":
    print("| baseline | items a week | healthy year | at 95 % | -5 points, 8 weeks | -10 points |")
    print("|---|---|---|---|---|---|")
    for size, n in ((200, 100), (1000, 100), (300, 300), (1000, 300), (1000, 1000)):
        shares = [
            yearly(n, size, 0.0, 52, 1000),
            yearly(n, size, 0.0, 52, 1000, confidence=0.95),
            yearly(n, size, 0.05, 8, 1000),
            yearly(n, size, 0.10, 8, 1000),
        ]
        print(f"| {size} | {n} | " + " | ".join(f"{each:.0%}" for each in shares) + " |")
