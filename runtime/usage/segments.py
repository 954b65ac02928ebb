"""The files of a usage log, known by their first row: rotation changes the name and not the key."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import accumulate, chain, pairwise
from pathlib import Path
from typing import BinaryIO, Final

from runtime.files import LARGEST_LOG, open_plain, too_large
from runtime.usage.log import COPY_PATTERN, LOG_PATTERN

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
