"""A golden set of 60 items decides, with replays of captured requests beside it."""

from collections import Counter

import numpy as np
import pytest

from fleet.gates import Verdict
from fleet.policies import NEWEST
from tests.bench.golden_sets import SAMPLES, Version, ends

REPLICATIONS = 100


@pytest.mark.parametrize(
    ("drop", "verdict", "least", "most"),
    [
        (0.0, Verdict.PASS, 60, 100),
        (0.03, Verdict.PASS, 0, 8),
        (0.06, Verdict.FAIL, 75, 100),
    ],
)
def test_a_set_of_60_items_with_replays_tells_versions_apart(
    drop: float, verdict: Verdict, least: int, most: int
) -> None:
    rng = np.random.default_rng(7)
    found = Counter(ends(rng, Version(drop), REPLICATIONS, SAMPLES, NEWEST))
    assert least <= 100 * found[verdict] / REPLICATIONS <= most
