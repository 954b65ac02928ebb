"""What the calendar lets a version do: parts of the week in which nothing goes up."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from fleet.policies import ChangeWindow
from fleet.rollouts.guards import closed_until
from fleet.rollouts.targets import Phase
from tests.fleet.planning.builders import DAY, NOON
from tests.fleet.rollouts.gate_trials import (
    ALONE,
    FAIL,
    GATED,
    NEW,
    OLD,
    declared,
    evidence,
    mark,
    past,
    shared,
    wanted,
)

BOTH = (evidence("accuracy"), evidence("errors"))
TEN, NONE = ((NEW, 10), (OLD, 90)), ((NEW, 0), (OLD, 100))
WEEKEND = ChangeWindow(4 * 1440 + 16 * 60, 8 * 60, "Fri 16:00-Mon 08:00")
NIGHT = ChangeWindow(0 * 1440 + 20 * 60, 1 * 1440 + 6 * 60, "Mon 20:00-Tue 06:00")


@pytest.mark.parametrize(
    ("now", "until"),
    [
        ("2026-03-06T15:59:59", None),
        ("2026-03-06T16:00:00", "2026-03-09T08:00:00"),
        ("2026-03-08T03:30:30", "2026-03-09T08:00:00"),
        ("2026-03-09T07:59:59", "2026-03-09T08:00:00"),
        ("2026-03-09T08:00:00", None),
        ("2026-03-09T20:00:00", "2026-03-10T06:00:00"),
    ],
)
def test_parts_of_the_week_without_changes(now: str, until: str | None) -> None:
    rollout = replace(GATED, no_promote=(WEEKEND, NIGHT))
    found = closed_until(rollout, datetime.fromisoformat(f"{now}+00:00"))
    assert (found and found.isoformat()) == (until and f"{until}+00:00")


def test_around_a_change_of_the_clock_both_offsets_hold() -> None:
    rollout = replace(GATED, no_promote=(WEEKEND,), offsets=(60, 120))
    assert closed_until(rollout, datetime(2026, 3, 6, 13, 59, tzinfo=UTC)) is None
    end = datetime(2026, 3, 9, 7, tzinfo=UTC)
    assert closed_until(rollout, datetime(2026, 3, 6, 14, tzinfo=UTC)) == end
    assert closed_until(rollout, datetime(2026, 3, 9, 6, 59, tzinfo=UTC)) == end


def test_a_week_that_is_closed_all_through_never_opens() -> None:
    whole = (ChangeWindow(0, 5000, "first"), ChangeWindow(4000, 10, "second"))
    until = closed_until(replace(GATED, no_promote=whole), NOON)
    assert until is not None
    assert until > NOON + 6 * DAY


def test_a_closed_week_stops_promotions_and_never_a_rollback() -> None:
    what = declared(rollout=replace(GATED, no_promote=(ChangeWindow(0, 7 * 1440 - 1, "all"),)))
    made = wanted(shared(10, 90), past(10, *BOTH), NOON + 3 * DAY, what)
    assert (made.phase, made.shares) == (Phase.WAITING, TEN)
    assert made.held.endswith("no version gets more traffic until 2026-03-08 23:59 UTC")
    failed = past(10, evidence("errors", FAIL))
    assert wanted(shared(10, 90), failed, NOON + 3 * DAY, what).phase is Phase.ROLLED_BACK
    begun = wanted(ALONE, past(None, evidence("accuracy", percent=0)), NOON, what)
    assert (begun.phase, begun.shares) == (Phase.EVALUATING, NONE)
    bare = replace(what.rollouts["standard"], gates=())
    opened = datetime(2026, 3, 8, 23, 59, tzinfo=UTC)
    later = wanted(shared(0, 100), past(0), opened, replace(what, rollouts={"standard": bare}))
    assert (later.phase, later.shares) == (Phase.ADVANCED, TEN)
    forced = past(10, *BOTH, marks=[mark("advance")])
    assert wanted(shared(10, 90), forced, NOON + 3 * DAY, what).phase is Phase.ADVANCED
