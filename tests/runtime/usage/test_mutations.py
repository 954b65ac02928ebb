"""Ingested logs that are damaged, split, renamed, restored and copied: no row counts twice."""

import random
import shutil
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from fleet.usage import COUNTS, Operator
from runtime.usage.ingest import ingest
from runtime.usage.log import segments
from runtime.usage.parquet import KEEP_LOGS, compact
from runtime.usage.store import UsageStore
from runtime.usage.tables import FOLDER, STORE_FILE
from tests.drawn import drawn, examples
from tests.runtime.usage.test_killed_ingest import made_up
from tests.runtime.usage.test_parquet import logged

DAY: Final = datetime(2026, 11, 25, tzinfo=UTC)
NOW: Final = DAY + timedelta(days=3)
ROWS: Final = 40

Sums = dict[tuple[Any, ...], tuple[int, ...]]


def made_rows(draw: random.Random, count: int, first: int) -> list[bytes]:
    """Return rows, most with ids that are drawn, as a gateway draws them."""
    rows = [made_up(first + number, draw) for number in range(count)]
    if draw.random() < 0.3:  # ids of other gateways, which resemble each other
        return rows
    return [
        row.replace(f"{first + number:032x}".encode(), f"{draw.getrandbits(128):032x}".encode())
        for number, row in enumerate(rows)
    ]


def sums(state: Path) -> Sums:
    """Return what bills are made of: the counts of all cells of an hour."""
    with UsageStore(state) as store:
        cells = store.cells(Operator(), DAY, NOW, purposes=())
        return {
            (cell.start, cell.client, cell.alias, cell.version, cell.server): tuple(
                getattr(cell.figures, name) for name in COUNTS
            )
            for cell in cells
        }


def any_log(state: Path, draw: random.Random) -> Path:
    return draw.choice([segment.path for segment in segments(state)])


def flip(state: Path, draw: random.Random) -> None:
    """Change a byte of a log, in half of the cases in its first row."""
    log = any_log(state, draw)
    text = bytearray(log.read_bytes())
    end = draw.choice([len(text), text.index(b"\n") + 1])
    text[draw.randrange(end)] ^= 1 << draw.randrange(8)
    log.write_bytes(text)


def alter_id(state: Path, draw: random.Random) -> None:
    """Change a digit of the id or the time of a row, so that the row is a sound one."""
    log = any_log(state, draw)
    lines = log.read_bytes().splitlines(keepends=True)
    place = draw.choice([0, draw.randrange(len(lines)), len(lines) - 1])
    line = lines[place]
    for field in draw.sample([b'"request_id":"', b'"time":"2026-11-25T0'], 2):
        at = line.find(field) + len(field)
        if at >= len(field):
            digit = b"1" if line[at : at + 1] != b"1" else b"2"
            lines[place] = line[:at] + digit + line[at + 1 :]
            break
    log.write_bytes(b"".join(lines))


def split(state: Path, draw: random.Random) -> None:
    """Divide a log at any byte, or between two rows."""
    log = any_log(state, draw)
    text = log.read_bytes()
    at = draw.randrange(1, len(text))
    if draw.random() < 0.7:
        at = text.rindex(b"\n", 0, at) + 1 if b"\n" in text[:at] else at
    log.with_name(f"usage-9{draw.randrange(10**9):09}.jsonl").write_bytes(text[at:])
    log.write_bytes(text[:at])


def rename(state: Path, draw: random.Random) -> None:
    """Give a log another name, in the folder of this gateway or of another one."""
    log = any_log(state, draw)
    folder = state / "gateways" / draw.choice(["main", "spare", "third"])
    folder.mkdir(exist_ok=True)
    log.rename(folder / f"usage-8{draw.randrange(10**9):09}.jsonl")


def restore(state: Path, draw: random.Random) -> None:
    """Put a copy of an earlier moment beside a log, or in its place."""
    log = any_log(state, draw)
    lines = log.read_bytes().splitlines(keepends=True)
    copy = log if draw.random() < 0.5 else log.with_name(f"usage-7{draw.randrange(10**9):09}.jsonl")
    copy.write_bytes(b"".join(lines[: draw.randrange(1, len(lines) + 1)]))


def second_gateway(state: Path, draw: random.Random) -> None:
    """Copy the logs of a gateway to another one."""
    name = draw.choice(["main", "spare"])
    copy = state / "gateways" / f"second-{draw.randrange(10**6)}"
    shutil.copytree(state / "gateways" / name, copy)


def salvage(state: Path, draw: random.Random) -> list[bytes]:
    """Let a log go on from an earlier moment, and put what it had become beside it.

    Both begin with the same row and have rows that are not ingested: return them.
    """
    log, first = any_log(state, draw), 2000 + 20 * len([*state.rglob("usage-6*")])
    lines = [line for line in log.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
    rows = made_rows(draw, 2 * 10, first)
    here, beside = rows[: draw.randrange(1, 11)], rows[10 : draw.randrange(11, 21)]
    lost = log.with_name(f"usage-6{draw.randrange(10**9):09}.jsonl")
    lost.write_bytes(b"".join([*lines, *(row + b"\n" for row in beside)]))
    before = lines[: draw.randrange(1, len(lines) + 1)]
    log.write_bytes(b"".join([*before, *(row + b"\n" for row in here)]))
    return here + beside


MUTATIONS: Final[list[Callable[[Path, random.Random], list[bytes] | None]]] = [
    flip, alter_id, split, rename, restore, second_gateway, salvage,
]  # fmt: skip


def play(state: Path, seed: int) -> None:
    """Play mutations between ingestions: the sums are those of the rows that were written."""
    draw = random.Random(seed)  # noqa: S311
    rows = made_rows(draw, ROWS, 0)
    counts = draw.choice([[ROWS], [1, 1, 5, ROWS - 7], [12, 12, ROWS - 24]])
    for place, count in enumerate(counts):
        taken, rows = rows[:count], rows[count:]
        logged(state, *taken, gateway="main", rotate=draw.choice([2**20, 4000]))
        logged(state, *made_rows(draw, 3, 500 + 3 * place), gateway="spare")
        ingest(state, NOW)
    wanted = sums(state)
    played, more = list[str](), list[bytes]()
    for mutate in draw.choices(MUTATIONS, k=draw.choice([1, 1, 2])):
        if played:
            ingest(state, NOW)
        played.append(mutate.__name__)
        more += mutate(state, draw) or []
    later = made_rows(draw, draw.choice([0, 1, 20, 60]), 1000)
    logged(state, *later, gateway="main")
    ingest(state, NOW)
    fresh = state.with_name(f"{state.name}-more")
    logged(fresh, *more, *later)
    ingest(fresh, NOW)
    expected = dict(wanted)
    for key, figures in sums(fresh).items():
        before = expected.get(key, (0,) * len(COUNTS))
        expected[key] = tuple(map(sum, zip(before, figures, strict=True)))
    assert sums(state) == expected, (seed, counts, played)


@drawn
@pytest.mark.parametrize("block", range(10))
def test_mutations_of_ingested_logs_change_no_sum(tmp_path: Path, block: int) -> None:
    """A damaged byte of a log's first row billed all its rows again: 26.98 EUR for 0.44."""
    for number in range(examples(5, 50)):
        play(tmp_path / str(number), 1000 * block + number)


def altered(row: bytes, digit: int) -> bytes:
    """Return a row with another digit in its id."""
    at = row.index(b'"request_id":"') + len(b'"request_id":"') + digit
    return row[:at] + (b"2" if row[at : at + 1] == b"1" else b"1") + row[at + 1 :]


@pytest.mark.parametrize("first", range(4))
def test_two_rows_of_a_short_log_that_are_altered_count_once(tmp_path: Path, first: int) -> None:
    """The last row and any before it: 1 row was billed again, and 2 where they were neighbours."""
    rows = made_rows(random.Random(7), 5, 0)  # noqa: S311
    logged(tmp_path, *rows)
    ingest(tmp_path, NOW)
    wanted = sums(tmp_path)
    (log,) = (tmp_path / "gateways/main").iterdir()
    changed = [altered(row, 0) if place in (first, 4) else row for place, row in enumerate(rows)]
    log.write_bytes(b"".join(row.rstrip(b"\n") + b"\n" for row in changed))
    assert (ingest(tmp_path, NOW).rows, sums(tmp_path)) == (0, wanted)
    logged(tmp_path, *made_rows(random.Random(8), 2, 1000))  # noqa: S311
    assert ingest(tmp_path, NOW).rows == 2


def as_before(state: Path) -> None:
    """Give a store the tables of version 1, which knew no parts."""
    with sqlite3.connect(state / FOLDER / STORE_FILE) as database:
        database.executescript(
            "DROP TABLE parts; DROP TABLE part_hours; ALTER TABLE marks DROP COLUMN tail;"
            "CREATE TABLE recent (gateway TEXT, request_id TEXT, ended REAL);"
            "PRAGMA user_version = 1;"
        )


def test_a_store_of_an_earlier_release_learns_which_rows_it_has_counted(tmp_path: Path) -> None:
    rows = made_rows(random.Random(1), 30, 0)  # noqa: S311
    logged(tmp_path, *rows[:20], rotate=4000)
    ingest(tmp_path, NOW)
    as_before(tmp_path)
    with UsageStore(tmp_path) as store:  # readable before it is written
        assert sum(store.marks().values())
    logged(tmp_path, *rows[20:])
    assert ingest(tmp_path, NOW).rows == 10
    wanted = sums(tmp_path)
    for log in (tmp_path / "gateways/main").iterdir():
        log.write_bytes(b"x" + log.read_bytes()[1:])
    assert ingest(tmp_path, NOW).rows == 0
    assert sums(tmp_path) == wanted


def test_a_log_that_was_damaged_is_read_back_once_more(tmp_path: Path) -> None:
    """A row that could not be read when it was ingested counts when its log is restored."""
    rows = made_rows(random.Random(2), 9, 0)  # noqa: S311
    logged(tmp_path, *rows)
    log = tmp_path / "gateways/main/usage.jsonl"
    whole = log.read_bytes()
    log.write_bytes(b"{torn\n" + whole)
    assert ingest(tmp_path, NOW).damaged == {log: 1}
    log.write_bytes(whole.replace(rows[4], b"x" * len(rows[4])))
    assert ingest(tmp_path, NOW).duplicates == 8
    log.write_bytes(whole)
    assert ingest(tmp_path, NOW).rows == 0
    more = made_rows(random.Random(3), 2, 20)  # noqa: S311
    log.write_bytes(whole + b"x" * 50 + b"\n" + more[1] + b"\n")
    assert ingest(tmp_path, NOW).rows == 1
    log.write_bytes(whole + more[0] + b"\n" + more[1] + b"\n")
    ingest(tmp_path, NOW)
    assert sum(counts[0] for counts in sums(tmp_path).values()) == len(rows) + len(more)


def test_a_log_that_was_changed_since_is_not_removed(tmp_path: Path) -> None:
    rows = made_rows(random.Random(4), 40, 0)  # noqa: S311
    logged(tmp_path, *rows, rotate=8000)
    ingest(tmp_path, NOW)
    compact(tmp_path, NOW)
    damaged, *_ = sorted((tmp_path / "gateways/main").glob("usage-*.jsonl"))
    text = bytearray(damaged.read_bytes())
    text[text.rindex(b'"path"') + 1] ^= 1
    damaged.write_bytes(text)
    assert compact(tmp_path, datetime.now(UTC) + KEEP_LOGS + timedelta(days=1)).kept == [damaged]
