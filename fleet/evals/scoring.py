"""One answer becomes one scored sample."""

from collections.abc import Mapping
from dataclasses import replace

from fleet.evals.answer import Answer, Scored
from fleet.evals.items import ACCURACY, Item
from fleet.evals.metrics import JUDGE
from fleet.evals.run import Sample


def to_judge(item: Item) -> tuple[str, ...]:
    """Return the measures of an item that a judge model scores."""
    return tuple(each for each, check in item.checks.items() if check.metric == JUDGE)


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
