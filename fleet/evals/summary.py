"""Decides whether a run counts, and computes its scores: of each item, averages, pairs.

A run that does not count proves nothing, for or against a version. A run counts when every item
has its answers, up to the declared number of missing ones, when the version that was asked
for gave all of them, and when one engine did.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from fleet.evals.golden_item import ACCURACY, FORMAT, GROUNDED, MEASURES
from fleet.evals.run import EvalRun, Sample

HALLUCINATION = "hallucination_rate"


@dataclass(frozen=True, slots=True)
class Pair:
    """The scores of both arms on the same items, in the same order; for a paired test."""

    items: tuple[str, ...]
    stable: tuple[float, ...]
    """Mean score of each item, 0 to 1; missing in either arm counts as 0 in both."""
    canary: tuple[float, ...]
    missing: int


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
    found: list[str] = []
    lacking = missing(run)
    if not run.items:
        found.append("the golden set is empty")
    if len(lacking) > run.spec.max_missing:
        why = next(
            (sample.error or sample.note for sample in run.samples if sample.item == lacking[0]),
            "not answered",
        )
        found.append(
            f"{len(lacking)} of {len(run.items)} items have no scored answer, "
            f"{run.spec.max_missing} may; {lacking[0]}: {why}"
        )
    elif len(lacking) == len(run.items):
        found.append("no item has a scored answer")
    unasked = [item_id for item_id in run.must_pass if item_id in lacking]
    if unasked:
        found.append(f"`{unasked[0]}` must pass and has no scored answer")
    strangers = [model for model in run.models if model != run.adapter]
    if strangers:
        found.append(f"answers came from `{strangers[0]}` instead of `{run.adapter}`")
    if len(run.fingerprints) > 1:
        found.append(f"several engines answered: {', '.join(run.fingerprints)}")
    return tuple(found)


def pair_faults(stable: EvalRun, canary: EvalRun) -> tuple[str, ...]:
    """Return why two runs cannot be compared, with the faults of both."""
    found = [f"stable: {fault}" for fault in run_faults(stable)]
    found += [f"canary: {fault}" for fault in run_faults(canary)]
    if stable.golden_digest != canary.golden_digest:
        found.append("the two runs are of different golden sets")
    if stable.spec.decoding() != canary.spec.decoding():
        found.append("the two runs asked in different ways")
    prints = {*stable.fingerprints, *canary.fingerprints}
    if not found and len(prints) > 1:
        found.append(f"the two runs were answered by different engines: {', '.join(prints)}")
    elif not found and stable.serving and canary.serving and stable.serving != canary.serving:
        found.append("the engine, its version or its flags differ between the two runs")
    return tuple(found)


def vector(run: EvalRun, measure: str = ACCURACY) -> dict[str, float]:
    """Return mean scores on a measure by item, 0 to 1."""
    scores: dict[str, list[float]] = defaultdict(list)
    for sample in counted(run):
        if measure in sample.scores:
            scores[sample.item].append(sample.scores[measure])
    return {item: fmean(scores[item]) for item in run.items if item in scores}


def paired_scores(stable: EvalRun, canary: EvalRun, measure: str = ACCURACY) -> Pair:
    """Pair two runs item by item; items that neither is scored on are left out."""
    left, right = vector(stable, measure), vector(canary, measure)
    items = tuple(item for item in stable.items if item in left or item in right)
    whole = {item for item in items if item in left and item in right}
    return Pair(
        items,
        tuple(left[item] if item in whole else 0.0 for item in items),
        tuple(right[item] if item in whole else 0.0 for item in items),
        len(items) - len(whole),
    )


def changed_answers(before: EvalRun, after: EvalRun) -> dict[str, dict[str, int]]:
    """Count, by measure, the items whose score differs between two runs of the same set."""
    found = {}
    for measure in MEASURES:
        pair = paired_scores(before, after, measure)
        both = list(zip(pair.stable, pair.canary, strict=True))
        if both:
            found[measure] = {
                "n": len(both),
                "changed": sum(old != new for old, new in both),
                "worse": sum(old > new for old, new in both),
            }
    return found


def must_pass_failed(run: EvalRun) -> tuple[str, ...]:
    """Return the `must_pass` items that were answered, and not rightly enough.

    Asked once: none of the answers is right, repetitions included, so that a flicker fails
    nobody. Asked several times: not more than half of those answers are.
    """
    right: dict[str, list[bool]] = defaultdict(list)
    for sample in run.samples:
        if ACCURACY in sample.scores and not (sample.retry and run.spec.samples > 1):
            right[sample.item].append(sample.scores[ACCURACY] >= 1.0)
    return tuple(
        item_id for item_id in run.must_pass
        if (said := right.get(item_id))
        and (2 * sum(said) <= len(said) if run.spec.samples > 1 else not any(said))
    )  # fmt: skip


def summarize(run: EvalRun) -> dict[str, Any]:
    """Return a run's figures in plain form, as the ledger and the library keep them.

    Averages are shares from 0 to 1 over items; a missing item counts as 0.
    """
    vectors = {measure: vector(run, measure) for measure in MEASURES}
    lacking = missing(run)
    right = vectors[ACCURACY]
    figures: dict[str, Any] = {
        "n": len(run.items),
        "scored": len(right),
        "missing": len(lacking),
        "accuracy": _rounded(sum(right.values()) / len(run.items)) if right else None,
        "correct": sum(verdicts == 1.0 for verdicts in right.values()),
        "format": _mean(vectors[FORMAT]),
        HALLUCINATION: None,
        "levels": {
            each: {"good": _rounded(sum(scores.values())), "n": len(scores)}
            for each, scores in vectors.items()
            if scores
        },
        "must_pass_failed": list(must_pass_failed(run)),
        "valid": not run_faults(run),
        "faults": list(run_faults(run)),
    }
    if vectors[GROUNDED]:
        figures[HALLUCINATION] = _rounded(1.0 - fmean(vectors[GROUNDED].values()))
    figures |= _tokens(counted(run))
    f1 = macro_f1(counted(run))
    return figures | ({"macro_f1": f1} if f1 is not None else {})


def _tokens(samples: Sequence[Sample]) -> dict[str, Any]:
    tokens = [sample.output_tokens for sample in samples if sample.output_tokens is not None]
    return {"output_tokens": sum(tokens), "tokens_per_answer": _mean(dict(enumerate(tokens)))}


def length_ratio(stable: EvalRun, canary: EvalRun) -> float | None:
    """Return how many times as many tokens the canary's answers have; None: not known."""
    before = _tokens(counted(stable))["tokens_per_answer"]
    after = _tokens(counted(canary))["tokens_per_answer"]
    return after / before if before and after else None


def macro_f1(samples: Sequence[Sample]) -> float | None:
    """Return the mean F1 over the expected classes; None where nothing was classified.

    Source:
        Sokolova and Lapalme 2009, macro-averaged F-score: per class 2 tp / (2 tp + fp + fn).
    """
    pairs = [(sample.expected_label, sample.label) for sample in samples if sample.expected_label]
    if not pairs:
        return None
    scores = {}
    for name in {wanted for wanted, _ in pairs}:
        hits = sum(wanted == said == name for wanted, said in pairs)
        misses = sum((wanted == name) != (said == name) for wanted, said in pairs)
        scores[name] = 2 * hits / (2 * hits + misses)
    return _mean(scores)


def _mean(values: Mapping[Any, float]) -> float | None:
    return _rounded(fmean(values.values())) if values else None


def _rounded(value: float) -> float:
    return round(value, 4)
