"""A version that is exactly at its limit, looked at again and again, is hardly ever promoted."""

import pytest

from fleet.gates.sequential import Z_EARLY, Z_LAST, Z_ONE, quantile
from tests.fleet.gates.at_limit import EARLY, LAST, LONGEST, passed, promoted

WRONG = 0.02


@pytest.mark.parametrize("hourly", [60, 300, 1800])
@pytest.mark.parametrize("first", [1, 24])
def test_a_version_at_its_limit_is_promoted_in_two_of_a_hundred_rollouts(
    hourly: int, first: int
) -> None:
    assert promoted(hourly, first) < WRONG
    assert passed(LAST, Z_ONE, hourly, first) < 1.25 * WRONG
    at_once = (passed(EARLY, Z_EARLY, hourly, LONGEST), passed(LAST, Z_LAST, hourly, LONGEST))
    assert at_once == pytest.approx((0.2, 0.025), abs=0.02)


def test_fewer_requests_have_to_be_surer() -> None:
    limits = {"z": 2.0, "longest": 10.0}
    asked = {"requests": (25.0,), "requests_stable": (25.0, 50.0), "hourly": 40.0}
    assert quantile(asked, limits) == 4.0
    assert quantile(asked | {"hourly": 5.0}, limits) == 2.0
    assert quantile(asked | {"hourly": 0.0}, limits) == pytest.approx(2 * 2**0.5)
    assert quantile({"requests": (), "requests_stable": (), "hourly": 40.0}, limits) > 60
    assert quantile(asked, {"z": 2.0}) == 2.0
