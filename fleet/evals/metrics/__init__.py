"""Defines a metric, its input and its output: an answer, and a score without any model."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of a model."""

    text: str
    finish: str = "stop"
    """Reason of the end, as the server says: `stop`, `length`, ..."""
    output_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Scored:
    """A metric's score of an answer."""

    score: float
    """0 (wrong) to 1 (right)."""
    note: str = ""
    """Why the score is not 1, in a few words."""
    label: str = ""
    """The class that was recognised, where the metric recognises classes."""


Options = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Metric:
    """A way to score an answer. Deterministic: the same answer gets the same score."""

    score: Callable[[Answer, Any, Options, str], Scored]
    """Takes the answer, the expectation, options, and the text that grounds the answer."""
    fault: Callable[[Any, Options], str]
    """Return the fault of an item's expectation and options; empty: none."""
    options: frozenset[str] = frozenset()
    needs_expected: bool = True
