"""Reads a golden item: the question, the expectation, the metrics that score the answer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fleet.errors import did_you_mean
from fleet.evals.metrics import Answer, Metric, Scored
from fleet.evals.metrics.structure import (
    DECLARED_FORMAT,
    GROUNDED_NUMBERS,
    JSON_FIELDS,
    JSON_SCHEMA,
    LABEL,
    NUMERIC,
)
from fleet.evals.metrics.texts import CONTAINS, EXACT, FINISH, INTACT, LENGTH_RATIO, REFUSAL, REGEX

METRICS: Mapping[str, Metric] = {
    "exact": EXACT,
    "contains": CONTAINS,
    "regex": REGEX,
    "numeric": NUMERIC,
    "label": LABEL,
    "json_schema": JSON_SCHEMA,
    "json_fields": JSON_FIELDS,
    "finish": FINISH,
    "length_ratio": LENGTH_RATIO,
    "refusal": REFUSAL,
    "grounded_numbers": GROUNDED_NUMBERS,
    "declared_format": DECLARED_FORMAT,
    "intact": INTACT,
}

JUDGE = "judge"
"""Name of the metric that a model at another endpoint scores; options: `question`."""
USUAL_MAX_TOKENS = 256
ACCURACY, FORMAT, GROUNDED = "accuracy", "format", "grounded"
MEASURES = (ACCURACY, FORMAT, GROUNDED)
"""Properties that an item's answer may be scored on, from 0 to 1; more is better."""
PAIRWISE = "pairwise"
"""Option of `judge`: the judge says which of two versions' answers is better."""
MUST_PASS = "must_pass"  # noqa: S105 (a tag)
"""Tag of an item that a version must answer well, good averages or not."""
KEYS = frozenset(
    {
        "id", "input", "messages", "prompt", "system", "expected", "metric", "format",
        "grounding", "context", "tags", "max_tokens", "group",
    }
)  # fmt: skip


class GoldenItemError(ValueError):
    """The fault of an item, a sentence without full stop; the reader of the file adds the place."""

    def __init__(self, text: str, hint: str = "") -> None:
        super().__init__(text)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class ItemCheck:
    """The metric of a measure of an item."""

    metric: str
    """A key of `METRICS`, or `judge`."""
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class GoldenItem:
    """A golden question."""

    id: str
    messages: tuple[Mapping[str, Any], ...]
    """The conversation for the chat endpoint; empty with `prompt`."""
    prompt: str
    """Raw text for the completions endpoint; empty with `messages`."""
    expected: Any
    checks: Mapping[str, ItemCheck]
    """By measure; `accuracy` is always among them."""
    context: str
    tags: tuple[str, ...]
    max_tokens: int
    group: str = ""
    """The document, customer or session that the item shares with others; empty: none."""

    @property
    def asked(self) -> str:
        """The question as a single text."""
        return self.prompt or "\n".join(str(message["content"]) for message in self.messages)

    @property
    def source(self) -> str:
        """The text that the answer must be grounded in: the context, else the question."""
        return self.context or self.asked

    def score(self, measure: str, answer: Answer) -> Scored:
        """Score an answer on a measure that code can judge."""
        check = self.checks[measure]
        return METRICS[check.metric].score(answer, self.expected, check.options, self.source)


def golden_item(document: Mapping[str, Any]) -> GoldenItem:
    """Make an item of a decoded line.

    Raises:
        GoldenItemError: the item lacks a value, or cannot be scored as it says.
    """
    unknown = sorted(set(document) - KEYS)
    if unknown:
        raise GoldenItemError(f"unknown key `{unknown[0]}`", did_you_mean(unknown[0], sorted(KEYS)))
    item_id = document.get("id")
    if not isinstance(item_id, str) or not item_id.strip():
        raise GoldenItemError("`id` is missing or not a text")
    messages, prompt = _asked(document)
    tags = document.get("tags", [])
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise GoldenItemError("`tags` is a list of texts")
    context = document.get("context", "")
    if not isinstance(context, str):
        raise GoldenItemError("`context` is a text")
    checks = _checks(document, context)
    if MUST_PASS in tags and checks[ACCURACY].metric == JUDGE:
        raise GoldenItemError(f"an item tagged `{MUST_PASS}` is scored by a metric, not by a judge")
    longest = document.get("max_tokens", USUAL_MAX_TOKENS)
    if type(longest) is not int or longest < 1:
        raise GoldenItemError("`max_tokens` is a whole number of 1 or more")
    group = document.get("group", "")
    if not isinstance(group, str):
        raise GoldenItemError("`group` is a text")
    return GoldenItem(
        item_id, messages, prompt, document.get("expected"), checks,
        context, tuple(tags), longest, group,
    )  # fmt: skip


def _asked(document: Mapping[str, Any]) -> tuple[tuple[Mapping[str, Any], ...], str]:
    ways = [name for name in ("input", "messages", "prompt") if name in document]
    if len(ways) != 1:
        given = " and ".join(f"`{way}`" for way in ways) or "none"
        raise GoldenItemError(f"it needs one of `input`, `messages` and `prompt`, and has {given}")
    asked = document[ways[0]]
    if ways[0] == "messages":
        return _conversation(asked), ""
    if not isinstance(asked, str) or not asked.strip():
        raise GoldenItemError(f"`{ways[0]}` is empty or not a text")
    if ways[0] == "prompt":
        return (), asked
    system = document.get("system")
    if system is not None and not isinstance(system, str):
        raise GoldenItemError("`system` is a text")
    first = ({"role": "system", "content": system},) if system else ()
    return (*first, {"role": "user", "content": asked}), ""


def _conversation(asked: Any) -> tuple[Mapping[str, Any], ...]:
    if not isinstance(asked, list) or not asked:
        raise GoldenItemError("`messages` is a list with at least one message")
    for message in asked:
        given = message if isinstance(message, dict) else {}
        if not all(isinstance(given.get(key), str) for key in ("role", "content")):
            raise GoldenItemError("each message has a `role` and a `content`, both texts")
    return tuple(asked)


def _checks(document: Mapping[str, Any], context: str) -> dict[str, ItemCheck]:
    asked = {
        ACCURACY: document.get("metric", "exact"),
        FORMAT: document.get("format"),
        GROUNDED: document.get("grounding", "grounded_numbers" if context else None),
    }
    expected = document.get("expected")
    given = {measure: metric for measure, metric in asked.items() if metric is not None}
    return {measure: _check(measure, metric, expected) for measure, metric in given.items()}


def _check(measure: str, given: Any, expected: Any) -> ItemCheck:
    match given:
        case str(name):
            options: Any = {}
        case {**entries} if len(entries) == 1:
            [(key, options)] = entries.items()
            name = str(key)
        case _:
            text = f"{measure} is scored by a metric's name, or by {{NAME: {{options}}}}"
            raise GoldenItemError(text)
    if name == JUDGE:
        return _judged(measure, options)
    if name not in METRICS:
        raise GoldenItemError(f"unknown metric `{name}`", did_you_mean(name, [*METRICS, JUDGE]))
    metric = METRICS[name]
    if not isinstance(options, dict) or set(options) - metric.options:
        allowed = ", ".join(sorted(metric.options))
        raise GoldenItemError(f"the options of `{name}` are {allowed}")
    if metric.needs_expected and expected is None:
        raise GoldenItemError(f"`expected` is missing; `{name}` compares with it")
    if wrong := metric.fault(expected, options):
        raise GoldenItemError(f"`{name}`: {wrong}")
    return ItemCheck(name, options)


def _judged(measure: str, options: Any) -> ItemCheck:
    if not isinstance(options, dict) or set(options) - {"question", PAIRWISE}:
        raise GoldenItemError(f"the options of `judge` are `question` and `{PAIRWISE}`")
    if not isinstance(options.get("question", ""), str):
        raise GoldenItemError("`question` is a text")
    if not isinstance(options.get(PAIRWISE, False), bool):
        raise GoldenItemError(f"`{PAIRWISE}` is true or false")
    if options.get(PAIRWISE) and measure != ACCURACY:
        text = f"`{PAIRWISE}` tells which answer is better, which is {ACCURACY} alone"
        raise GoldenItemError(text)
    return ItemCheck(JUDGE, options)
