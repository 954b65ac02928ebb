"""Decides whether a judge model may decide gates, by its agreement with people's labels.

`docs/evals.md` has the form of a file of labels. A judge without labels for a client, or with too
little agreement, is advisory: its scores are shown, and no gate is decided by them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from fleet.codec import decode_json
from fleet.errors import ConfigError, Diagnostic, Position
from fleet.evals.golden_item import (
    ACCURACY,
    GROUNDED,
    JUDGE,
    PAIRWISE,
    GoldenItem,
    GoldenItemError,
    golden_item,
)
from fleet.evals.metrics import Answer, Scored
from fleet.evals.run import Sample
from fleet.history import Entry, JudgeCompared
from fleet.spec import JudgeSpec

LEAST_KAPPA = 0.6
"""Lower bound of the agreement beyond chance of a judge that decides; called substantial.

Source:
    Landis and Koch 1977, Biometrics 33: 0.61 to 0.80 substantial.
"""
LEAST_LABELS = 50


@dataclass(frozen=True, slots=True)
class Agreement:
    """The agreement of a judge's verdicts with people's labels."""

    n: int
    """Labelled answers."""
    agreed: int
    unparsable: int
    """Answers to which the judge said neither YES nor NO; counted as disagreement."""
    kappa: float | None
    """Cohen's kappa, -1 to 1; None: all labels are the same, which tells nothing."""

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
        return {**asdict(self), "kappa": kappa, "objection": self.objection}


def agreement(pairs: Sequence[tuple[bool, bool | None]]) -> Agreement:
    """Compare labels with the judge's verdicts on the same answers; None: neither YES nor NO.

    Source:
        Cohen 1960, Educational and Psychological Measurement 20: (po - pe) / (1 - pe).
    """
    n = len(pairs)
    # An unreadable verdict counts as the opposite of the label: the worst possible meaning.
    both = [(label, (not label) if said is None else said) for label, said in pairs]
    agreed = sum(label == said for label, said in both)
    unparsable = sum(said is None for _, said in pairs)
    yes = sum(label for label, _ in both)
    if yes in {0, n}:
        return Agreement(n, agreed, unparsable, None)
    said_yes = sum(said for _, said in both)
    chance = (yes * said_yes + (n - yes) * (n - said_yes)) / n**2
    return Agreement(n, agreed, unparsable, (agreed / n - chance) / (1 - chance))


def objection(entries: Iterable[Entry], judge: JudgeSpec | None, client: str) -> str:
    """Return why a judge decides no gate of a client; empty: the judge may decide.

    The last comparison of this judge in the ledger counts; another model, or another URL, is
    another judge.
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
    """An answer with a person's label."""

    item: GoldenItem
    """Scored by the judge on a single measure."""
    answer: str
    right: bool
    other: str | None = None
    """The answer to compare with; None: the answer is judged by itself."""


def read_labels(content: bytes, file: str) -> tuple[LabelledAnswer, ...]:
    """Read labelled answers; blank lines do not count.

    Raises:
        ConfigError: with every bad line and its place; also when there is none at all.
    """
    labels: list[LabelledAnswer] = []
    wrong: list[Diagnostic] = []
    seen: set[str] = set()
    for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
        if not line.strip():
            continue
        try:
            label = _labelled(line)
            if label.item.id in seen:
                raise GoldenItemError(f"`{label.item.id}` stands twice")
        except (ValueError, RecursionError) as error:
            wrong.append(_wrong(str(error), file, number, line))
            continue
        seen.add(label.item.id)
        labels.append(label)
    if not labels and not wrong:
        wrong.append(_wrong("the file holds no labelled answer", file, 1, ""))
    if wrong:
        raise ConfigError(*wrong)
    return tuple(labels)


def _labelled(line: str) -> LabelledAnswer:
    document = decode_json(line)
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
    other = document.get("other")
    if not isinstance(other, str | None):
        raise GoldenItemError("`other` is not a text")
    options = {"question": document["question"]} if document.get("question") is not None else {}
    judged = {JUDGE: options | ({PAIRWISE: True} if other is not None else {})}
    # The other measure is not judged: labels are given for a single measure.
    metrics: dict[str, dict[str, Any]] = {
        ACCURACY: {"metric": judged, "grounding": None},
        GROUNDED: {"metric": {"finish": {}}, "grounding": judged},
    }
    rest = {key: value for key, value in document.items() if key not in _OWN}
    return LabelledAnswer(golden_item({**rest, **metrics[measure]}), answer, _LABELS[label], other)


def _wrong(detail: str, file: str, line: int, source: str) -> Diagnostic:
    return Diagnostic("FC1305", "Label is wrong", f"{detail}.", Position(file, line, 1), source)


def to_judge(item: GoldenItem) -> tuple[str, ...]:
    """Return the measures of an item that a judge model scores, answer by answer."""
    return tuple(
        measure for measure, check in item.checks.items()
        if check.metric == JUDGE and not (measure == ACCURACY and in_pairs(item))
    )  # fmt: skip


def in_pairs(item: GoldenItem) -> bool:
    """Say whether a judge compares the answers of two versions."""
    check = item.checks[ACCURACY]
    return check.metric == JUDGE and bool(check.options.get(PAIRWISE))


def scored(item: GoldenItem, sample: Sample, judged: Mapping[str, Scored]) -> Sample:
    """Score a sample on every measure of its item.

    `judged` are the judge's scores by measure; a measure without verdict stays unscored.
    """
    answer = Answer(sample.answer, sample.finish, sample.output_tokens)
    scores = {
        measure: item.score(measure, answer)
        for measure, check in item.checks.items()
        if check.metric != JUDGE
    } | dict(judged)
    if in_pairs(item):  # until both versions have answered
        answered = bool(sample.answer.strip())
        scores[ACCURACY] = Scored(float(answered), "" if answered else "an empty answer")
    notes = [f"{measure}: {given.note}" for measure, given in scores.items() if given.note]
    notes += [
        f"{measure}: the judge said neither YES nor NO"
        for measure in to_judge(item)
        if measure not in judged
    ]
    classified = item.checks[ACCURACY].metric == "label"
    return replace(
        sample,
        scores={measure: given.score for measure, given in scores.items()},
        note="; ".join(notes),
        label=scores[ACCURACY].label if ACCURACY in scores else "",
        expected_label=str(item.expected) if classified else "",
    )
