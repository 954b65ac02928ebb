"""A server or a version that makes way for itself stays what the fleet is to have."""

import pytest

from fleet.history import History, fold_entries, history_document, history_of, settled
from fleet.resources import Route
from fleet.steps import LoadAdapter, Operation, StartServer, StopServer, UnloadAdapter
from tests.fleet.history.test_fold import HELD, NEW, SERVER, Tape
from tests.fleet.planning.builders import loaded, state

IDLE = loaded(NEW, "a")
START, STOP = f"start {SERVER.address}", f"stop {SERVER.address}"
BOTH: set[str] = {SERVER.address, HELD.address, IDLE.address}


def lived(**boots: str) -> Tape:
    """Return the entries of a server with a version that has traffic, and one without."""
    tape = Tape().did(START, StartServer(SERVER), boot="boot-1")
    for adapter in (HELD, IDLE):
        tape.did(f"load {adapter.address}", LoadAdapter(adapter))
    return tape.routed(v1_0_0=100).add("apply_finished", boots=boots)


def held(history: History) -> set[str]:
    return {at for at, item in history.established.items() if not isinstance(item, Route)}


def returning(history: History) -> set[str]:
    return set(history.returning)


@pytest.mark.parametrize(
    ("operation", "owed", "awaited"),
    [
        (StopServer(SERVER, again=True), BOTH, {"a"}),
        (StopServer(SERVER), {HELD.address}, set()),
    ],
)
def test_a_stop_before_the_same_start_takes_nothing_from_the_fleet(
    operation: Operation, owed: set[str], awaited: set[str]
) -> None:
    tape = lived(a="boot-1").did(STOP, operation)
    after_stop = tape.history()
    assert (held(after_stop), returning(after_stop)) == (owed, awaited)
    assert (SERVER.address in after_stop.owned) is bool(awaited)
    tape.began(START, StartServer(SERVER)).add("step_failed", step=START, address=SERVER.address)
    failed = tape.history()
    assert (held(failed), returning(failed)) == (owed, {"a"})
    tape.did(START, StartServer(SERVER), boot="boot-2")
    assert held(tape.history()) == {*owed, SERVER.address}
    assert not tape.history().returning


def test_a_run_that_died_after_such_a_stop_leaves_the_same() -> None:
    history = lived(a="boot-1").began(STOP, StopServer(SERVER, again=True)).history()
    past = settled(history, state())
    assert (held(past), returning(past)) == (BOTH, {"a"})
    assert not past.unfinished
    removed = lived(a="boot-1").began(STOP, StopServer(SERVER)).history()
    assert held(settled(removed, state())) == {HELD.address}


def test_a_server_that_runs_at_the_end_of_an_apply_waits_for_no_start() -> None:
    tape = lived().began(STOP, StopServer(SERVER, again=True))
    tape.add("step_failed", step=STOP, address=SERVER.address)
    assert tape.history().returning == {"a"}
    assert tape.add("apply_finished", boots={"a": "boot-1"}).history().returning == set()


def test_an_unload_before_the_same_load_takes_nothing_from_the_fleet() -> None:
    step = f"unload {IDLE.address}"
    assert held(lived().did(step, UnloadAdapter(IDLE, again=True)).history()) == BOTH
    assert held(lived().did(step, UnloadAdapter(IDLE)).history()) == BOTH - {IDLE.address}


def test_a_fold_goes_on_between_stop_and_start() -> None:
    entries = lived().did(STOP, StopServer(SERVER, again=True)).did(START, StartServer(SERVER))
    whole = entries.history()
    for cut in range(len(entries.entries)):
        begun = history_of(history_document(fold_entries(entries.entries[:cut])))
        assert fold_entries(entries.entries[cut:], begun) == whole
