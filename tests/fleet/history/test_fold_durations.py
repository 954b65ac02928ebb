"""Starts and loads that a run did itself tell how long the next ones take."""

from datetime import timedelta

import pytest

from fleet.codec import plain
from fleet.history import Entry, LedgerEvent, StepFinished, StepStarted, fold_entries
from fleet.names import step_id
from fleet.resources import Server
from fleet.steps import LoadAdapter, StartServer, StopServer
from tests.fleet.history.test_fold import NOON
from tests.fleet.planning.builders import loaded

ONE, ADAPTER = (
    Server("a", "tiny", "laptop", ("cpu0",), 8100, "0a1b2c3d4e5f"),
    loaded("acme-support-tiny-v1.0.0", "a"),
)
START = (step_id("start", ONE.address), StartServer(ONE))
STOP = (step_id("stop", ONE.address), StopServer(ONE))
LOAD = (step_id("load", ADAPTER.address), LoadAdapter(ADAPTER))


@pytest.mark.parametrize(
    ("steps", "known"),
    [
        ([(START, "done", 24.04)], {"start tiny": 24.0}),
        ([(LOAD, "done", 0.0)], {"load tiny": 0.1}),
        ([(STOP, "done", 9)], {}),
        ([(START, "adopted", 9), (START, "recovered", 9)], {}),
        ([(START, "done", 20), (START, "done", 30)], {"start tiny": 20.0}),
        ([(START, "done", 20), (START, "done", 31)], {"start tiny": 31.0}),
        ([(START, "done", 30), (START, "done", 20)], {"start tiny": 30.0}),
        ([(START, "done", 31), (START, "done", 20)], {"start tiny": 20.0}),
    ],
)
def test_a_duration_is_kept_until_another_is_far_from_it(
    steps: list[tuple[tuple[str, StartServer | StopServer | LoadAdapter], str, float]],
    known: dict[str, float],
) -> None:
    entries: list[Entry] = []
    now = NOON

    def add(event: LedgerEvent) -> None:
        entries.append(Entry(len(entries) + 1, now, event, "run", "ana", 1, "", ""))

    for (step, operation), how, seconds in steps:
        address = step.partition(" ")[2]
        add(StepStarted("p", step, address, plain(operation)))
        now += timedelta(seconds=seconds)
        add(StepFinished(step, address, how))
    assert fold_entries(entries).durations == known
