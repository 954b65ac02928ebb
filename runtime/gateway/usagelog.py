"""The usage log's file: one JSON line per request, durable against a killed process.

A row is the kernel's when `append` returns, and on the disk soon after (`keep_synced`).
"""

import asyncio
import errno
import os
import threading
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from runtime.gateway.defects import tell

USAGE_FILE = "usage.jsonl"
ROTATE_BYTES = 64 * 2**20
"""Size at which the file is put aside under a name with the time: about 200,000 rows."""
SYNC_EVERY_S = 0.2
"""What a power failure takes at most."""
_TAIL_BYTES = 65_536
"""Longer than any row."""
_MOMENTS_BYTES = 2**20
"""Rows of some thousand requests."""
_TRIAL_BYTES = 4096
_MODE = 0o600
_PRIVATE = 0o700


class UsageLog:
    """Appends rows to a file; each is one write, so that a killed process loses none."""

    def __init__(self, path: Path, rotate_bytes: int = ROTATE_BYTES) -> None:
        """Open the file, cutting off a line that a power failure left incomplete."""
        self._path = path
        self._rotate_bytes = rotate_bytes
        self._file = _opened(path)
        self._size = self._safe = _repaired(self._file)
        """`_safe`: bytes that were in the file when it last had its name."""
        self._is_told = False
        self.is_refusing = False
        """Whether the last row could not be written; then nobody is answered."""
        self.is_synced = True
        """Whether the disk has been told of all that is in the file."""

    @property
    def folder(self) -> Path:
        """Where the file lies, and those that were put aside."""
        return self._path.parent

    def append(self, row: bytes) -> None:
        """Write one row without its line end; the kernel has it when this returns.

        Raises:
            OSError: it could not be written whole (the disk is full); nothing of it stays.
        """
        line = row + b"\n"
        if self._size and self._size + len(line) > self._rotate_bytes:
            self._rotate()
        self._write(line)
        self._size += len(line)
        self.is_synced = False

    def probe(self) -> None:
        """See whether a row could be written again; nothing of the trial stays."""
        with suppress(OSError):
            self._write(b" " * _TRIAL_BYTES)
            os.ftruncate(self._file, self._size)

    def _write(self, data: bytes) -> None:
        try:
            self._write_whole(data)
        except OSError as error:
            if not self.is_refusing:
                self.is_refusing = True
                tell(f"The usage log cannot be written, so clients are refused: {error}")
            raise
        if self.is_refusing:
            self.is_refusing = False
            tell("The usage log can be written again.")

    def _write_whole(self, data: bytes) -> None:
        if os.write(self._file, data) != len(data):
            os.ftruncate(self._file, self._size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def unsynced(self) -> int | None:
        """Return a descriptor of the file, to be synced and closed; None: nothing new is in it."""
        if self.is_synced:
            return None
        self.is_synced = True
        return os.dup(self._file)

    def find(self) -> None:
        """See that the file has its name still; where it was removed, begin another and say so.

        Rows that came since it was last seen are in both.
        """
        with suppress(OSError):
            if os.path.samestat(os.fstat(self._file), self._path.stat()):
                self._safe = self._size
                return
        lost = os.pread(self._file, self._size - self._safe, self._safe)
        try:
            self._path.parent.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
            fresh = _opened(self._path)
        except OSError as error:
            self._tell_once(f"The usage log's file was removed and none can be made: {error}")
            return
        tell("The usage log's file was removed; another one has been begun.")
        os.close(self._file)
        self._file, self._size = fresh, _repaired(fresh)
        self._safe, self._is_told = self._size, False
        if lost:
            with suppress(OSError):
                self._write(lost)
                self._size += len(lost)
                self.is_synced = False

    def _tell_once(self, text: str) -> None:
        if not self._is_told:
            self._is_told = True
            tell(text)

    def end(self) -> bytes:
        """Return the last part of the file: what a process wrote in its last moments is in it."""
        return os.pread(self._file, _MOMENTS_BYTES, max(0, self._size - _MOMENTS_BYTES))

    def close(self) -> None:
        """Write through to the disk and close."""
        _settle(self._file)

    def _rotate(self) -> None:
        """Put the file aside and begin another; where that fails, go on with the one there is."""
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
        aside = self._path.with_name(f"{self._path.stem}-{stamp}{self._path.suffix}")
        try:
            fresh = _replaced(self._path, aside)
        except OSError as error:
            self._tell_once(f"The usage log cannot be put aside and grows on: {error}")
            return
        # The disk may take seconds, and requests must not wait for it.
        threading.Thread(target=_settle, args=(self._file,)).start()
        self._file, self._size, self._is_told = fresh, 0, False
        self._safe = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


async def keep_synced(log: UsageLog) -> None:
    """Write what is appended through to the disk, again and again, until cancelled.

    Where the log refuses rows it is tried until it takes them.

    In another thread: the disk may take seconds, and requests must not wait for it.
    """
    is_told, loop = False, asyncio.get_running_loop()
    while True:
        await asyncio.sleep(SYNC_EVERY_S)
        if log.is_refusing:
            log.probe()
        log.find()
        file = log.unsynced()
        if file is None:
            continue
        try:
            # Shielded, for whoever cancels this before it begins would leave the file open.
            await asyncio.shield(loop.run_in_executor(None, _sync_data, file))
        except OSError as error:
            if not is_told:
                tell(f"The usage log cannot be written through to the disk: {error}")
            is_told = True


def _sync_data(file: int) -> None:
    try:
        os.fdatasync(file)
    finally:
        os.close(file)


def _opened(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, _MODE)


def _replaced(path: Path, aside: Path) -> int:
    """Give a file another name and return a new one of the old name, opened.

    Raises:
        OSError: no file can be made or renamed; the old one has its name still.
    """
    scratch = path.with_name(f".{path.name}.next")
    fresh = _opened(scratch)
    try:
        path.rename(aside)
        try:
            scratch.rename(path)
        except OSError:
            aside.rename(path)
            raise
    except OSError:
        os.close(fresh)
        raise
    return fresh


def _settle(file: int) -> None:
    os.fsync(file)
    os.close(file)


def _repaired(file: int) -> int:
    """Cut off an incomplete last line; return the size in bytes that stays."""
    size = os.fstat(file).st_size
    start = max(0, size - _TAIL_BYTES)
    tail = os.pread(file, size - start, start)
    if tail and not tail.endswith(b"\n"):
        size = start + tail.rfind(b"\n") + 1
        os.ftruncate(file, size)
    return size
