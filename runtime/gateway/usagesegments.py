"""The files of a usage log, by what they hold: a file that is put aside keeps its identity."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from runtime.gateway.usagelog import USAGE_FILE

GATEWAYS: Final = "gateways"
_PATTERN: Final = USAGE_FILE.replace(".", "*.")
_TAIL: Final = 65_536
"""Longer than any row."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One file of one gateway."""

    path: Path
    gateway: str
    key: str
    """From the first row, which stays the first when the file gets another name."""
    end: int
    """Bytes up to the end of the last whole row."""

    def part(self, start: int, most: int | None = None) -> bytes:
        """Return the whole rows from an offset in bytes on, whatever name the file has by now.

        Args:
            start: Where a row begins.
            most: Bytes that are enough, more than any row has; None: all there are.

        Raises:
            OSError: the file cannot be read.
        """
        if start >= self.end:
            return b""
        for path in (self.path, *sorted(self.path.parent.glob(_PATTERN), reverse=True)):
            try:
                with path.open("rb") as stream:
                    if _key(stream.readline(_TAIL)) != self.key:  # it has been put aside meanwhile
                        continue
                    stream.seek(start)
                    size = self.end - start
                    found = stream.read(size if most is None else min(size, most))
                    return found[: found.rfind(b"\n") + 1]
            except FileNotFoundError:
                continue
        return b""


def segments(state_dir: Path) -> Iterator[Segment]:
    """Yield the usage logs of a state folder's gateways that hold a row.

    Raises:
        OSError: one cannot be read.
    """
    folder = state_dir / GATEWAYS
    for each in sorted(folder.iterdir()) if folder.is_dir() else ():
        yield from segments_of(each)


def segments_of(folder: Path) -> Iterator[Segment]:
    """Yield the usage logs of one gateway that hold a row; `folder` is the gateway's.

    They are all looked at before the first is given, anew where one was put aside meanwhile.

    Raises:
        OSError: one cannot be read.
    """
    names: list[Path] = []
    found: list[Segment] = []
    while (now := sorted(folder.glob(_PATTERN))) != names:
        names, found = now, [*_looked_at(now)]
    yield from found


def _looked_at(paths: Iterable[Path]) -> Iterator[Segment]:
    for path in paths:
        try:
            with path.open("rb") as stream:
                first = stream.readline(_TAIL)
                size = stream.seek(0, 2)
                start = stream.seek(max(0, size - _TAIL))
                end = start + stream.read(size - start).rfind(b"\n") + 1
        except FileNotFoundError:
            continue
        if first.endswith(b"\n"):
            yield Segment(path, path.parent.name, _key(first), end)


def _key(first: bytes) -> str:
    return hashlib.sha256(first).hexdigest()[:16]
