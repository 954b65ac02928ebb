"""The file of a usage log: one JSON line per request, durable against a killed process.

The kernel has a row when `append` returns; the disk has it soon after (`keep_synced`).
"""

import asyncio
import errno
import hashlib
import os
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import accumulate, chain, pairwise
from pathlib import Path
from typing import BinaryIO, Final, Self

from runtime.files import LARGEST_LOG, PRIVATE, make_private, open_plain, too_large

USAGE_FILE: Final = "usage.jsonl"
LOG_PATTERN: Final = "usage*.jsonl"
"""Matches the file and those that rotation renamed."""
COPY_PREFIX: Final = "copy-of-usage-"
"""Begins the names of copies from gateways on other machines."""
COPY_PATTERN: Final = f"{COPY_PREFIX}*.jsonl"
ROTATE_BYTES: Final = 64 * 2**20
"""Upper bound of the file, in bytes (200,000 rows or so); beyond it the file is renamed."""
SYNC_EVERY_S = 0.2
"""Seconds between two syncs: upper bound of what a power failure takes."""
_TAIL_BYTES: Final = 65_536
"""Upper bound of a row, in bytes."""
_TRIAL_BYTES: Final = 4096
"""Bytes of a trial write, more than most rows have."""


class UsageLog:
    """Appends rows to a file; an append is one write, so that a killed process loses no row.

    A line that a power failure left incomplete is cut off first.
    """

    def __init__(self, path: Path, rotate_bytes: int = ROTATE_BYTES) -> None:
        self._path = path
        self._rotate_bytes = rotate_bytes
        self._file = _open(path)
        self._size = self._seen_size = cut_incomplete_line(self._file)
        """`_seen_size`: bytes in the file when it last had its name."""
        self._has_warned = False
        self.is_refusing = False
        """Whether the last row could not be written; no request is answered then."""
        self.refusal = ""
        """Why the last row could not be written; empty: it was."""
        self.is_synced = True
        """Whether the disk was told of all that is in the file."""

    @property
    def folder(self) -> Path:
        """Folder of the file and of those that rotation renamed."""
        return self._path.parent

    def append(self, row: bytes) -> None:
        """Write a row, given without its line end; the kernel has the row on return.

        Raises:
            OSError: the row could not be written whole (the disk is full); no part of it stays.
        """
        line = row + b"\n"
        if self._size and self._size + len(line) > self._rotate_bytes:
            self._rotate()
        self._write(line)
        self._size += len(line)
        self.is_synced = False

    def try_write(self) -> None:
        """Find out whether a row could be written again; nothing of the trial stays."""
        with suppress(OSError):
            self._write(b" " * _TRIAL_BYTES)
            os.ftruncate(self._file, self._size)

    def _write(self, data: bytes) -> None:
        try:
            self._write_whole(data)
        except OSError as error:
            self.refusal = error.strerror or str(error)
            if not self.is_refusing:
                self.is_refusing = True
                warn(f"The usage log cannot be written, so clients are refused: {error}")
            raise
        if self.is_refusing:
            self.is_refusing, self.refusal = False, ""
            warn("The usage log can be written again.")

    def _write_whole(self, data: bytes) -> None:
        if os.write(self._file, data) != len(data):
            os.ftruncate(self._file, self._size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def take_unsynced(self) -> int | None:
        """Return a descriptor of the file, to be synced and closed; None: nothing new is in it."""
        if self.is_synced:
            return None
        self.is_synced = True
        return os.dup(self._file)

    def check_file(self) -> None:
        """Begin another file, with a warning, where the file was removed.

        Rows since the last check are in both.
        """
        with suppress(OSError):
            if os.path.samestat(os.fstat(self._file), self._path.stat()):
                self._seen_size = self._size
                return
        lost = os.pread(self._file, self._size - self._seen_size, self._seen_size)
        try:
            make_private(self._path.parent)
            fresh = _open(self._path)
        except OSError as error:
            self._warn_once(f"The usage log's file was removed and none can be made: {error}")
            return
        warn("The usage log's file was removed; another one has been begun.")
        os.close(self._file)
        self._file, self._size = fresh, cut_incomplete_line(fresh)
        self._seen_size, self._has_warned = self._size, False
        if lost:
            with suppress(OSError):
                self._write(lost)
                self._size += len(lost)
                self.is_synced = False

    def close(self) -> None:
        """Sync to the disk and close."""
        _sync_and_close(self._file)

    def _rotate(self) -> None:
        """Rename the file and begin another; where that fails, go on with the file there is."""
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
        renamed = self._path.with_name(f"{self._path.stem}-{stamp}{self._path.suffix}")
        try:
            fresh = _rename_and_open(self._path, renamed)
        except OSError as error:
            self._warn_once(f"The usage log cannot be put aside and grows on: {error}")
            return
        # In a thread: the disk may take seconds, and requests must not wait for it.
        threading.Thread(target=_sync_and_close, args=(self._file,)).start()
        self._file, self._size, self._seen_size, self._has_warned = fresh, 0, 0, False

    def _warn_once(self, text: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            warn(text)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


async def keep_synced(log: UsageLog) -> None:
    """Sync rows every `SYNC_EVERY_S` until cancelled; retry refused rows, renew a removed file."""
    has_warned, loop = False, asyncio.get_running_loop()
    while True:
        await asyncio.sleep(SYNC_EVERY_S)
        if log.is_refusing:
            log.try_write()
        log.check_file()
        file = log.take_unsynced()
        if file is None:
            continue
        try:
            # In a thread: the disk may take seconds. Shielded: a cancellation before the thread
            # begins would leave the file open.
            await asyncio.shield(loop.run_in_executor(None, _sync_and_close, file))
        except OSError as error:
            if not has_warned:
                warn(f"The usage log cannot be written through to the disk: {error}")
            has_warned = True


def warn(text: str) -> None:
    """Write to the log of the process, which often lies on the disk that is full just then."""
    with suppress(OSError, ValueError):
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


def _sync_and_close(file: int) -> None:
    try:
        os.fdatasync(file)
    finally:
        os.close(file)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, PRIVATE)


def _rename_and_open(path: Path, renamed: Path) -> int:
    """Rename a file and return the descriptor of a new file under the old name.

    Raises:
        OSError: no file can be made or renamed; the old file has its name still.
    """
    scratch = path.with_name(f".{path.name}.next")
    fresh = _open(scratch)
    try:
        path.rename(renamed)
        try:
            scratch.rename(path)
        except OSError:
            renamed.rename(path)
            raise
    except OSError:
        os.close(fresh)
        raise
    return fresh


def cut_incomplete_line(file: int) -> int:
    """Cut off an incomplete last line; return the size in bytes that stays."""
    size = os.fstat(file).st_size
    start = max(0, size - _TAIL_BYTES)
    tail = os.pread(file, size - start, start)
    if tail and not tail.endswith(b"\n"):
        size = start + tail.rfind(b"\n") + 1
        os.ftruncate(file, size)
    return size


GATEWAYS: Final = "gateways"
"""Folder of a state folder that holds the folders of its gateways."""
USAGE_PATH: Final = "/-/usage"
"""Path on a gateway's admin side.

`GET /-/usage` lists the segments with their sizes in bytes, and the gateway's clock.
`GET /-/usage/KEY?from=BYTES` gives whole rows of one segment from there on.
"""
LOG_BYTES: Final = 50 * 2**30
"""Size of a gateway's usage log where none is declared: 110 million rows or so."""
LONGEST_ROW: Final = 65_536
"""Upper bound of a row, in bytes."""
TAIL_BYTES: Final = 4096
"""Upper bound of the text of a log that is compared, to know whether the log is the same."""
_ALTERED_BYTES: Final = 4
"""Upper bound of the altered bytes of a row in which the row is known again: the drawn ids of two
rows differ in 30 digits or so."""


def log_bytes(gateway_dir: Path) -> int:
    """Return the bytes of a gateway's usage log, of all its files together."""
    total = 0
    for path in gateway_dir.glob(LOG_PATTERN):
        with suppress(FileNotFoundError):  # rotated or removed meanwhile
            total += path.stat().st_size
    return total


@dataclass(frozen=True, slots=True)
class Segment:
    """A file of a gateway's usage log."""

    path: Path
    gateway: str
    key: str
    """Hash of the first row; of the inode too where other logs with this row go on differently."""
    end: int
    """Bytes up to the end of the last whole row."""
    inode: int

    def read(self, start: int, size: int) -> bytes:
        """Return bytes, whatever name the file has by now; empty: the file is gone."""
        for path in self._names():
            with suppress(FileNotFoundError), open_plain(path) as stream:
                if os.fstat(stream.fileno()).st_ino == self.inode:
                    stream.seek(start)
                    return stream.read(size)
        return b""

    def _names(self) -> Iterator[Path]:
        yield self.path
        yield from sorted(self.path.parent.glob(LOG_PATTERN), reverse=True)

    def read_rows(self, start: int, max_bytes: int | None = None) -> bytes:
        """Return whole rows from offset `start` on, whatever name the file has by now.

        `max_bytes` is above the size of any row; None: no bound. A line of more bytes comes in
        parts, which are no rows. Raises `OSError`.
        """
        size = max(0, self.end - start)
        if max_bytes is None and size > LARGEST_LOG:
            raise too_large(self.path, LARGEST_LOG)
        rows = self.read(start, size if max_bytes is None else min(size, max_bytes))
        return rows[: rows.rfind(b"\n") + 1] or rows


def segments(state_dir: Path, *, copies: bool = False) -> Iterator[Segment]:
    """Yield all files with a row of the gateways of a state folder, if asked also copies."""
    folder = state_dir / GATEWAYS
    for gateway_dir in sorted(folder.iterdir()) if folder.is_dir() else ():
        yield from _files(gateway_dir, copies=copies)


def gateway_segments(gateway_dir: Path) -> list[Segment]:
    """Return the segments of a gateway that hold a row, without copies; raises `OSError`."""
    return distinct(_files(gateway_dir))


def _files(gateway_dir: Path, *, copies: bool = False) -> Iterator[Segment]:
    """Yield the files: all are inspected before the first is given, again after a rotation."""
    paths: list[Path] = []
    inspected: list[Segment] = []
    patterns = (LOG_PATTERN, COPY_PATTERN) if copies else (LOG_PATTERN,)
    while (now := sorted(path for name in patterns for path in gateway_dir.glob(name))) != paths:
        paths, inspected = now, [*_inspect(now)]
    yield from inspected


def whole_segments(state_dir: Path) -> list[Segment]:
    """Return logs and copies, of a log and its copy the longer; raises `OSError`."""
    return distinct(segments(state_dir, copies=True))


def distinct(logs: Iterable[Segment]) -> list[Segment]:
    """Return logs by distinct keys, without those that another log begins with."""
    by_key: dict[str, list[Segment]] = {}
    for log in sorted(logs, key=lambda log: -log.end):
        same = by_key.setdefault(log.key, [])
        size = min(log.end, TAIL_BYTES)
        tail = log.read(log.end - size, size) if same else b""
        if not any(is_same_log(longer, log.end, tail) for longer in same):
            same.append(log)
    for same in by_key.values():
        if len(same) > 1:
            same[:] = [replace(log, key=_key(f"{log.key} {log.inode}".encode())) for log in same]
    return sorted(chain.from_iterable(by_key.values()), key=lambda log: log.path)


def is_same_log(segment: Segment, size: int, tail: bytes) -> bool:
    """Return whether a log has `tail` before an offset, but for a few damaged bytes.

    These are a byte a row, or `_ALTERED_BYTES` in all where there are several rows. Another row has
    another time and another id: two bytes or more.
    """
    text = segment.read(size - len(tail), len(tail))
    rows = pairwise(accumulate(map(len, tail.splitlines(keepends=True)), initial=0))
    altered = [sum(map(int.__ne__, text[start:end], tail[start:end])) for start, end in rows]
    is_little = len(altered) > 1 and sum(altered) <= _ALTERED_BYTES
    return len(text) == len(tail) and (is_little or max(altered, default=0) <= 1)


def _inspect(paths: Iterable[Path]) -> Iterator[Segment]:
    for path in paths:
        try:
            with open_plain(path) as stream:
                first = stream.readline(LONGEST_ROW)
                end = _end_of_rows(stream, path)
                inode = os.fstat(stream.fileno()).st_ino
        except FileNotFoundError:
            continue
        if end:
            yield Segment(path, path.parent.name, _key(first), end, inode)


def _end_of_rows(stream: BinaryIO, path: Path) -> int:
    """Return the offset after the last line end; 0: there is none. Raises OSError: far too long."""
    size = end = stream.seek(0, 2)
    while end:
        if size - end > LARGEST_LOG:
            raise too_large(path, LARGEST_LOG)
        start = stream.seek(max(0, end - LONGEST_ROW))
        if found := stream.read(end - start).rfind(b"\n") + 1:
            return start + found
        end = start
    return 0


def _key(first: bytes) -> str:
    return hashlib.sha256(first).hexdigest()[:16]
