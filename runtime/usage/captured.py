"""Captured requests and answers: text of clients that agreed, deleted on time or by command.

A client, day and gateway have one file, `captured/CLIENT/DAY.LAST.GATEWAY.jsonl`, kept up to the
day LAST. Files are the owner's alone, and no other file of the state folder holds such text.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final

import msgspec

from runtime.files import PRIVATE, make_private, read_plain, replace_file
from runtime.usage.log import warn

FOLDER: Final = "captured"
MOST_ITEM_BYTES: Final = 256 * 2**10
"""Upper bound of an item in its file, in bytes; a longer item is left out."""
MOST_FILE_BYTES: Final = 64 * 2**20
"""Upper bound of a file, in bytes; further items of the day are left out."""
RESERVE_BYTES: Final = 256 * 2**20
"""Free bytes of the disk that captured text leaves to the usage log, without which no request is
answered."""


class CapturedItem(msgspec.Struct):
    """A request and its answer."""

    time: str
    request_id: str
    alias: str
    version: str
    path: str
    user: str
    """As the client named the user, so that a user is found for as long as text is kept."""
    session: str
    output_tokens: int | None
    request: msgspec.Raw
    """The body, a JSON object."""
    answer: str


_ITEM: Final = msgspec.json.Decoder(CapturedItem)
_ENCODE: Final = msgspec.json.Encoder().encode
_DAMAGED: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class CaptureWriter:
    """The writer of a gateway."""

    def __init__(self, state_dir: Path, gateway: str) -> None:
        self._root, self._gateway = state_dir / FOLDER, gateway
        self._has_warned = False

    def write(self, client: str, item: CapturedItem, keep_days: int) -> None:
        """Append an item; without room on the disk the item is left out, with a single warning."""
        item.request = msgspec.Raw(bytes(item.request).replace(b"\n", b" ").replace(b"\r", b" "))
        line = _ENCODE(item) + b"\n"
        day = date.fromisoformat(item.time[:10])
        last = day + timedelta(days=keep_days)
        path = self._root / client / f"{day}.{last}.{self._gateway}.jsonl"
        if len(line) > MOST_ITEM_BYTES:
            return
        try:
            make_private(path.parent)
            _append(path, line)
        except OSError as error:
            if not self._has_warned:
                warn(f"Captured text of clients cannot be written: {error.strerror or error}")
            self._has_warned = True


def _append(path: Path, line: bytes) -> None:
    """Append a line whole or not at all; a full file and a disk that is nearly full take none."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    file = os.open(path, flags, PRIVATE)
    try:
        size, disk = os.fstat(file).st_size, os.fstatvfs(file)
        has_room = disk.f_bavail * disk.f_frsize > RESERVE_BYTES
        if has_room and size + len(line) <= MOST_FILE_BYTES and os.write(file, line) < len(line):
            os.ftruncate(file, size)
    finally:
        os.close(file)


def _files(state_dir: Path, client: str | None) -> list[Path]:
    """Return a client's files, None: all clients', by day; scratch files come first."""
    found = (state_dir / FOLDER).glob("*/*")
    return sorted(path for path in found if client in {None, path.parent.name})


def read_captured(
    state_dir: Path, client: str, *, newest_first: bool = False
) -> Iterator[CapturedItem]:
    """Yield a client's items by day; damaged lines are passed over."""
    order = -1 if newest_first else 1
    for path in _files(state_dir, client)[::order]:
        for line in () if path.name.startswith(".") else _lines(path)[::order]:
            with suppress(*_DAMAGED):
                yield _ITEM.decode(line)


def request_of(item: CapturedItem) -> dict[str, Any]:
    """Return the body of a captured request; of half a character, or too deep a nesting: none."""
    with suppress(msgspec.DecodeError, RecursionError):
        return dict(msgspec.json.decode(item.request))
    return {}


def _lines(path: Path) -> list[bytes]:
    with suppress(FileNotFoundError):  # deleted meanwhile
        return read_plain(path).splitlines(keepends=True)
    return []


def forget_captured(state_dir: Path, client: str, user: str | None) -> int:
    """Delete a client's items, or those of a user or session; return the number of deleted items.

    A gateway that appends meanwhile loses that item. Damaged lines are deleted, whosever they are.
    """
    gone = 0
    for path in _files(state_dir, client):
        lines = [] if path.name.startswith(".") else _lines(path)
        kept = [] if user is None else [line for line in lines if not _is_of(user, line)]
        gone += len(lines) - len(kept)
        if not kept:
            path.unlink(missing_ok=True)
        elif len(kept) < len(lines):
            replace_file(path, b"".join(kept))
    _drop_empty_folders(state_dir)
    return gone


def _is_of(user: str, line: bytes) -> bool:
    try:
        item = _ITEM.decode(line)
    except _DAMAGED:
        return True
    return user in {item.user, item.session}


def delete_expired(state_dir: Path, today: date) -> None:
    """Delete the files of all clients whose last day is over."""
    for path in _files(state_dir, None):
        day_and_last = path.name.removeprefix(".").split(".")
        if len(day_and_last) > 1 and day_and_last[1] < today.isoformat():
            path.unlink(missing_ok=True)
    _drop_empty_folders(state_dir)


def _drop_empty_folders(state_dir: Path) -> None:
    for folder in (state_dir / FOLDER).glob("*"):
        with suppress(OSError):
            folder.rmdir()
