"""Broken declarations: one edit of the valid project each, and what must be said about it."""

from tests.broken import evals, meaning, placing, reading, rollouts, traffic, values
from tests.broken.case import Case

CASES = [
    *reading.CASES,
    *values.CASES,
    *meaning.CASES,
    *placing.CASES,
    *rollouts.CASES,
    *traffic.CASES,
    *evals.CASES,
]
__all__ = ["CASES", "Case"]
