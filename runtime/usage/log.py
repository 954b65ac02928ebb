"""The file of a usage log: one JSON line per request, durable against a killed process.

The kernel has a row when `append` returns; the disk has it soon after (`keep_synced`).
"""

import asyncio
import errno
import os
import sys
import threading
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self

from runtime.files import PRIVATE, make_private

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
