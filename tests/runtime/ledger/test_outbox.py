"""What cannot be written to the ledger in time is queued, and written once when it can be."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fleet.errors import FleetError, problem
from fleet.history import event_of
from runtime.ledger import open_ledger
from runtime.ledger.outbox import LedgerOutbox, deliver
from runtime.ledger.protocol import Ledger

NOON = datetime(2031, 5, 1, 12, tzinfo=UTC)
BACK = {"alias": "acme-support", "adapter": "acme-support-tiny-v2.2.0"}


def ledger(state: Path) -> Ledger:
    return open_ledger(state, run="r", by="tester", clock=lambda: NOON)


def scribe(state: Path) -> LedgerOutbox:
    return LedgerOutbox(lambda: ledger(state), state / "queued", by="ann", run="r7")


@contextmanager
def hung(state: Path) -> Iterator[None]:
    """Hold the ledger's lock, as a process does whose disk has stopped to answer."""
    state.mkdir(exist_ok=True)
    handle = os.open(state / "ledger.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(handle)


def test_a_ledger_that_hangs_is_waited_for_once(tmp_path: Path) -> None:
    mine = scribe(tmp_path)
    with hung(tmp_path):
        assert "no answer within 1 s; it is queued" in mine.append([event_of("rolled_back", BACK)])
        assert mine.read("nothing", lambda _: "asked again") == "nothing"
        assert "it is queued" in mine.append([event_of("rollback_checked", BACK)])
        with pytest.raises(FleetError, match="does not answer"):
            mine.append_or_raise([event_of("drill_started", BACK)])


def test_what_was_queued_is_written_once_with_who_said_it_and_when(tmp_path: Path) -> None:
    def dead() -> Ledger:
        raise FleetError(problem("X", "The ledger's home is down", "no route to host"))

    away = LedgerOutbox(dead, tmp_path / "queued", by="ann", run="r7")
    assert "home is down" in away.append(
        [event_of("rolled_back", BACK), event_of("rolled_back", BACK)]
    )
    assert "home is down" in away.append([event_of("rollback_checked", BACK)])
    assert deliver(tmp_path / "queued", ledger(tmp_path)) == 3
    assert deliver(tmp_path / "queued", ledger(tmp_path)) == 0
    entries = ledger(tmp_path).read()
    assert [each.event.kind for each in entries] == [
        "rolled_back",
        "rolled_back",
        "rollback_checked",
    ]
    late = entries[0].document()["queued"]
    assert (late["by"], late["run"]) == ("ann", "r7")
    assert datetime.fromisoformat(late["time"]).tzinfo is UTC


def test_what_the_hung_home_wrote_after_all_is_not_written_again(tmp_path: Path) -> None:
    mine = scribe(tmp_path)
    with hung(tmp_path):
        assert mine.append([event_of("rolled_back", BACK)])
    while not ledger(tmp_path).read():  # the thread that was left behind has the lock now
        os.sched_yield()
    assert deliver(tmp_path / "queued", ledger(tmp_path)) == 0
    assert [each.event.kind for each in ledger(tmp_path).read()] == ["rolled_back"]
    assert not list((tmp_path / "queued").glob("*.json"))


def test_a_ledger_that_still_does_not_take_it_leaves_it_queued(tmp_path: Path) -> None:
    def dead() -> Ledger:
        raise OSError("no route to host")

    LedgerOutbox(dead, tmp_path / "queued").append([event_of("rolled_back", BACK)])
    (tmp_path / "ledger.jsonl").write_text("not a ledger\n", encoding="utf-8")
    with pytest.raises(FleetError):
        deliver(tmp_path / "queued", ledger(tmp_path))
    (tmp_path / "ledger.jsonl").unlink()
    assert deliver(tmp_path / "queued", ledger(tmp_path)) == 1


def test_nobody_waits_for_ever_for_a_lock_whose_holder_has_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime.ledger.file.LOCK_S", 0.05)
    with hung(tmp_path):
        take = ledger(tmp_path).lease("me").__enter__
        for call in (take, lambda: scribe(tmp_path).append_or_raise([])):
            with pytest.raises(FleetError, match="does not answer"):
                call()
    with ledger(tmp_path).lease("me") as lease:
        assert lease.token == 1


def test_without_a_queue_the_reason_says_what_is_lost(tmp_path: Path) -> None:
    with hung(tmp_path):
        told = LedgerOutbox(lambda: ledger(tmp_path)).append([event_of("rolled_back", BACK)])
    assert told == "no answer within 1 s"
