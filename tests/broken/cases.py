"""Broken declarations: one edit of the valid project each, and what must be said about it."""

from tests.broken import meaning, placing, reading, traffic, values
from tests.broken.case import Case

CASES = [*reading.CASES, *values.CASES, *meaning.CASES, *placing.CASES, *traffic.CASES]
__all__ = ["CASES", "Case"]
