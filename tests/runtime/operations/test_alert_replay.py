"""The alert of an outage, replayed through `watch` itself at any minute of a quarter."""

from datetime import timedelta
from pathlib import Path

import pytest

from fleet.alerting.rules import ERROR_SHARE, PAGES
from tests.bench.alert_replay import MONDAY, OutageReplay
from tests.drawn import long
from tests.fleetctl.project_on_disk import Project

FAST, SLOW = PAGES


@pytest.mark.parametrize("phase", [7, *long(0, 1, 3, 5, 10, 12, 13, 14)])
def test_all_requests_that_fail_ring_by_the_fast_pair_and_end_with_the_outage(
    tmp_path: Path, phase: int
) -> None:
    """It rang after 15 to 23 minutes, and fired 43 to 105 minutes after the healing."""
    project = Project.copy(tmp_path / "project", None)
    onset = MONDAY + timedelta(minutes=phase)
    replay = OutageReplay(project, onset, rpm=20, lasts=timedelta(minutes=40))
    played = replay.play(most=timedelta(minutes=120))
    assert played.limit == pytest.approx(FAST.times * ERROR_SHARE)
    assert played.rang is not None
    assert played.ended is not None
    assert played.rang * timedelta(minutes=1) <= FAST.short
    assert played.ended * timedelta(minutes=1) <= SLOW.short


@pytest.mark.parametrize("phase", [4, *long(0, 2, 9, 13)])
def test_a_short_outage_ends_within_the_fast_pairs_window(tmp_path: Path, phase: int) -> None:
    project = Project.copy(tmp_path / "project", None)
    onset = MONDAY + timedelta(minutes=phase)
    played = OutageReplay(project, onset, rpm=20, lasts=timedelta(minutes=12)).play(
        most=timedelta(minutes=60)
    )
    assert played.rang is not None
    assert played.ended is not None
    assert played.ended * timedelta(minutes=1) <= SLOW.short
