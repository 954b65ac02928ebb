"""The file ledger: nothing lost, nothing forged, one holder at a time."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleet.errors import FleetError, LockHeldError
from fleet.history import Noted, Released, RolledBack
from runtime.ledger import open_ledger
from runtime.ledger.chain import LedgerPrefix
from runtime.ledger.file import LEDGER_FILE, FileLedger
from runtime.state.home import HomeAddress

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def ledger(folder: Path, clock: Callable[[], datetime] = lambda: NOON) -> FileLedger:
    return FileLedger(folder, run="run", by="tester", clock=clock)


def lines(folder: Path) -> list[bytes]:
    return (folder / LEDGER_FILE).read_bytes().splitlines(keepends=True)


def append_many(folder: Path, name: str) -> None:
    for number in range(25):
        ledger(folder).append([Noted(f"{name} {number}"), Noted("second")])


def test_what_is_appended_is_read_back_in_order(tmp_path: Path) -> None:
    mine = ledger(tmp_path)
    assert mine.read() == []
    assert mine.append([Noted("one"), Noted("zwei ü €")]) == 2
    assert mine.append([Released("acme-support"), Noted()]) == 4
    entries = ledger(tmp_path).read()
    assert [(each.seq, each.event.kind) for each in entries] == [
        (1, "note"), (2, "note"), (3, "released"), (4, "note")]  # fmt: skip
    assert entries[1].document() == {"text": "zwei ü €"}
    assert entries[2].previous == entries[1].hash
    assert entries[0].time == NOON
    assert [each.seq for each in mine.read(after=3)] == [4]


def test_an_empty_append_writes_nothing(tmp_path: Path) -> None:
    assert ledger(tmp_path).append([]) == 0
    assert ledger(tmp_path).read() == []


def test_processes_and_threads_that_append_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers: list[multiprocessing.process.BaseProcess | threading.Thread] = [
        context.Process(target=append_many, args=(tmp_path, "p0")),
        context.Process(target=append_many, args=(tmp_path, "p1")),
        threading.Thread(target=append_many, args=(tmp_path, "t0")),
        threading.Thread(target=append_many, args=(tmp_path, "t1")),
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    entries = ledger(tmp_path).read()
    assert [each.seq for each in entries] == list(range(1, 201))
    texts = [each.document()["text"] for each in entries[::2]]
    for name in ("p0", "p1", "t0", "t1"):
        mine = [each for each in texts if each.startswith(name)]
        assert mine == [f"{name} {number}" for number in range(25)]
    assert {each.document()["text"] for each in entries[1::2]} == {"second"}


def test_a_torn_last_line_is_no_entry_and_is_dropped_by_the_next_append(tmp_path: Path) -> None:
    ledger(tmp_path).append([Noted("one"), Noted("two")])
    whole = (tmp_path / LEDGER_FILE).read_bytes()
    last = lines(tmp_path)[-1]
    for cut in range(1, len(last)):
        (tmp_path / LEDGER_FILE).write_bytes(whole[:-cut])
        assert [each.document()["text"] for each in ledger(tmp_path).read()] == ["one"]
        assert ledger(tmp_path).append([Noted("three")]) == 3
        texts = [each.document()["text"] for each in ledger(tmp_path).read()]
        torn = f"a torn last line of {len(last) - cut} bytes was dropped"
        assert texts == ["one", torn, "three"] if cut < len(last) else ["one", "three"]


def test_a_first_line_that_is_torn_leaves_an_empty_ledger(tmp_path: Path) -> None:
    (tmp_path / LEDGER_FILE).write_bytes(b'{"by":"x"')
    assert ledger(tmp_path).read() == []
    assert ledger(tmp_path).append([Noted("one")]) == 2


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 10_000), st.integers(0, 255))
def test_any_changed_byte_is_noticed_and_its_line_named(
    tmp_path: Path, place: int, byte: int
) -> None:
    (tmp_path / LEDGER_FILE).unlink(missing_ok=True)
    ledger(tmp_path).append(
        [
            Noted("one"),
            Noted("two"),
            Noted("three"),
        ]
    )
    content = bytearray((tmp_path / LEDGER_FILE).read_bytes())
    place %= len(content) - 1  # without the last newline the last line is torn, not changed
    if content[place] == byte:
        return
    number = bytes(content[:place]).count(b"\n") + 1
    content[place] = byte
    (tmp_path / LEDGER_FILE).write_bytes(content)
    with pytest.raises(FleetError) as caught:
        ledger(tmp_path).read()
    assert caught.value.diagnostics[0].code == "FC5102"
    assert f"Line {number} " in caught.value.diagnostics[0].detail


@pytest.mark.parametrize("name", ["removed", "swapped", "doubled"])
def test_lines_that_are_removed_swapped_or_doubled_are_noticed(tmp_path: Path, name: str) -> None:
    ledger(tmp_path).append([Noted(each) for each in ("one", "two", "three")])
    first, second, third = lines(tmp_path)
    forged = {
        "removed": [first, third],
        "swapped": [first, third, second],
        "doubled": [first, first, second],
    }[name]
    (tmp_path / LEDGER_FILE).write_bytes(b"".join(forged))
    with pytest.raises(FleetError, match=r"Line 2 .* does not follow"):
        ledger(tmp_path).read()


def test_nothing_is_appended_to_a_ledger_whose_last_line_was_changed(tmp_path: Path) -> None:
    ledger(tmp_path).append([Noted("one"), Noted("two")])
    path = tmp_path / LEDGER_FILE
    path.write_bytes(path.read_bytes().replace(b'"two"', b'"2"'))
    before = path.read_bytes()
    with pytest.raises(FleetError, match=r"Line 2 .* was changed"):
        ledger(tmp_path).append([Noted("three")])
    assert path.read_bytes() == before


def test_the_lease_has_one_holder_and_its_token_grows(tmp_path: Path) -> None:
    with ledger(tmp_path).lease("anna") as first:
        with (
            pytest.raises(LockHeldError, match="anna is changing it; its lease 1 ends in 60 s"),
            ledger(tmp_path).lease("ben"),
        ):
            raise AssertionError("two holders")
        assert ledger(tmp_path).append([Noted()], first.token) == 1
    with ledger(tmp_path).lease("ben") as second:
        assert (first.token, second.token) == (1, 2)


def test_an_expired_lease_is_taken_over_and_its_late_writer_is_refused(tmp_path: Path) -> None:
    now = NOON
    mine = ledger(tmp_path, lambda: now)
    with mine.lease("anna", 60) as anna:
        now = NOON + timedelta(seconds=59)
        anna.renew()
        now += timedelta(seconds=59)
        with pytest.raises(LockHeldError), mine.lease("ben"):
            raise AssertionError("two holders")
        now += timedelta(seconds=1)
        with mine.lease("ben") as ben:
            assert mine.append([Noted("ben")], ben.token) == 1
            with pytest.raises(LockHeldError, match="lease 1, and lease 2"):
                mine.append([Noted("anna")], anna.token)
            with pytest.raises(LockHeldError):
                anna.renew()
    assert [each.document()["text"] for each in mine.read()] == ["ben"]
    with mine.lease("anna"):
        assert json.loads((tmp_path / "lease.json").read_text())["token"] == 3


def test_an_emergency_needs_no_lease(tmp_path: Path) -> None:
    with ledger(tmp_path).lease("anna"):
        assert ledger(tmp_path).append([RolledBack("a")]) == 1


def test_a_lost_lease_file_does_not_bring_old_tokens_back(tmp_path: Path) -> None:
    for _ in range(3):
        with ledger(tmp_path).lease("anna") as lease:
            ledger(tmp_path).append([Noted()], lease.token)
    (tmp_path / "lease.json").unlink()
    with ledger(tmp_path).lease("ben") as lease:
        assert lease.token == 4


HOLD = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from runtime.ledger.file import FileLedger
mine = FileLedger(Path(sys.argv[1]), run="r", by="b", clock=lambda: datetime.now(UTC))
with mine.lease("a run that is killed"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_killed_holder_locks_nobody_out(tmp_path: Path) -> None:
    clock = lambda: datetime.now(UTC)  # noqa: E731 (one line says it)
    root = Path(__file__).parents[3]
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    with (
        pytest.raises(LockHeldError, match="a run that is killed"),
        ledger(tmp_path, clock).lease("me"),
    ):
        raise AssertionError("two holders")
    os.kill(holder.pid, signal.SIGKILL)
    holder.communicate()
    with ledger(tmp_path, clock).lease("me") as lease:
        assert lease.token == 2


def test_a_ledger_lives_in_the_folder_that_its_home_names(tmp_path: Path) -> None:
    home = HomeAddress(folder=f"{tmp_path}/other")
    open_ledger(tmp_path, "run", "me", lambda: NOON, home).append([Noted()])
    assert (tmp_path / "other" / LEDGER_FILE).is_file()


def bytes_read(work: Callable[[], object]) -> int:
    """Return how many bytes this process reads meanwhile."""
    counts = Path("/proc/self/io")
    before = counts.read_text("ascii")
    work()
    return int(counts.read_text("ascii").split()[1]) - int(before.split()[1])


def test_a_run_hashes_the_old_bytes_once_and_then_what_it_appends(tmp_path: Path) -> None:
    ledger(tmp_path).append([Noted("x" * 1000)] * 3000)
    run, size = ledger(tmp_path), (tmp_path / LEDGER_FILE).stat().st_size

    def entries_after(known: LedgerPrefix) -> tuple[int, LedgerPrefix]:
        found = run.since(known)
        return len(list(found)), found.end

    count, end = entries_after(LedgerPrefix())
    assert count == 3000
    for number in range(3):
        run.append([Noted("more")])
        assert bytes_read(partial(entries_after, end)) < size / 2, number
        count, end = entries_after(end)
        assert count == 1
        assert end == ledger(tmp_path).since(end).end
    ledger(tmp_path).append([Noted("by another run")])
    assert bytes_read(partial(entries_after, end)) > size
    assert entries_after(end)[0] == 1


@pytest.mark.parametrize("appends", [0, 1])
def test_an_old_byte_that_changes_in_mid_run_is_found_by_this_run(
    tmp_path: Path, appends: int
) -> None:
    ledger(tmp_path).append([Noted("one"), Noted("two")])
    run, path = ledger(tmp_path), tmp_path / LEDGER_FILE
    whole = run.since(LedgerPrefix())
    assert len(list(whole)) == 2
    path.write_bytes(path.read_bytes().replace(b'"one"', b'"One"'))
    run.append([Noted("three")] * appends)
    with pytest.raises(FleetError, match=r"Line 1 .* was changed"):
        list(run.since(whole.end))
