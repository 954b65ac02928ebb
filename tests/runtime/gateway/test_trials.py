"""Swaps, kills and ramps under load, short; `make bench-gateway` runs them long."""

import asyncio
from pathlib import Path

import pytest

from tests.bench.gateway_trials import WEIGHTS, aborts, kills, split, swaps

pytestmark = pytest.mark.usefixtures("serving_loop")


def test_no_request_fails_while_tables_are_swapped(tmp_path: Path) -> None:
    found = asyncio.run(swaps(tmp_path / ".fleetctl", 40))
    assert set(found.traffic.answers) == {200}
    assert found.traffic.answers.total() >= 40
    assert found.traffic.broken == 0


def test_no_answered_request_lacks_a_row_however_often_the_gateway_is_killed(
    tmp_path: Path,
) -> None:
    found = asyncio.run(kills(tmp_path / ".fleetctl", 2, 200))
    assert (found.answered >= 400, found.lost) == (True, 0)


def test_a_growing_share_keeps_its_users(tmp_path: Path) -> None:
    found = asyncio.run(split(tmp_path / ".fleetctl", 1000))
    assert list(found.shares) == list(WEIGHTS)
    assert found.error < 6  # four standard errors of 1,000 users at 50 percent
    assert found.kept == [100, 100]


@pytest.mark.parametrize("streams", [False, True], ids=["JSON", "a stream"])
def test_a_server_is_told_that_its_client_has_left(tmp_path: Path, *, streams: bool) -> None:
    waits = asyncio.run(aborts(tmp_path / ".fleetctl", 3, streams=streams))
    assert len(waits) == 3
