"""How many examples a test of drawn inputs tries, and which cases wait for `make test-long`."""

import os
from typing import Any

import pytest

IS_LONG = os.environ.get("FLEETCTL_LONG") == "1"
drawn = pytest.mark.drawn
"""Marks a test that `make test-long` runs again, with more examples."""


def examples(usual: int, most: int) -> int:
    """Return how many examples to try: `usual`, or `most` in `make test-long`."""
    return most if IS_LONG else usual


def long(*cases: Any) -> list[Any]:
    """Mark cases of a table, tuples or single values, for `make test-long`."""
    return [
        pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.long)
        for case in cases
    ]
