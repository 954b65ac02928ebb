"""One answer becomes one scored sample."""

from collections.abc import Mapping
from dataclasses import replace

from fleet.evals.answer import Answer, Scored
from fleet.evals.items import ACCURACY, PAIRWISE, Item
from fleet.evals.metrics import JUDGE
from fleet.evals.run import Sample


def to_judge(item: Item) -> tuple[str, ...]:
    """Return the measures of an item that a judge model scores, one answer by itself."""
    judged = (each for each, check in item.checks.items() if check.metric == JUDGE)
    return tuple(each for each in judged if not (each == ACCURACY and in_pairs(item)))


def in_pairs(item: Item) -> bool:
    """Say whether a judge is asked which of two versions' answers is better."""
    check = item.checks[ACCURACY]
    return check.metric == JUDGE and bool(check.options.get(PAIRWISE))


def scored(item: Item, sample: Sample, judged: Mapping[str, Scored]) -> Sample:
    """Score a sample on every measure of its item.

    Args:
        item: The question.
        sample: Its answer, not scored yet.
        judged: What a judge said, by measure; what it did not say stays unscored.
    """
    answer = Answer(sample.answer, sample.finish, sample.output_tokens)
    found = {
        measure: item.score(measure, answer)
        for measure in item.checks
        if item.checks[measure].metric != JUDGE
    }
    found |= judged
    if in_pairs(item):  # until both versions have answered
        given = bool(sample.answer.strip())
        found[ACCURACY] = Scored(float(given), "" if given else "an empty answer")
    notes = [f"{measure}: {each.note}" for measure, each in found.items() if each.note]
    notes += [
        f"{measure}: the judge said neither YES nor NO"
        for measure in to_judge(item)
        if measure not in judged
    ]
    accuracy = item.checks[ACCURACY]
    return replace(
        sample,
        scores={measure: each.score for measure, each in found.items()},
        note="; ".join(notes),
        label=found[ACCURACY].label if ACCURACY in found else "",
        expected_label=str(item.expected) if accuracy.metric == "label" else "",
    )
