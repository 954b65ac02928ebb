"""What a run amounts to: counts, pairs, and what keeps it from counting."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from fleet.evals.run import EvalRun, Sample, lines_of, run_of
from fleet.evals.summary import (
    changed_answers,
    macro_f1,
    pair_faults,
    paired_scores,
    summarize,
)
from fleet.spec import EvalSpec, JudgeSpec

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)


def run(*samples: Sample, **more: Any) -> EvalRun:
    given = {
        "id": "r", "alias": "a-b", "adapter": "m", "digest": "d", "purpose": "gate",
        "golden": "x.jsonl", "golden_digest": "g", "items": tuple(f"i{n}" for n in range(3)),
        "must_pass": (), "spec": EvalSpec(max_missing=1), "engine_version": "native 1",
        "samples": samples, "started": NOON, "finished": NOON,
    }  # fmt: skip
    return EvalRun(**{**given, **more})


def sample(number: int, accuracy: float = 1.0, **more: Any) -> Sample:
    scores = {"accuracy": accuracy, **more.pop("scores", {})}
    return Sample(f"i{number}", scores=scores, model="m", fingerprint="e", **more)


WHOLE = tuple(sample(n) for n in range(3))


def test_an_item_that_one_arm_lacks_counts_as_wrong_in_both() -> None:
    stable, canary = run(*WHOLE), run(sample(0), sample(1, 0.0))
    pair = paired_scores(stable, canary)
    assert (pair.items, pair.stable, pair.canary) == (("i0", "i1", "i2"), (1, 1, 0), (1, 0, 0))
    assert pair.missing == 1
    assert pair_faults(stable, canary) == ()
    assert changed_answers(stable, canary) == {"accuracy": {"n": 3, "changed": 1, "worse": 1}}


def test_answers_to_the_same_item_tell_how_much_is_chance() -> None:
    """Of item 0 the old version is right once of twice (variance 0.5), of item 1 the new one."""
    stable = run(sample(0), sample(0, 0.0), sample(1), sample(1), sample(2))
    canary = run(sample(0), sample(0), sample(1, 0.0), sample(1), sample(2, 0.0))
    assert paired_scores(stable, canary).by_chance == pytest.approx(1.0)
    assert paired_scores(run(*WHOLE), canary).by_chance == pytest.approx(0.5)
    assert paired_scores(run(*WHOLE), run(*WHOLE)).by_chance == 0


def test_items_of_a_group_share_a_cluster_and_others_have_their_own() -> None:
    grouped = run(*WHOLE, groups={"i0": "i2", "i1": "i2"})
    first, second, third = paired_scores(grouped, grouped).clusters
    assert first == second != third
    assert len({*paired_scores(run(*WHOLE), run(*WHOLE)).clusters}) == 3
    assert run_of(list(lines_of(grouped))) == grouped


@pytest.mark.parametrize(
    ("canary", "says"),
    [
        (run(sample(0)), "canary: 2 of 3 items have no scored answer, 1 may"),
        (run(), "canary: 3 of 3 items"),
        (run(*WHOLE[:2], must_pass=("i2",)), "`i2` must pass and has no scored answer"),
        (run(*WHOLE, items=()), "canary: the golden set is empty"),
        (run(*WHOLE, golden_digest="other"), "of different golden sets"),
        (run(*WHOLE, spec=EvalSpec(samples=2, max_missing=9)), "asked in different ways"),
        (run(*(replace(each, model="base") for each in WHOLE)), "from `base` instead of `m`"),
        (run(*(replace(each, fingerprint="f") for each in WHOLE)), "by different engines"),
        (run(*WHOLE, serving="another"), "its version or its flags differ"),
        (run(*WHOLE[:2], replace(WHOLE[2], fingerprint="f")), "canary: several engines"),
        (run(*(Sample(f"i{n}", error="gone") for n in range(3))), "i0: gone"),
    ],
)
def test_what_keeps_a_pair_from_counting(canary: EvalRun, says: str) -> None:
    assert any(says in each for each in pair_faults(run(*WHOLE, serving="one"), canary))


def test_repetitions_of_a_must_pass_item_change_no_average() -> None:
    tried = (sample(0, 0.0), replace(sample(0), sample=1, retry=True), *WHOLE[1:])
    found = summarize(run(*tried, must_pass=("i0", "i1")))
    assert (found["accuracy"], found["must_pass_failed"]) == (0.6667, [])
    failed = (sample(0, 0.0), replace(sample(0, 0.0), sample=1, retry=True), *WHOLE[1:])
    assert summarize(run(*failed, must_pass=("i0",)))["must_pass_failed"] == ["i0"]
    assert summarize(run(*WHOLE[1:], must_pass=("i0",)))["must_pass_failed"] == []


def test_hallucination_and_format_are_rates_of_their_own() -> None:
    samples = [
        sample(n, scores={"grounded": float(n > 0), "format": float(n > 1)}) for n in range(3)
    ]
    found = summarize(run(*samples))
    assert (found["hallucination_rate"], found["format"]) == (0.3333, 0.3333)
    assert found["levels"]["grounded"] == {"good": 2.0, "n": 3}
    assert summarize(run(*WHOLE))["hallucination_rate"] is None


def test_macro_f1_over_classes() -> None:
    pairs = [("a", "a"), ("a", "b"), ("b", "b"), ("c", "")]
    samples = [Sample("i0", expected_label=wanted, label=said) for wanted, said in pairs]
    assert macro_f1(samples) == pytest.approx((2 / 3 + 2 / 3 + 0) / 3, abs=1e-4)
    assert macro_f1(WHOLE) is None


def test_a_run_reads_back_from_its_lines() -> None:
    made = run(
        *WHOLE,
        Sample("i1", 3, "ü\n", {"grounded": 0.5}, "n", "l", "k", "length", 4, 0.1, "m", "e", True),
        Sample("i2", error="gone"),
        must_pass=("i1",),
        spec=EvalSpec(judge=JudgeSpec("http://j", "m", "env:K"), command=("a", "{url}")),
    )  # fmt: skip
    assert run_of(list(lines_of(made))) == made
    with pytest.raises(ValueError, match="head of an evaluation"):
        run_of(['{"item": "i1"}'])
    with pytest.raises(ValueError, match="lacks or has too much"):
        run_of(['{"eval_run": 1}'])
    with pytest.raises(ValueError, match="line 1 is not JSON"):
        run_of([])
