"""Paired verdicts on golden sets: PASS, FAIL and not knowing."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.gates.decide import Finding, Verdict
from fleet.gates.offline import PSEUDO_ITEMS, judge_paired
from fleet.gates.soak import recheck_verdict
from fleet.policies import GateSpec

GATE = GateSpec("accuracy", "accuracy_drop", 3, "pp")


def binary(items: int, worse: int, better: int, right: int = 0) -> tuple[list[float], list[float]]:
    """Return scores with so many pairs that only one got right; `right`: both did."""
    both = items - worse - better - right
    stable = [1.0] * worse + [0.0] * better + [1.0] * right + [0.0] * both
    canary = [0.0] * worse + [1.0] * better + [1.0] * right + [0.0] * both
    return stable, canary


@pytest.mark.parametrize(
    ("items", "worse", "better", "verdict"),
    [
        (300, 0, 0, Verdict.PASS),
        (300, 8, 6, Verdict.PASS),
        (300, 9, 6, Verdict.INCONCLUSIVE),
        (300, 20, 8, Verdict.FAIL),
        (1000, 20, 8, Verdict.PASS),
        (100, 5, 0, Verdict.FAIL),
        (100, 4, 0, Verdict.INCONCLUSIVE),
        (70, 0, 0, Verdict.INCONCLUSIVE),
        (76, 0, 0, Verdict.PASS),
        (19, 0, 0, Verdict.INCONCLUSIVE),
        (0, 0, 0, Verdict.INCONCLUSIVE),
    ],
)
def test_yes_or_no_scores(items: int, worse: int, better: int, verdict: Verdict) -> None:
    pairs = binary(items, worse, better, right=items - worse - better)
    assert judge_paired(GATE, *pairs).verdict is verdict


def test_a_golden_set_on_which_neither_is_ever_right_tells_nothing() -> None:
    found = judge_paired(GATE, *binary(300, 0, 0))
    assert (found.verdict, found.reason) == (
        Verdict.INCONCLUSIVE,
        "neither version is right once: the golden set tells nothing",
    )
    assert recheck_verdict(found.plain()).verdict is Verdict.INCONCLUSIVE
    assert judge_paired(GATE, *binary(300, 40, 0)).verdict is Verdict.FAIL


def test_a_finding_says_what_it_rests_on() -> None:
    found = judge_paired(GATE, *binary(300, 20, 8, 260))
    assert found.rule == "paired_binary"
    assert found.counts == {
        "items": 300, "worse": 20, "better": 8, "good": 268, "must_pass_failed": 0
    }  # fmt: skip
    assert found.parameters == {"margin": pytest.approx(0.03), "floor": 0.0}
    assert found.estimate == pytest.approx(0.04)
    assert found.value == pytest.approx(0.01785, abs=1e-4)
    assert found.reason == (
        "drop of 4.0 pp on 300 items (95 % sure: at most 6.9 pp): worse, and not within 3.0 pp"
    )
    assert found.power == "finds a drop of 4.5 pp 4 times in 5"


def test_no_drop_beyond_all_answers_is_told() -> None:
    found = judge_paired(GATE, *binary(40, 40, 0, 0))
    assert found.upper is not None
    assert found.upper > 1
    assert found.reason.startswith("drop of 100.0 pp on 40 items (95 % sure: at most 100.0 pp): ")
    few = judge_paired(GATE, *binary(2, 1, 1, 0))
    assert few.power == "finds no drop 4 times in 5"


def test_without_items_nothing_is_said() -> None:
    found = judge_paired(GATE, [], [])
    assert (found.estimate, found.lower, found.upper, found.power) == (None, None, None, "")
    assert found.reason == "no item was scored"


@pytest.mark.parametrize("margin", [2.0, 7.0])
def test_a_wider_margin_passes_more(margin: float) -> None:
    gate = replace(GATE, threshold=margin)
    expected = Verdict.PASS if margin > 3 else Verdict.INCONCLUSIVE
    assert judge_paired(gate, *binary(300, 8, 6)).verdict is expected


@pytest.mark.parametrize(
    ("drops", "verdict"),
    [
        ([0.0] * 95 + [0.2] * 5, Verdict.INCONCLUSIVE),
        ([0.0] * 195 + [0.2] * 5, Verdict.PASS),
        ([0.2] * 50 + [0.0] * 50, Verdict.FAIL),
        ([0.6, -0.6] * 50, Verdict.INCONCLUSIVE),
        ([0.1] * 15, Verdict.INCONCLUSIVE),
    ],
)
def test_graded_scores(drops: list[float], verdict: Verdict) -> None:
    stable = [max(0.0, each) for each in drops]
    canary = [max(0.0, -each) for each in drops]
    found = judge_paired(GATE, stable, canary)
    assert (found.rule, found.verdict) == ("paired_graded", verdict)


def test_items_of_one_document_count_together() -> None:
    stable = [1.0] * 394 + [0.0] * 6
    canary = [0.0] * 10 + [1.0] * 390
    assert judge_paired(GATE, stable, canary).verdict is Verdict.PASS
    clusters = [str(each // 16) for each in range(400)]
    found = judge_paired(GATE, stable, canary, clusters=clusters)
    assert found.rule == "paired_graded"
    assert found.counts["clusters"] == 25
    assert found.verdict is Verdict.INCONCLUSIVE


def test_clusters_below_the_least_number_never_pass() -> None:
    stable, canary = [0.5] * 400, [0.5, 0.499] * 200
    clusters = [str(each // 40) for each in range(400)]
    assert judge_paired(GATE, stable, canary, clusters=clusters).verdict is Verdict.INCONCLUSIVE
    assert judge_paired(GATE, stable, canary).verdict is Verdict.PASS


def test_scores_without_any_spread_are_no_certainty() -> None:
    assert judge_paired(GATE, [0.7] * 30, [0.7] * 30).verdict is Verdict.INCONCLUSIVE
    assert judge_paired(GATE, [0.7] * 30, [0.7] * 30).rule == "paired_graded"


@pytest.mark.parametrize("items", [20, 25, 40, 60])
def test_one_worse_answer_does_not_make_a_set_pass_that_is_too_small(items: int) -> None:
    whole = [1.0] * items
    for canary in (whole, [0.8, *whole[1:]], [0.96, *whole[1:]]):
        assert judge_paired(GATE, whole, canary).verdict is Verdict.INCONCLUSIVE
    groups = [str(each % items) for each in range(10 * items)]
    alike = judge_paired(GATE, whole * 10, whole * 10, clusters=groups)
    assert (alike.rule, alike.verdict) == ("paired_graded", Verdict.INCONCLUSIVE)
    assert alike.value == 0.5


def test_a_finding_of_graded_scores_from_before_is_judged_by_the_rule_of_its_time() -> None:
    found = judge_paired(GATE, [1.0] * 25, [0.8] + [1.0] * 24)
    assert found.parameters["pseudo_items"] == PSEUDO_ITEMS
    plain = found.plain()
    plain["parameters"].pop("pseudo_items")
    plain["counts"].pop("cluster_size")
    earlier = recheck_verdict(plain)
    assert earlier.verdict is Verdict.PASS
    assert earlier.upper == pytest.approx(0.0217, abs=1e-4)


def test_one_item_that_must_pass_and_failed_is_enough() -> None:
    found = judge_paired(GATE, *binary(1000, 0, 0, 1000), must_pass_failed=["t-7"])
    assert (found.verdict, found.reason) == (Verdict.FAIL, "items that must pass and failed: 1")


@pytest.mark.parametrize(("good", "verdict"), [(230, Verdict.FAIL), (260, Verdict.PASS)])
def test_a_floor_holds_whatever_the_old_version_reached(good: int, verdict: Verdict) -> None:
    gate = replace(GATE, floor=0.85)
    assert judge_paired(gate, *binary(300, 0, 0, good)).verdict is verdict


def test_a_floor_holds_for_graded_scores_too() -> None:
    gate = replace(GATE, floor=0.9)
    scores = [0.7, 0.75] * 50
    found = judge_paired(gate, scores, [each - 0.001 * (i % 2) for i, each in enumerate(scores)])
    assert found.verdict is Verdict.FAIL
    assert found.reason == "at most 73 % are good, and 90 % must be"


@pytest.mark.parametrize(
    ("stable", "canary", "clusters", "text"),
    [
        ([1.0], [1.0, 0.0], None, "same items"),
        ([1.0], [1.0], ["a", "b"], "same items"),
        ([1.5], [1.0], None, "between 0 and 1"),
        ([1.0], [float("nan")], None, "between 0 and 1"),
    ],
)
def test_scores_that_cannot_be_paired(
    stable: list[float], canary: list[float], clusters: list[str] | None, text: str
) -> None:
    with pytest.raises(ValueError, match=text):
        judge_paired(GATE, stable, canary, clusters=clusters)


scores = st.lists(
    st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from([0.0, 0.5, 1.0])), max_size=60
)


@given(scores, st.integers(1, 10))
@settings(max_examples=60)
def test_every_verdict_is_computed_again_from_its_counts(
    both: list[tuple[float, float]], groups: int
) -> None:
    clusters = [str(each % groups) for each in range(len(both))]
    stable, canary = [each for each, _ in both], [each for _, each in both]
    found = judge_paired(GATE, stable, canary, clusters=clusters)
    assert recheck_verdict(found.plain()) == Finding.of(found.plain()) == found
