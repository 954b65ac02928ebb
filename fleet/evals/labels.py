"""Labelled answers: what people say of answers, one JSON object a line, to compare a judge with.

    {"id": "l-1", "input": "...", "expected": "...", "answer": "...", "label": "yes"}
    {"id": "l-2", "input": "...", "context": "...", "answer": "...", "label": "no",
     "measure": "grounded", "question": "..."}

With `other`, a second answer, `yes` says that `answer` is the better one and `no` that `other` is:
what a judge does on items with `{"judge": {"pairwise": true}}`.

All but `answer`, `label`, `measure` and `question` is as in a golden set. `label` is what a person
answers to the judge's question, `yes` or `no`; `measure` is `accuracy` (default) or `grounded`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fleet.errors import ConfigError, Diagnostic, Place
from fleet.evals.items import ACCURACY, GROUNDED, PAIRWISE, Item, ItemError, item
from fleet.evals.metrics import JUDGE

_OWN = ("answer", "label", "measure", "other", "question")
_LABELS: Mapping[Any, bool] = {"yes": True, "no": False, True: True, False: False}


@dataclass(frozen=True, slots=True)
class Labelled:
    """An answer, and what a person says of it."""

    item: Item
    """Scored by the judge on one measure."""
    answer: str
    right: bool
    other: str | None = None
    """The answer that it is compared with; None: it is judged by itself."""


def read_labels(content: bytes, file: str) -> tuple[Labelled, ...]:
    """Read labelled answers; blank lines do not count.

    Raises:
        ConfigError: with every bad line and its place; also when there is none at all.
    """
    found: list[Labelled] = []
    wrong: list[Diagnostic] = []
    seen: set[str] = set()
    for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
        if not line.strip():
            continue
        try:
            made = _labelled(line)
            if made.item.id in seen:
                raise ItemError(f"`{made.item.id}` stands twice")  # noqa: TRY301 (one text for all)
        except (ItemError, json.JSONDecodeError, RecursionError) as error:
            wrong.append(_wrong(str(error), file, number, line))
            continue
        seen.add(made.item.id)
        found.append(made)
    if not found and not wrong:
        wrong.append(_wrong("the file holds no labelled answer", file, 1, ""))
    if wrong:
        raise ConfigError(*wrong)
    return tuple(found)


def _labelled(line: str) -> Labelled:
    document = json.loads(line)
    if not isinstance(document, dict):
        raise ItemError("a line is a JSON object")
    answer, label = document.get("answer"), document.get("label")
    if not isinstance(answer, str):
        raise ItemError("`answer` is missing or not a text")
    if not isinstance(label, str | bool) or label not in _LABELS:
        raise ItemError("`label` is `yes` or `no`")
    measure = document.get("measure", ACCURACY)
    if measure not in {ACCURACY, GROUNDED}:
        raise ItemError(f"`measure` is `{ACCURACY}` or `{GROUNDED}`")
    question = document.get("question")
    other_answer = document.get("other")
    if not isinstance(other_answer, str | None):
        raise ItemError("`other` is not a text")
    options = {"question": question} if question is not None else {}
    judged = {JUDGE: options | ({PAIRWISE: True} if other_answer is not None else {})}
    rest = {key: value for key, value in document.items() if key not in _OWN}
    asked = {"accuracy": "metric", "grounded": "grounding"}[measure]
    # The other measure is not judged: whoever labels answers looks at one thing.
    other: dict[str, Any] = (
        {"metric": {"finish": {}}} if measure == GROUNDED else {"grounding": None}
    )
    made = item({**rest, **other, asked: judged})
    return Labelled(made, answer, _LABELS[label], other_answer)


def _wrong(detail: str, file: str, line: int, source: str) -> Diagnostic:
    return Diagnostic("FC1305", "Label is wrong", f"{detail}.", Place(file, line, 1), source)
