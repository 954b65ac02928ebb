"""The copy of the ledger is what was last read of it, whatever becomes of either file."""

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread, active_count

import pytest

from fleet.errors import FleetError
from fleet.history import Noted, Released
from runtime.files import try_lock
from runtime.ledger.fallback import FallbackLedger, last_known
from runtime.ledger.file import LEDGER_FILE, FileLedger
from runtime.ledger.outbox import LedgerOutbox, deliver
from runtime.ledger.protocol import LedgerSnapshot
from runtime.ledger.replica import MIRROR_FILE, LedgerReplica

NOON = datetime(2031, 5, 1, 12, tzinfo=UTC)


def home(folder: Path) -> FileLedger:
    return FileLedger(folder / "home", run="r", by="ann", clock=lambda: NOON)


def ledger(folder: Path, read_s: float = 60.0, hung: list[Thread] | None = None) -> FallbackLedger:
    return FallbackLedger(home(folder), LedgerReplica(folder), [] if hung is None else hung, read_s)


def known(folder: Path, read_s: float = 60.0) -> LedgerSnapshot:
    return last_known(lambda: ledger(folder, read_s), LedgerReplica(folder), folder / "queued")


def noted(folder: Path, *texts: str) -> None:
    ledger(folder).append([Noted(each) for each in texts])
    ledger(folder).read()


def is_a_copy(folder: Path) -> bool:
    return (folder / MIRROR_FILE).read_bytes() == (folder / "home" / LEDGER_FILE).read_bytes()


def torn(content: bytes) -> bytes:
    return content + b'{"seq": 3, "ti'


def cut_off(content: bytes) -> bytes:
    return content[:-20]


def of_another(content: bytes) -> bytes:
    return content.replace(b"one", b"One")


def emptied(_: bytes) -> bytes:
    return b""


@pytest.mark.parametrize("damage", [torn, cut_off, of_another, emptied])
def test_a_copy_that_was_damaged_is_one_again_after_the_next_entry(
    tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    noted(tmp_path, "one", "two ü €")
    assert is_a_copy(tmp_path)
    path = tmp_path / MIRROR_FILE
    path.write_bytes(damage(path.read_bytes()))
    noted(tmp_path, "three")
    assert is_a_copy(tmp_path) or damage is of_another  # in the middle: found when it is needed


def test_entries_are_added_to_the_copy_and_nothing_else_of_it_is_written(tmp_path: Path) -> None:
    noted(tmp_path, "one")
    before = (tmp_path / MIRROR_FILE).stat().st_ino
    noted(tmp_path, "two", "three")
    noted(tmp_path)
    assert is_a_copy(tmp_path)
    assert (tmp_path / MIRROR_FILE).stat().st_ino == before


def test_a_ledger_that_was_lost_is_not_begun_anew_but_put_back_from_the_copy(
    tmp_path: Path,
) -> None:
    noted(tmp_path, "one", "two")
    path = tmp_path / "home" / LEDGER_FILE
    content = path.read_bytes()
    outbox = LedgerOutbox(lambda: ledger(tmp_path), tmp_path / "queued", "ben", "r7")
    for emptied in (path.unlink, lambda: path.write_bytes(b"torn")):
        path.write_bytes(content)
        emptied()
        for call in (
            ledger(tmp_path).read,
            lambda: ledger(tmp_path).append([Noted()]),
            lambda: deliver(tmp_path / "queued", ledger(tmp_path)),
        ):
            if not (tmp_path / "queued").exists():
                assert "The ledger is gone" in outbox.append([Released("a")])
            with pytest.raises(FleetError) as caught:
                call()
            (shown,) = caught.value.diagnostics
            assert shown.code == "FC5109"
            assert "2 entries were read from it before, the last by ann" in shown.detail
            assert str(tmp_path / MIRROR_FILE) in shown.hint
        assert not path.exists() or path.read_bytes() == b"torn"
    assert shown.command == "fleetctl ledger restore"
    assert ledger(tmp_path).restore(LedgerReplica(tmp_path).read()).entries == 2
    assert [deliver(tmp_path / "queued", ledger(tmp_path)) for _ in range(2)] == [1, 0]
    assert [each.event.kind for each in ledger(tmp_path).read()] == ["note", "note", "released"]
    assert is_a_copy(tmp_path)


def test_a_copy_is_moved_aside_for_another_history_and_that_is_said_once(tmp_path: Path) -> None:
    noted(tmp_path, "one", "two")
    path, told = tmp_path / "home" / LEDGER_FILE, list[str]()
    mine = FallbackLedger(home(tmp_path), LedgerReplica(tmp_path, told.append), [])
    copies, backup = [path.read_bytes()], path.read_bytes().splitlines(keepends=True)[0]
    for number in (1, 2):
        path.write_bytes(backup)
        mine.read()
        mine.read()
        (said,) = told
        assert "2 entries were read of it" in said
        aside = tmp_path / f"ledger-as-last-read.{number}.jsonl"
        assert said.endswith(str(aside))
        assert aside.read_bytes() == copies[-1]
        assert is_a_copy(tmp_path)
        told.clear()
        mine.append([Noted("another")])
        mine.read()
        assert told == []
        copies.append(path.read_bytes())
    assert len({*copies}) == len(copies) - 1  # the clock stands still: the second is the first


def test_an_older_reading_takes_nothing_from_what_another_process_has_kept(tmp_path: Path) -> None:
    noted(tmp_path, "one")
    told = list[str]()
    mine = LedgerReplica(tmp_path, told.append)
    before, older = mine.tail(), home(tmp_path).read()
    noted(tmp_path, "two")
    mine.save(older, before)
    assert is_a_copy(tmp_path)
    assert told == []


@pytest.mark.parametrize(
    ("instead", "code"), [(Path.mkdir, "FC5107"), (os.mkfifo, "FC5107"), (None, "FC5109")]
)
def test_what_is_known_of_a_home_that_is_away(
    tmp_path: Path, instead: Callable[[Path], None] | None, code: str
) -> None:
    noted(tmp_path, "one", "two")
    assert known(tmp_path).away is None
    (tmp_path / "home" / LEDGER_FILE).unlink()
    if instead is not None:
        instead(tmp_path / "home" / LEDGER_FILE)
    read_s = 0.5 if instead is os.mkfifo else 60.0  # whoever opens a pipe waits for a writer
    found = known(tmp_path, read_s)
    assert found.away is not None
    assert found.away.diagnostics[0].code == code
    assert [each.document()["text"] for each in found.entries] == ["one", "two"]
    (tmp_path / MIRROR_FILE).write_text("nonsense\n", encoding="utf-8")
    with pytest.raises(FleetError, match="is damaged" if instead is None else "does not answer"):
        known(tmp_path, read_s)


def test_a_home_that_hangs_is_not_asked_again_until_it_has_answered(tmp_path: Path) -> None:
    noted(tmp_path, "one")
    path, hung = tmp_path / "home" / LEDGER_FILE, list[Thread]()
    content = path.read_bytes()
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(FleetError, match="No answer within"):
        ledger(tmp_path, 0.5, hung).read()
    left = active_count()
    for _ in range(3):
        with pytest.raises(FleetError, match="No answer yet to what was asked before"):
            ledger(tmp_path, 0.5, hung).read()
    assert active_count() == left
    path.write_bytes(content)  # whoever hung reads it now
    hung[0].join()
    path.unlink()
    path.write_bytes(content)
    assert [each.document()["text"] for each in ledger(tmp_path, hung=hung).read()] == ["one"]


def test_a_new_fleet_has_no_ledger_and_misses_none(tmp_path: Path) -> None:
    assert known(tmp_path).away is None
    assert not known(tmp_path).entries
    assert not (tmp_path / MIRROR_FILE).exists()


def test_what_is_queued_follows_what_was_read_and_is_there_once(tmp_path: Path) -> None:
    noted(tmp_path, "one")
    outbox = LedgerOutbox(
        lambda: ledger(tmp_path), tmp_path / "queued", "ben", "r7", down="it is away"
    )
    assert outbox.append([Released("acme-support")]).startswith("it is away; it is q")
    path = tmp_path / "home" / LEDGER_FILE
    aside = path.rename(tmp_path / "aside")
    last = known(tmp_path).entries[-1]
    assert (last.seq, last.event.kind, last.by, last.run) == (2, "released", "ben", "r7")
    assert last.document()["alias"] == "acme-support"
    aside.rename(path)
    waiting = next((tmp_path / "queued").glob("*.json"))
    kept = waiting.read_bytes()
    assert deliver(tmp_path / "queued", ledger(tmp_path)) == 1
    ledger(tmp_path).read()
    waiting.write_bytes(kept)  # as if the run had been killed before it was removed
    path.unlink()
    assert [each.event.kind for each in known(tmp_path).entries] == ["note", "released"]


def test_what_is_written_here_is_in_the_copy_at_once(tmp_path: Path) -> None:
    mine, other = ledger(tmp_path), ledger(tmp_path)
    mine.append([Noted("one")])
    other.append([Noted("two ü"), Noted("three")])
    assert is_a_copy(tmp_path)
    home(tmp_path).append([Noted("from another machine")])
    path = tmp_path / MIRROR_FILE
    path.write_bytes(path.read_bytes() + b'{"torn')
    mine.append([Noted("four")])
    assert is_a_copy(tmp_path)
    path.write_bytes(b"nonsense\n")
    mine.append([Noted("five")])
    assert path.read_bytes() == b"nonsense\n", "what is damaged waits until all is read"
    mine.read()
    assert is_a_copy(tmp_path)
    with try_lock(tmp_path / "ledger-as-last-read.lock"):
        mine.append([Noted("while another process writes it")])
    assert not is_a_copy(tmp_path)
    mine.append([Noted("six")])
    assert is_a_copy(tmp_path)


@pytest.mark.parametrize("lengths", [[3], [70_000, 5, 140_000, 1], [65_536 - 10] * 4])
def test_a_ledger_is_read_from_its_end_as_far_as_is_asked(
    tmp_path: Path, lengths: list[int]
) -> None:
    mine = home(tmp_path)
    for length in lengths:
        mine.append([Noted("ü" * length)])
    everything = mine.read()
    path = tmp_path / "home" / LEDGER_FILE
    path.write_bytes(path.read_bytes() + b'{"seq": 99, "torn')
    for after in range(len(lengths) + 1):
        assert mine.newest(after) == everything[after:]


def test_entries_about_a_name_are_found_without_reading_the_others(tmp_path: Path) -> None:
    assert LedgerReplica(tmp_path).about("acme-support") == ([], None)
    noted(tmp_path, "of acme-support", "of birch-faq", "of acme-support, too", "of nobody")
    found, last = LedgerReplica(tmp_path).about("acme-support")
    assert ([each.seq for each in found], last) == ([1, 3], NOON)
    path = tmp_path / MIRROR_FILE
    path.write_bytes(path.read_bytes().replace(b"too", b"two"))
    with pytest.raises(FleetError, match="was changed after it was written"):
        LedgerReplica(tmp_path).about("acme-support")
    assert len(LedgerReplica(tmp_path).about("birch-faq")[0]) == 1
