"""Nothing is judged by a clock that is behind what has happened already."""

from datetime import UTC, datetime, timedelta

import pytest

from fleet.errors import FleetError
from fleet.history import Entry
from runtime.rollouts.tick import require_clock

NOON = datetime(2031, 5, 1, 12, tzinfo=UTC)
LAST = Entry(7, NOON, "apply_finished", "r", "ci", 1, {}, "", "")


@pytest.mark.parametrize("ahead", [-30, 0, 3600])
def test_clocks_of_two_machines_may_differ_a_little(ahead: int) -> None:
    require_clock([LAST], NOON + timedelta(seconds=ahead))
    require_clock([], NOON)


def test_a_clock_that_is_far_behind_is_refused_with_both_times() -> None:
    with pytest.raises(FleetError) as caught:
        require_clock([LAST], NOON - timedelta(hours=1))
    (shown,) = caught.value.diagnostics
    assert shown.summary == "The clock is behind the ledger"
    assert "It is 2031-05-01 11:00:00 UTC here" in shown.detail
    assert "entry 7 by ci is of 2031-05-01 12:00:00, 3,600 s later" in shown.detail
