"""Defines what a metric sees of one answer, and the score that a metric gives."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of a model."""

    text: str
    finish: str = "stop"
    """Why it ended, as the server says: `stop`, `length`, ..."""
    output_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Scored:
    """What a metric says of an answer."""

    score: float
    """0 (wrong) to 1 (right)."""
    note: str = ""
    """Why it is not 1, in a few words."""
    label: str = ""
    """The class that was recognised, where the metric recognises classes."""
    parts: Mapping[str, float] = field(default_factory=dict)
    """Further figures from 0 to 1, such as precision and recall."""


Options = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Metric:
    """One way to score an answer. Deterministic: the same answer gets the same score."""

    score: Callable[[Answer, Any, Options, str], Scored]
    """Answer, what is expected, options, and the text that the answer must be grounded in."""
    fault: Callable[[Any, Options], str]
    """Say what is wrong with an item's expectation and options; empty when nothing is."""
    options: frozenset[str] = frozenset()
    needs_expected: bool = True
    source: bool = False
    """Whether it compares with the source text instead of what is expected."""
