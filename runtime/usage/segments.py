"""The files of a usage log, known by their first row: rotation changes the name and not the key."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
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
LONGEST_ROW: Final = 65_536
"""Upper bound of a row, in bytes."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A file of a gateway's usage log."""

    path: Path
    gateway: str
    key: str
    """Hash of the first row."""
    end: int
    """Bytes up to the end of the last whole row."""

    def read_rows(self, start: int, max_bytes: int | None = None) -> bytes:
        """Return whole rows from offset `start` on, whatever name the file has by now.

        `max_bytes` is above the size of any row; None: no bound. A line of more bytes comes in
        parts, which are no rows. Raises `OSError`.
        """
        if start >= self.end:
            return b""
        for path in (self.path, *sorted(self.path.parent.glob(LOG_PATTERN), reverse=True)):
            try:
                with open_plain(path) as stream:
                    if _key(stream.readline(LONGEST_ROW)) != self.key:  # rotated meanwhile
                        continue
                    stream.seek(start)
                    size = self.end - start
                    if max_bytes is None and size > LARGEST_LOG:
                        raise too_large(path, LARGEST_LOG)
                    rows = stream.read(size if max_bytes is None else min(size, max_bytes))
                    return rows[: rows.rfind(b"\n") + 1] or rows
            except FileNotFoundError:
                continue
        return b""


def segments(state_dir: Path, *, copies: bool = False) -> Iterator[Segment]:
    """Yield the segments of all gateways of a state folder, as `gateway_segments`."""
    folder = state_dir / GATEWAYS
    for gateway_dir in sorted(folder.iterdir()) if folder.is_dir() else ():
        yield from gateway_segments(gateway_dir, copies=copies)


def gateway_segments(gateway_dir: Path, *, copies: bool = False) -> Iterator[Segment]:
    """Yield the segments of a gateway that hold a row, if asked also copies; raises `OSError`.

    All files are inspected before the first segment is given, again after a rotation.
    """
    paths: list[Path] = []
    inspected: list[Segment] = []
    patterns = (LOG_PATTERN, COPY_PATTERN) if copies else (LOG_PATTERN,)
    while (now := sorted(path for name in patterns for path in gateway_dir.glob(name))) != paths:
        paths, inspected = now, [*_inspect(now)]
    yield from inspected


def whole_segments(state_dir: Path) -> list[Segment]:
    """Return logs and copies, of a log and its copy the longer; raises `OSError`."""
    longest: dict[str, Segment] = {}
    for segment in segments(state_dir, copies=True):
        known = longest.get(segment.key)
        if known is None or known.end < segment.end:
            longest[segment.key] = segment
    return [*longest.values()]


def _inspect(paths: Iterable[Path]) -> Iterator[Segment]:
    for path in paths:
        try:
            with open_plain(path) as stream:
                first = stream.readline(LONGEST_ROW)
                end = _end_of_rows(stream, path)
        except FileNotFoundError:
            continue
        if end:
            yield Segment(path, path.parent.name, _key(first), end)


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
