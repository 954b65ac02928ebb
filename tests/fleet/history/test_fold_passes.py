"""A smoke test counts until the version is loaded or asked anew, or its server is started."""

import pytest

from fleet.codec import plain
from fleet.history import (
    Entry,
    Noted,
    SmokePass,
    StepFailed,
    StepFinished,
    StepStarted,
    fold_entries,
)
from fleet.names import step_id
from fleet.resources import Server
from fleet.steps import LoadAdapter, Operation, SmokeTest, StartServer, StopServer, UnloadAdapter
from tests.fleet.history.test_fold import NOON
from tests.fleet.planning.builders import digest_of, loaded

NAME = "acme-support-tiny-v1.0.0"
ADAPTER = loaded(NAME, "a")
SERVER = Server("a", "tiny", "laptop", ("cpu0",), 8100, "0a1b2c3d4e5f")
OPERATIONS: dict[str, Operation] = {
    "start": StartServer(SERVER),
    "stop": StopServer(SERVER),
    "load": LoadAdapter(ADAPTER),
    "unload": UnloadAdapter(ADAPTER),
    "smoke": SmokeTest(ADAPTER, ()),
}
PASSED = {"a": {NAME: SmokePass(digest_of(NAME), "launch-1")}}


@pytest.mark.parametrize(
    ("steps", "passes"),
    [
        ("load done, smoke done", PASSED),
        ("load done", {}),
        ("load done, smoke begun", {}),
        ("load done, smoke failed", {}),
        ("load done, smoke recovered", {}),
        ("load done, smoke done, smoke begun", {}),
        ("load done, smoke done, smoke failed", {}),
        ("load done, smoke done, load begun", {}),
        ("load done, smoke done, load adopted", PASSED),
        ("load done, smoke done, unload begun", {}),
        ("load done, smoke done, stop begun", {}),
        ("load done, smoke done, start begun", {}),
    ],
)
def test_a_pass_is_of_the_bytes_as_they_were_loaded_last(
    steps: str, passes: dict[str, dict[str, SmokePass]]
) -> None:
    entries: list[Entry] = []

    def add(event: StepStarted | StepFinished | StepFailed | Noted) -> None:
        entries.append(Entry(len(entries) + 1, NOON, event, "run", "ana", 1, "", ""))

    for text in steps.split(", "):
        verb, end = text.split()
        address = SERVER.address if verb in ("start", "stop") else ADAPTER.address
        step, operation = step_id(verb, address), plain(OPERATIONS[verb])
        if end != "adopted":
            add(StepStarted("p", step, address, operation))
        if end == "failed":
            add(StepFailed("p", step, address, "FC5113", "", ""))
        elif end == "recovered":
            add(Noted("begun by an earlier run, without effect", step))
        elif end == "adopted":
            add(StepFinished(step, address, end, "", "p", operation))
        elif end == "done":
            launch = "launch-1" if verb == "smoke" else None
            add(StepFinished(step, address, end, "", "p", None, launch))
    whole = fold_entries(entries)
    assert whole.passes == passes
    assert fold_entries(entries[1:], fold_entries(entries[:1])).passes == passes
