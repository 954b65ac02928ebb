"""Decides whether a judge model may decide gates, by its agreement with people's labels.

A file of labels holds one JSON object a line:

    {"id": "l-1", "input": "...", "expected": "...", "answer": "...", "label": "yes"}
    {"id": "l-2", "input": "...", "context": "...", "answer": "...", "label": "no",
     "measure": "grounded", "question": "..."}

`label` is a person's answer to the judge's question, `yes` or `no`; `measure` is `accuracy`
(default) or `grounded`. With `other`, a second answer, `yes` says that `answer` is the better one
and `no` that `other` is: what a judge does on items with `{"judge": {"pairwise": true}}`. All other
keys are those of a golden set.

A judge without labels for a client, or with too little agreement, is advisory: its scores are
shown, and no gate is decided by them.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fleet.errors import ConfigError, Diagnostic, Position
from fleet.evals.answer import Answer, Scored
from fleet.evals.golden_item import (
    ACCURACY,
    GROUNDED,
    PAIRWISE,
    GoldenItem,
    GoldenItemError,
    golden_item,
)
from fleet.evals.metrics import JUDGE
from fleet.evals.run import JudgeSettings, Sample
from fleet.history import Entry, JudgeCompared

LEAST_KAPPA = 0.6
"""Agreement beyond chance from which a judge decides; usually called substantial.

Source:
    Landis and Koch 1977, Biometrics 33: 0.61 to 0.80 substantial.
"""
LEAST_LABELS = 50


@dataclass(frozen=True, slots=True)
class Agreement:
    """How a judge's words compare with people's labels."""

    n: int
    """Labelled answers."""
    agreed: int
    unparsable: int
    """Answers to which it said neither YES nor NO; they count as disagreement."""
    kappa: float | None
    """Cohen's kappa, -1 to 1; None: all labels are the same, and nothing is to be told apart."""

    @property
    def objection(self) -> str:
        """Why the judge decides no gate; empty: the judge may decide."""
        if self.n < LEAST_LABELS:
            return f"it was compared with {self.n} labels, and {LEAST_LABELS} are needed"
        if self.kappa is None:
            return "all labels it was compared with are the same, which proves nothing"
        if round(self.kappa, 9) < LEAST_KAPPA:
            return f"its kappa is {self.kappa:.2f} on {self.n} labels, and {LEAST_KAPPA} is needed"
        return ""

    def plain(self) -> dict[str, Any]:
        """Return the agreement as the ledger keeps the figures."""
        kappa = None if self.kappa is None else round(self.kappa, 4)
        counts = {"n": self.n, "agreed": self.agreed, "unparsable": self.unparsable}
        return {**counts, "kappa": kappa, "objection": self.objection}


def agreement(pairs: Sequence[tuple[bool, bool | None]]) -> Agreement:
    """Compare labels with the judge's of the same answers; None: neither YES nor NO.

    Source:
        Cohen 1960, Educational and Psychological Measurement 20: (po - pe) / (1 - pe).
    """
    n = len(pairs)
    # What cannot be read is the opposite of the label: the worst that it can have meant.
    both = [(label, (not label) if said is None else said) for label, said in pairs]
    agreed = sum(label == said for label, said in both)
    unparsable = sum(said is None for _, said in pairs)
    yes = sum(label for label, _ in both)
    if yes in {0, n}:
        return Agreement(n, agreed, unparsable, None)
    said_yes = sum(said for _, said in both)
    chance = (yes * said_yes + (n - yes) * (n - said_yes)) / n**2
    return Agreement(n, agreed, unparsable, (agreed / n - chance) / (1 - chance))


def objection(entries: Iterable[Entry], judge: JudgeSettings | None, client: str) -> str:
    """Return why a judge decides no gate of a client; empty: the judge may decide.

    Args:
        entries: The ledger, oldest first; the last comparison of this judge counts.
        judge: Who is asked; another model, or another place, is another judge.
        client: Whose answers are judged.
    """
    if judge is None:
        return "no judge is declared (evals: {judge: {url: ..., model: ...}})"
    about, why = (client, judge.url, judge.model), None
    for event in (entry.event for entry in entries):
        if isinstance(event, JudgeCompared) and about == (event.client, event.url, event.model):
            why = event.objection
    if why is None:
        return f"`{judge.model}` was never compared with people's labels for {client}"
    return f"`{judge.model}` is advisory for {client}: {why}" if why else ""


_OWN = ("answer", "label", "measure", "other", "question")
_LABELS: Mapping[Any, bool] = {"yes": True, "no": False, True: True, False: False}


@dataclass(frozen=True, slots=True)
class LabelledAnswer:
    """An answer, and what a person says of it."""

    item: GoldenItem
    """Scored by the judge on one measure."""
    answer: str
    right: bool
    other: str | None = None
    """The answer that it is compared with; None: it is judged by itself."""


def read_labels(content: bytes, file: str) -> tuple[LabelledAnswer, ...]:
    """Read labelled answers; blank lines do not count.

    Raises:
        ConfigError: with every bad line and its place; also when there is none at all.
    """
    found: list[LabelledAnswer] = []
    wrong: list[Diagnostic] = []
    seen: set[str] = set()
    for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
        if not line.strip():
            continue
        try:
            made = _labelled(line)
            if made.item.id in seen:
                raise GoldenItemError(f"`{made.item.id}` stands twice")  # noqa: TRY301 (one text for all)
        except (GoldenItemError, json.JSONDecodeError, RecursionError) as error:
            wrong.append(_wrong(str(error), file, number, line))
            continue
        seen.add(made.item.id)
        found.append(made)
    if not found and not wrong:
        wrong.append(_wrong("the file holds no labelled answer", file, 1, ""))
    if wrong:
        raise ConfigError(*wrong)
    return tuple(found)


def _labelled(line: str) -> LabelledAnswer:
    document = json.loads(line)
    if not isinstance(document, dict):
        raise GoldenItemError("a line is a JSON object")
    answer, label = document.get("answer"), document.get("label")
    if not isinstance(answer, str):
        raise GoldenItemError("`answer` is missing or not a text")
    if not isinstance(label, str | bool) or label not in _LABELS:
        raise GoldenItemError("`label` is `yes` or `no`")
    measure = document.get("measure", ACCURACY)
    if measure not in {ACCURACY, GROUNDED}:
        raise GoldenItemError(f"`measure` is `{ACCURACY}` or `{GROUNDED}`")
    question = document.get("question")
    other_answer = document.get("other")
    if not isinstance(other_answer, str | None):
        raise GoldenItemError("`other` is not a text")
    options = {"question": question} if question is not None else {}
    judged = {JUDGE: options | ({PAIRWISE: True} if other_answer is not None else {})}
    rest = {key: value for key, value in document.items() if key not in _OWN}
    asked = {"accuracy": "metric", "grounded": "grounding"}[measure]
    # The other measure is not judged: labels are given for a single measure.
    other: dict[str, Any] = (
        {"metric": {"finish": {}}} if measure == GROUNDED else {"grounding": None}
    )
    made = golden_item({**rest, **other, asked: judged})
    return LabelledAnswer(made, answer, _LABELS[label], other_answer)


def _wrong(detail: str, file: str, line: int, source: str) -> Diagnostic:
    return Diagnostic("FC1305", "Label is wrong", f"{detail}.", Position(file, line, 1), source)


def to_judge(item: GoldenItem) -> tuple[str, ...]:
    """Return the measures of an item that a judge model scores, answer by answer."""
    judged = (each for each, check in item.checks.items() if check.metric == JUDGE)
    return tuple(measure for measure in judged if not (measure == ACCURACY and in_pairs(item)))


def in_pairs(item: GoldenItem) -> bool:
    """Say whether a judge is asked which of two versions' answers is better."""
    check = item.checks[ACCURACY]
    return check.metric == JUDGE and bool(check.options.get(PAIRWISE))


def scored(item: GoldenItem, sample: Sample, judged: Mapping[str, Scored]) -> Sample:
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
