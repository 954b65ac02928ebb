"""A dozen faults of the scorecard on a real vLLM, and others on the fake engine in seconds.

`make scorecard` plays all of them.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.faults.catalogue import FAULTS
from tests.faults.play import Fault, Row, play, recover
from tests.faults.soak import Soak, soak
from tests.faults.stage import Stage

SHORT = (
    "unloaded behind our back", "right digest under a wrong path", "copy overwritten, resident",
    "copy deleted, resident", "rogue adapter", "version with NaN", "version of another base",
    "rank above the base's limit", "lock altered", "lock torn", "key file gone", "engine killed",
)  # fmt: skip
"""The faults that are played on a real vLLM here; only the last ends a server."""
QUICK = (
    "right digest under a wrong path", "copy overwritten, evicted", "version with NaN",
    "lock altered", "routes edited", "engine killed",
)  # fmt: skip
"""The faults that are played on the fake engine here, in a few seconds each."""


def chosen(names: Sequence[str]) -> list[Fault]:
    return [next(fault for fault in FAULTS if fault.name == name) for name in names]


def played(stage: Stage, faults: Sequence[Fault]) -> list[Row]:
    """Play faults, each on a whole fleet."""
    rows = []
    with stage.client.running():
        for fault in faults:
            rows.append(play(stage, fault))
            stage.client.reset()
            if not rows[-1].good:
                recover(stage)
    return rows


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[Stage]:
    stage = Stage.raise_up(tmp_path / "fleet", None)
    yield stage
    stage.clean_up()


@pytest.fixture
def vllm(tmp_path: Path, vllm_python: Path) -> Iterator[Stage]:
    stage = Stage.raise_up(tmp_path / "fleet", vllm_python)
    yield stage
    stage.clean_up()


def bad(rows: Sequence[Row]) -> list[str]:
    return [f"{' | '.join(row.cells())}\n{row.trouble}" for row in rows if not row.good]


def test_faults_are_named_and_healed_on_the_fake_engine(fake: Stage) -> None:
    assert bad(played(fake, chosen(QUICK))) == []


@pytest.mark.live
@pytest.mark.long
def test_faults_are_named_and_healed_on_a_real_vllm(vllm: Stage) -> None:
    assert bad(played(vllm, chosen(SHORT))) == []


def nothing_fails(stage: Stage, acts: Sequence[Callable[[Soak], None]]) -> None:
    """Let acts happen under a steady client, and see that it misses nothing but what is announced.

    Announced are requests to `corvid-dates`, whose only server is replaced.
    """
    told: list[str] = []
    counts, _ = soak(stage, acts, time.monotonic(), told.append)
    assert counts["sent"]
    assert (counts["failed"], counts["wrong"]) == (0, 0), "\n".join(told)


@pytest.mark.long
def test_no_request_fails_while_servers_with_replicas_are_replaced(tmp_path: Path) -> None:
    stage = Stage.raise_up(tmp_path / "fleet", None, soaks=True)
    before = stage.servers()
    try:
        nothing_fails(stage, (Soak.replace_servers,))
        for name, record in stage.servers().items():
            assert record["launch"] != before[name]["launch"]
            assert record["flags"]["kv_cache_bytes"] == 48 << 20
    finally:
        stage.clean_up()


@pytest.mark.live
@pytest.mark.long
def test_no_request_fails_while_a_fleet_is_worked(tmp_path: Path, vllm_python: Path) -> None:
    stage = Stage.raise_up(tmp_path / "fleet", vllm_python, soaks=True)
    try:
        nothing_fails(stage, (Soak.roll_out, Soak.widen))
    finally:
        stage.clean_up()
