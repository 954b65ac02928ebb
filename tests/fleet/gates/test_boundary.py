"""A version that is exactly at its limit, looked at again and again, is hardly ever promoted."""

import numpy as np
import pytest

from fleet.gates.boundary import Z_EARLY, Z_LAST, Z_ONE, quantile
from fleet.rollouts.simulation import newcombe_uppers

LONGEST, REPLICATIONS, WRONG = 48, 4000, 0.02
USUAL, MARGIN = 0.01, 0.02


def passed(share: float, z: float, hourly: int, first: int) -> float:
    """Return how often it passes a stage that is looked at every hour from the first look on."""
    rng = np.random.default_rng(1)
    looks = np.arange(first, LONGEST + 1)
    asked = [np.floor(hourly * part * looks).astype(int) for part in (share, 1 - share)]
    new = [np.diff(each, prepend=0) for each in asked]
    mine, other = (
        np.cumsum(rng.binomial(each, rate, (REPLICATIONS, looks.size)), axis=1).astype(float)
        for each, rate in zip(new, (USUAL + MARGIN, USUAL), strict=True)
    )
    limits = {"z": z, "longest": float(LONGEST)}
    now = [
        quantile({"requests": (of,), "requests_stable": (more,), "hourly": hourly}, limits)
        for of, more in zip(*asked, strict=True)
    ]
    upper = newcombe_uppers(mine, asked[0], other, asked[1], np.array(now))
    return float(((upper <= MARGIN) & (asked[0] >= 20)).any(axis=1).mean())


@pytest.mark.parametrize("hourly", [60, 300, 1800])
@pytest.mark.parametrize("first", [1, 24])
def test_a_version_at_its_limit_is_promoted_in_two_of_a_hundred_rollouts(
    hourly: int, first: int
) -> None:
    early, last = passed(0.1, Z_EARLY, hourly, first), passed(0.5, Z_LAST, hourly, first)
    assert early * last < WRONG
    assert passed(0.5, Z_ONE, hourly, first) < 1.25 * WRONG
    at_once = (passed(0.1, Z_EARLY, hourly, LONGEST), passed(0.5, Z_LAST, hourly, LONGEST))
    assert at_once == pytest.approx((0.2, 0.025), abs=0.02)


def test_fewer_requests_have_to_be_surer() -> None:
    limits = {"z": 2.0, "longest": 10.0}
    asked = {"requests": (25.0,), "requests_stable": (25.0, 50.0), "hourly": 40.0}
    assert quantile(asked, limits) == 4.0
    assert quantile(asked | {"hourly": 5.0}, limits) == 2.0
    assert quantile(asked | {"hourly": 0.0}, limits) == pytest.approx(2 * 2**0.5)
    assert quantile({"requests": (), "requests_stable": (), "hourly": 40.0}, limits) > 60
    assert quantile(asked, {"z": 2.0}) == 2.0
