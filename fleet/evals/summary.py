"""Decides whether a run counts, and computes its scores: by item, averages, pairs.

A run that does not count proves nothing, for or against a version. A run counts when every item
has its answers, up to the declared number of missing answers, and when all answers come from the
wanted version and from a single engine.
"""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from statistics import fmean, variance
from typing import Any

from fleet.evals.golden_item import ACCURACY, FORMAT, GROUNDED, MEASURES
from fleet.evals.run import EvalRun, Sample, decoding_of


@dataclass(frozen=True, slots=True)
class Pair:
    """The scores of both arms on the same items, in the same order; for a paired test."""

    items: tuple[str, ...]
    stable: tuple[float, ...]
    """Mean score by item, 0 to 1; missing in either arm counts as 0 in both."""
    canary: tuple[float, ...]
    missing: int
    clusters: tuple[str, ...]
    """Names by item, shared by the items of a group alone."""
    by_chance: float = 0.0
    """Variance of the difference of single answers by chance, summed over items; 0: unknown."""


def missing(run: EvalRun) -> tuple[str, ...]:
    """Return the items that lack an answer or a score, in the set's order."""
    scored: dict[str, int] = defaultdict(int)
    for sample in counted(run):
        scored[sample.item] += ACCURACY in sample.scores
    return tuple(item for item in run.items if scored[item] < run.spec.samples)


def counted(run: EvalRun) -> list[Sample]:
    """Return the answers that averages are made of."""
    return [sample for sample in run.samples if not sample.retry and not sample.error]


def run_faults(run: EvalRun) -> tuple[str, ...]:
    """Return why a run does not count; empty: the run counts."""
    lacking = missing(run)
    faults = [] if run.items else ["the golden set is empty"]
    if len(lacking) > run.spec.max_missing:
        item = lacking[0]
        reasons = (sample.error or sample.note for sample in run.samples if sample.item == item)
        faults.append(
            f"{len(lacking)} of {len(run.items)} items have no scored answer, "
            f"{run.spec.max_missing} may; {item}: {next(reasons, 'not answered')}"
        )
    elif len(lacking) == len(run.items):
        faults.append("no item has a scored answer")
    if unasked := [item for item in run.must_pass if item in lacking]:
        faults.append(f"`{unasked[0]}` must pass and has no scored answer")
    if strangers := [model for model in run.models if model != run.adapter]:
        faults.append(f"answers came from `{strangers[0]}` instead of `{run.adapter}`")
    if len(run.fingerprints) > 1:
        faults.append(f"several engines answered: {', '.join(run.fingerprints)}")
    return tuple(faults)


def pair_faults(
    stable: EvalRun, canary: EvalRun, *, engines_differ: bool = False
) -> tuple[str, ...]:
    """Return why two runs cannot be compared, with the faults of both.

    `engines_differ`: the engines are what is compared.
    """
    arms = {"stable": stable, "canary": canary}
    faults = [f"{arm}: {fault}" for arm, run in arms.items() for fault in run_faults(run)]
    if stable.golden_digest != canary.golden_digest:
        faults.append("the two runs are of different golden sets")
    if decoding_of(stable.spec) != decoding_of(canary.spec):
        faults.append("the two runs asked in different ways")
    if engines_differ:
        return tuple(faults)
    prints = {*stable.fingerprints, *canary.fingerprints}
    if not faults and len(prints) > 1:
        faults.append(f"the two runs were answered by different engines: {', '.join(prints)}")
    elif not faults and stable.serving and canary.serving and stable.serving != canary.serving:
        faults.append("the engine, its version or its flags differ between the two runs")
    return tuple(faults)


def vector(run: EvalRun, measure: str = ACCURACY) -> dict[str, float]:
    """Return mean scores on a measure by item, 0 to 1."""
    return {item: fmean(scores) for item, scores in _by_item(run, measure).items()}


def _by_item(run: EvalRun, measure: str) -> dict[str, list[float]]:
    scores: dict[str, list[float]] = defaultdict(list)
    for sample in counted(run):
        if measure in sample.scores:
            scores[sample.item].append(sample.scores[measure])
    return {item: scores[item] for item in run.items if item in scores}


def paired_scores(stable: EvalRun, canary: EvalRun, measure: str = ACCURACY) -> Pair:
    """Pair two runs item by item; items that neither run scores are left out.

    Only the items that the canary was asked count: it may have been told sooner than stable.
    """
    left, right = _by_item(stable, measure), _by_item(canary, measure)
    asked = {*canary.items}
    items = tuple(
        item for item in stable.items if item in asked and (item in left or item in right)
    )
    both = left.keys() & right.keys()
    first, second = (
        tuple(fmean(scores[item]) if item in both else 0.0 for item in items)
        for scores in (left, right)
    )
    groups = stable.groups or {}
    clusters = tuple(f"g {groups[item]}" if item in groups else f"i {item}" for item in items)
    several = (scores[item] for scores in (left, right) for item in items if item in both)
    by_chance = sum(variance(scores) for scores in several if len(scores) > 1)
    absent = sum(item not in both for item in items)
    return Pair(items, first, second, absent, clusters, by_chance)


def changed_answers(before: EvalRun, after: EvalRun) -> dict[str, dict[str, int]]:
    """Count, by measure, the items whose score differs between two runs of the same set."""
    pairs = {measure: paired_scores(before, after, measure) for measure in MEASURES}
    scores = {name: [*zip(p.stable, p.canary, strict=True)] for name, p in pairs.items() if p.items}
    return {
        measure: {
            "n": len(both),
            "changed": sum(old != new for old, new in both),
            "worse": sum(old > new for old, new in both),
        }
        for measure, both in scores.items()
    }


def must_pass_failed(run: EvalRun) -> tuple[str, ...]:
    """Return the `must_pass` items that were answered, and not rightly enough.

    Asked once: none of the answers is right, repetitions included, so that a single flicker fails
    no version. Asked several times: at most half of those answers are right.
    """
    right: dict[str, list[bool]] = defaultdict(list)
    for sample in run.samples:
        if ACCURACY in sample.scores and not (sample.retry and run.spec.samples > 1):
            right[sample.item].append(sample.scores[ACCURACY] >= 1.0)
    return tuple(
        item for item in run.must_pass
        if (verdicts := right.get(item))
        and (2 * sum(verdicts) <= len(verdicts) if run.spec.samples > 1 else not any(verdicts))
    )  # fmt: skip


def summarize(run: EvalRun) -> dict[str, Any]:
    """Return a run's figures in plain form, as the ledger and the library keep them.

    Averages are shares from 0 to 1 over items; a missing item counts as 0.
    """
    vectors = {measure: vector(run, measure) for measure in MEASURES}
    right, grounded = vectors[ACCURACY], vectors[GROUNDED]
    answers = counted(run)
    tokens = [answer.output_tokens for answer in answers if answer.output_tokens is not None]
    f1 = macro_f1(answers)
    return {
        "n": len(run.items),
        "scored": len(right),
        "missing": len(missing(run)),
        "accuracy": _rounded(sum(right.values()) / len(run.items)) if right else None,
        "correct": sum(score == 1.0 for score in right.values()),
        "format": _mean(vectors[FORMAT].values()),
        "hallucination_rate": _rounded(1.0 - fmean(grounded.values())) if grounded else None,
        "levels": {
            measure: {"good": _rounded(sum(scores.values())), "n": len(scores)}
            for measure, scores in vectors.items()
            if scores
        },
        "must_pass_failed": list(must_pass_failed(run)),
        "valid": not run_faults(run),
        "faults": list(run_faults(run)),
        "output_tokens": sum(tokens),
        "tokens_per_answer": _mean(tokens),
    } | ({"macro_f1": f1} if f1 is not None else {})


def macro_f1(samples: Sequence[Sample]) -> float | None:
    """Return the mean F1 over the expected classes; None where nothing was classified.

    Source:
        Sokolova and Lapalme 2009, macro-averaged F-score: per class 2 tp / (2 tp + fp + fn).
    """
    pairs = [(sample.expected_label, sample.label) for sample in samples if sample.expected_label]
    if not pairs:
        return None
    scores = []
    for name in {wanted for wanted, _ in pairs}:
        hits = sum(wanted == named == name for wanted, named in pairs)
        misses = sum((wanted == name) != (named == name) for wanted, named in pairs)
        scores.append(2 * hits / (2 * hits + misses))
    return _mean(scores)


def _mean(values: Collection[float]) -> float | None:
    return _rounded(fmean(values)) if values else None


def _rounded(value: float) -> float:
    return round(value, 4)
