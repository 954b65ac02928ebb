"""The file of a usage log."""

import asyncio
import json
import os
import shutil
import threading
from pathlib import Path

import pytest

from runtime.usage import log as usage_log
from runtime.usage.log import USAGE_FILE, UsageLog


@pytest.mark.parametrize(
    ("found", "kept"),
    [
        (b"", b""),
        (b'{"a":1}\n', b'{"a":1}\n'),
        (b'{"a":1}\n{"b"', b'{"a":1}\n'),
        (b'{"a"', b""),
        (b"x" * 200_000 + b"\ny", b"x" * 200_000 + b"\n"),
    ],
)
def test_an_incomplete_line_is_cut_off(tmp_path: Path, found: bytes, kept: bytes) -> None:
    path = tmp_path / "usage.jsonl"
    path.write_bytes(found)
    with UsageLog(path) as log:
        log.append(b"new")
    assert path.read_bytes() == kept + b"new\n"


def test_a_full_file_is_put_aside_and_no_row_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "usage.jsonl"
    rows = [json.dumps({"row": number}).encode() for number in range(100)]
    with UsageLog(path, rotate_bytes=200) as log:
        for row in rows:
            log.append(row)
    files = sorted(each for each in tmp_path.iterdir() if each != path)
    assert len(files) > 5
    assert all(file.stat().st_size <= 200 for file in (*files, path))
    assert all(file.stat().st_mode & 0o077 == 0 for file in files)
    assert b"".join(file.read_bytes() for file in (*files, path)).splitlines() == rows


def test_a_file_that_cannot_be_put_aside_grows_on_and_is_put_aside_later(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "usage.jsonl"
    in_the_way = tmp_path / ".usage.jsonl.next"
    in_the_way.mkdir()
    with UsageLog(path, rotate_bytes=10) as log:
        for number in range(3):
            log.append(b"row %d ..." % number)
        assert path.read_bytes() == b"row 0 ...\nrow 1 ...\nrow 2 ...\n"
        in_the_way.rmdir()
        log.append(b"row 3 ...")
        assert path.read_bytes() == b"row 3 ...\n"
    (aside,) = tmp_path.glob("usage-*.jsonl")
    assert aside.read_bytes() == b"row 0 ...\nrow 1 ...\nrow 2 ...\n"
    assert capfd.readouterr().err.count("cannot be put aside") == 1


def test_a_log_that_another_process_reads_is_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "usage.jsonl"
    with UsageLog(path) as log:
        log.append(b"one")
        reader = os.open(path, os.O_RDONLY)
        assert os.read(reader, 99) == b"one\n"
        log.append(b"two")
        assert os.read(reader, 99) == b"two\n"
        os.close(reader)


def test_what_is_appended_is_soon_written_through_and_no_descriptor_stays_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(usage_log, "SYNC_EVERY_S", 0.001)
    others = {*threading.enumerate()}

    async def scenario() -> None:
        with UsageLog(tmp_path / USAGE_FILE, rotate_bytes=200) as log:
            keeping = asyncio.create_task(usage_log.keep_synced(log))
            async with asyncio.timeout(60):
                for number in range(40):  # some of which put the file aside
                    log.append(b"x" * (number + 1))
                    while not log.is_synced:  # noqa: ASYNC110 (by a task in this loop)
                        await asyncio.sleep(0)
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)

    asyncio.run(scenario())
    for each in {*threading.enumerate()} - others:
        each.join(10)  # those that settle what was put aside
    assert len([*tmp_path.iterdir()]) > 3
    held = [str(each.readlink()) for each in Path("/proc/self/fd").iterdir() if each.is_symlink()]
    assert [each for each in held if each.startswith(str(tmp_path))] == []
    assert capfd.readouterr().err == ""


def test_a_file_that_was_removed_is_begun_anew_with_what_came_since(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "gateways" / USAGE_FILE
    path.parent.mkdir()
    with UsageLog(path) as log:
        log.append(b"before")
        log.check_file()
        assert path.read_bytes() == b"before\n"
        log.append(b"unseen")
        shutil.rmtree(path.parent)
        log.append(b"meanwhile")
        log.check_file()
        log.append(b"after")
        log.check_file()
        assert path.read_bytes() == b"unseen\nmeanwhile\nafter\n"
    assert capsys.readouterr().err.count("was removed") == 1
