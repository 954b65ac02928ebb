"""What one script shows of a host, and the memory of a host."""

from dataclasses import replace
from pathlib import Path

import pytest

from runtime.engines.adapters_file import AdapterEntry, dump_entries
from runtime.engines.remote.box import BoxMemory, parse_view
from runtime.engines.remote.units import ServerUnit, has_ended
from tests.runtime.engines.remote.units import RECORD, SERVER

ENTRIES = {"acme-x-llama3-v1.0.0": AdapterEntry("/home/f/store/ab", "ab")}
FILE = f".local/share/fleetctl/servers/{SERVER.name}/adapters.json"
UNIT = ServerUnit(
    SERVER.name, "active", 7, "a1", 0, is_enabled=True, is_edited=False, record=RECORD
)


def test_a_host_is_read_with_its_files_of_adapters() -> None:
    text = dump_entries(ENTRIES).replace("\n", "")
    seen = parse_view(f"/home/f\n/mnt/store\n{FILE}\t{text}\n----\n")
    assert (seen.home, seen.store, seen.units) == ("/home/f", "/mnt/store", {})
    assert seen.adapters == {SERVER.name: ENTRIES}


def test_a_fresh_host_has_no_store() -> None:
    seen = parse_view("/home/f\n\n----\nId=fleetctl-x.service\nActiveState=inactive\n")
    assert (seen.store, seen.adapters, [*seen.units]) == ("", {}, ["x"])


def test_a_memory_is_read_back_and_a_damaged_one_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "hosts" / "box1.json"
    known = RECORD.model_copy(update={"ready": True, "process_start": "a1"})
    memory = BoxMemory("/mnt/store", {known.name: known})
    assert BoxMemory.read(path) == BoxMemory()
    memory.write(path)
    assert BoxMemory.read(path) == memory
    path.write_text(path.read_text(encoding="utf-8")[:-9], encoding="utf-8")
    assert BoxMemory.read(path) == BoxMemory()


@pytest.mark.parametrize(
    ("before", "now", "has"),
    [
        (UNIT, UNIT, False),
        (UNIT, replace(UNIT, invocation="a2", restarts=1), True),
        (UNIT, replace(UNIT, state="activating", pid=0), True),
        (UNIT, replace(UNIT, state="failed", pid=0), True),
        # the start after an end before the first look
        (replace(UNIT, state="activating"), replace(UNIT, invocation="a2", restarts=1), False),
        # an end so early that `active` is never seen
        (replace(UNIT, state="activating"), replace(UNIT, state="activating", restarts=2), True),
    ],
)
def test_an_end_is_told_from_the_start_after_it(
    before: ServerUnit, now: ServerUnit, *, has: bool
) -> None:
    assert has_ended(before, before, now) == has
