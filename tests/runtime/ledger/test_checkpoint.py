"""A checkpoint saves folding and changes nothing else, whatever becomes of file or ledger."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from fleet.errors import FleetError
from fleet.history import History, RetrainClaimed, fold_entries
from runtime.deadline import call_with_timeout
from runtime.ledger.checkpoint import (
    CHECKPOINT_FILE,
    EVERY,
    Checkpoint,
    is_forged,
    read_checkpoint,
    write_checkpoint,
)
from runtime.ledger.file import LEDGER_FILE
from runtime.ledger.replica import MIRROR_FILE, LedgerReplica
from tests.runtime.ledger.test_replica import NOON, home, is_a_copy, ledger

REPOSITORY = Path(__file__).parents[3]


def plain_fold(folder: Path) -> History:
    return fold_entries(home(folder).read())


def claimed(folder: Path, *aliases: str) -> None:
    home(folder).append([RetrainClaimed(alias, "bert", NOON, "why") for alias in aliases])


def with_checkpoint(folder: Path) -> Path:
    """Make a ledger of `EVERY` entries and three, and its checkpoint; return the latter's file."""
    claimed(folder, *(f"alias-{number}" for number in range(EVERY + 3)))
    assert ledger(folder).history() == plain_fold(folder)
    assert read_checkpoint(folder).prefix.seq == EVERY + 3
    return folder / CHECKPOINT_FILE


def test_what_is_appended_is_folded_on_and_a_checkpoint_follows_now_and_then(
    tmp_path: Path,
) -> None:
    path = with_checkpoint(tmp_path)
    before, same = path.read_bytes(), ledger(tmp_path)
    for number in range(5):
        claimed(tmp_path, f"later-{number}")
        assert same.history() == ledger(tmp_path).history() == plain_fold(tmp_path)
    assert path.read_bytes() == before
    assert is_a_copy(tmp_path)
    claimed(tmp_path, *(f"more-{number}" for number in range(EVERY)))
    assert same.history() == plain_fold(tmp_path)
    assert read_checkpoint(tmp_path).prefix.seq == 2 * EVERY + 8
    assert read_checkpoint(tmp_path).history == plain_fold(tmp_path)


def test_a_ledger_that_was_not_appended_to_is_not_read_again_by_one_run(tmp_path: Path) -> None:
    with_checkpoint(tmp_path)
    run = ledger(tmp_path)
    assert run.history() is run.history()


def no_file(path: Path) -> None:
    path.unlink()


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def changed_byte(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"alias-7", b"alias_7"))


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def rewrite(path: Path, change: dict[str, Any]) -> None:
    """Change a checkpoint by hand, as a person with its rights can."""
    document = json.loads(path.read_bytes().partition(b"\n")[2])
    body = json.dumps(document | change).encode()
    path.write_bytes(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)


def of_other_code(path: Path) -> None:
    rewrite(path, {"code": "0" * 64})


def of_other_fields(path: Path) -> None:
    rewrite(path, {"history": {"later": True}})


DAMAGE = (no_file, cut_off, empty, changed_byte, a_folder, a_fifo, of_other_code, of_other_fields)


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_checkpoint_that_is_damaged_or_of_another_release_is_made_anew(
    damage: Callable[[Path], None], tmp_path: Path
) -> None:
    path = with_checkpoint(tmp_path)
    damage(path)
    assert read_checkpoint(tmp_path) == Checkpoint()
    claimed(tmp_path, "one-more")
    assert ledger(tmp_path).history() == plain_fold(tmp_path)
    if damage is not a_folder:  # which nothing replaces: all is folded each time
        start = home(tmp_path).since(read_checkpoint(tmp_path).prefix).start
        made = Checkpoint(start).then(home(tmp_path).read()).sifted()
        assert read_checkpoint(tmp_path) == made
        assert made.history == plain_fold(tmp_path)


def test_a_checkpoint_of_another_ledger_is_not_used(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    with_checkpoint(here)
    claimed(there, "other")
    shutil.copy(here / CHECKPOINT_FILE, there)
    assert ledger(there).history() == plain_fold(there)
    assert read_checkpoint(there).prefix.seq == 1


@pytest.mark.parametrize("name", [b"alias_7", b"alias-seven"])
def test_a_line_before_the_checkpoint_that_was_changed_is_found_and_named(
    name: bytes, tmp_path: Path
) -> None:
    with_checkpoint(tmp_path)
    path = tmp_path / "home" / LEDGER_FILE
    run, times = ledger(tmp_path), path.stat()
    run.history()
    path.write_bytes(path.read_bytes().replace(b"alias-7", name, 1))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    for reader in (ledger(tmp_path), run):
        with pytest.raises(FleetError, match="was changed after it was written") as caught:
            reader.history()
        assert caught.value.diagnostics[0].code == "FC5102"
        assert f"Line 8 of `{path}`" in caught.value.diagnostics[0].detail


def test_another_chain_in_the_place_of_the_ledger_is_told_as_ever(tmp_path: Path) -> None:
    with_checkpoint(tmp_path)
    path = tmp_path / "home" / LEDGER_FILE
    size, before = path.stat().st_size, (tmp_path / MIRROR_FILE).read_bytes()
    path.unlink()
    claimed(tmp_path, *(f"alias*{number}" for number in range(EVERY + 3)))
    assert path.stat().st_size == size
    assert ledger(tmp_path).history() == plain_fold(tmp_path)
    assert (tmp_path / "ledger-as-last-read.1.jsonl").read_bytes() == before
    assert is_a_copy(tmp_path)


def test_a_ledger_that_was_cut_has_the_history_of_its_rest_and_the_copy_is_kept(
    tmp_path: Path,
) -> None:
    with_checkpoint(tmp_path)
    path = tmp_path / "home" / LEDGER_FILE
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:5]))
    assert ledger(tmp_path).history() == plain_fold(tmp_path)
    assert read_checkpoint(tmp_path).prefix.seq == 5
    assert (tmp_path / "ledger-as-last-read.1.jsonl").exists()


def test_an_empty_ledger_that_was_not_is_lost_whatever_its_checkpoint_says(tmp_path: Path) -> None:
    with_checkpoint(tmp_path)
    (tmp_path / "home" / LEDGER_FILE).unlink()
    with pytest.raises(FleetError) as caught:
        ledger(tmp_path).history()
    assert caught.value.diagnostics[0].code == "FC5109"


def test_an_edited_checkpoint_is_forged_and_one_that_no_plan_uses_is_not(tmp_path: Path) -> None:
    path = with_checkpoint(tmp_path)
    claimed(tmp_path, "one-more")
    entries = home(tmp_path).read()
    assert not is_forged(tmp_path, home(tmp_path), entries)
    whole = path.read_bytes()
    for part, field, value in (
        ("history", "claims", {}),
        ("history", "owned", ["server/a"]),
        ("prefix", "hash", "0" * 64),
        ("prefix", "seq", 9),
    ):
        document = json.loads(whole.partition(b"\n")[2])
        rewrite(path, {part: {**document[part], field: value}})
        assert is_forged(tmp_path, home(tmp_path), entries)
        path.write_bytes(whole)
    (tmp_path / "home" / LEDGER_FILE).unlink()
    claimed(tmp_path, "other")
    assert not is_forged(tmp_path, home(tmp_path), home(tmp_path).read())


def test_runs_at_the_same_time_do_each_other_no_harm(tmp_path: Path) -> None:
    with_checkpoint(tmp_path)
    claimed(tmp_path, *(f"more-{number}" for number in range(EVERY)))
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: ledger(tmp_path).history(), range(16)))
    assert all(history == plain_fold(tmp_path) for history in found)
    assert ledger(tmp_path).history() == plain_fold(tmp_path)


WRITER = """
import sys
from pathlib import Path
from typing import Any
from runtime.ledger.checkpoint import read_checkpoint, write_checkpoint
folder = Path(sys.argv[1])
made = read_checkpoint(folder)
print("ready", flush=True)
while True:
    write_checkpoint(folder, made)
"""


def test_a_writer_that_is_killed_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    with_checkpoint(tmp_path)
    for _ in range(5):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], cwd=REPOSITORY, stdout=subprocess.PIPE
        )
        assert writer.stdout is not None
        writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        assert read_checkpoint(tmp_path).prefix.seq == EVERY + 3
    (tmp_path / CHECKPOINT_FILE).unlink()
    write_checkpoint(tmp_path, Checkpoint())
    assert ledger(tmp_path).history() == plain_fold(tmp_path)


def test_a_call_may_take_long_as_long_as_it_gets_on() -> None:
    progress: list[int] = []

    def call() -> int:
        seen = 0
        while seen < 3:  # as often its seconds have begun anew
            seen += not progress
            progress[:] = [seen]
        return seen

    assert call_with_timeout(call, 0.5, progress=progress) == 3
    with pytest.raises(TimeoutError):
        call_with_timeout(Event().wait, 0.1, progress=[])


def test_the_first_copy_is_of_the_lines_that_were_folded_and_no_others(tmp_path: Path) -> None:
    with_checkpoint(tmp_path)
    (tmp_path / MIRROR_FILE).unlink()
    run = ledger(tmp_path)
    run.history()
    assert is_a_copy(tmp_path)
    (tmp_path / MIRROR_FILE).unlink()
    proven = read_checkpoint(tmp_path).prefix
    LedgerReplica(tmp_path).begin([b"other\n"] * proven.seq, proven)
    assert not list(tmp_path.glob(f"{MIRROR_FILE.removesuffix('.jsonl')}*.new"))
    assert not (tmp_path / MIRROR_FILE).exists()


def test_a_run_reads_and_proves_a_ledger_once_until_it_is_written_to(tmp_path: Path) -> None:
    with_checkpoint(tmp_path)
    run = ledger(tmp_path)
    first = run.read()
    assert all(one is other for one, other in zip(first, run.read(), strict=True))
    claimed(tmp_path, "one-more")
    assert [entry.line for entry in run.read()] == [entry.line for entry in home(tmp_path).read()]
    path = tmp_path / "home" / LEDGER_FILE
    path.write_bytes(path.read_bytes().replace(b"alias-7", b"alias_7", 1))
    with pytest.raises(FleetError, match="was changed after it was written"):
        run.read()
