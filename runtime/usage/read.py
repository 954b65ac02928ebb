"""The readers of usage rows: those of an alias for gates, and the last rows.

Sums of rows are in `store`, rows as Parquet in `parquet`; both read the same files by segments.
"""

import math
import os
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec

from fleet.codec import decode_json
from runtime.files import LARGEST_LOG, open_plain, too_large
from runtime.usage.log import COPY_PATTERN, LOG_PATTERN, LONGEST_ROW, whole_segments
from runtime.usage.row import UsageRow, to_usage_row

_MAX_LISTINGS: Final = 10
"""Upper bound of folder listings in a reading; a rotation makes another listing necessary, and a
gateway rotates every 200,000 requests."""
_NUMBERS: Final = ("first_token_s", "first_byte_s", "output_tokens")
_Identity = tuple[int, int]
"""Device and inode of a file, the same under any name."""
_VANISHED: Final[_Identity] = (0, 0)


@dataclass(slots=True)
class UsageReader:
    """Reads the usage logs below a folder, rotated files included, in no order."""

    _folder: Path
    missing: tuple[str, ...] = ()
    """Which rows may be lacking and why, see `runtime.usage.sync`."""
    damaged: int = 0
    """Lines of the last reading that are no row; the last line of a running gateway may be."""

    def rows(self, since: datetime, alias: str = "") -> Iterator[dict[str, Any]]:
        """Yield an alias's rows, or all, from a moment on, with copies; note files in `missing`."""
        # Most lines are another client's: to search for the name is ten times faster than to parse.
        needle = f'"alias":"{alias}"'.encode() if alias else b""
        moment = since.isoformat(timespec="seconds")[:19]
        self.damaged = 0
        for line in self._lines(since.timestamp()):
            if needle not in line:
                continue
            row = _parse(line)
            if row is None:
                self.damaged += 1
            elif row["time"][:19] >= moment:
                yield row

    def _lines(self, since: float) -> Iterator[bytes]:
        """Yield the lines of the files that were written since, every file once.

        The folder is listed until every file was read, for a gateway may rotate its log meanwhile.
        """
        read: set[_Identity] = set()
        for _ in range(_MAX_LISTINGS):
            files = self._files(since)
            unread = [(path, identity) for path, identity in files if identity not in read]
            if not unread:
                return
            for path, identity in unread:
                try:
                    with open_plain(path) as log:
                        status = os.fstat(log.fileno())
                        if status.st_size > LARGEST_LOG:
                            raise too_large(path, LARGEST_LOG)
                        if _identity(status) not in read:
                            read.add(_identity(status))
                            yield from iter(partial(log.readline, LONGEST_ROW), b"")
                except FileNotFoundError:  # renamed meanwhile
                    continue
                except OSError as error:
                    read.add(identity)
                    self._add_missing(f"in {path}", error.strerror or str(error))
        self._add_missing(f"below {self._folder}", "its files get other names all the time")

    def _files(self, since: float) -> Iterator[tuple[Path, _Identity]]:
        patterns = (LOG_PATTERN, COPY_PATTERN)
        for path in sorted(path for pattern in patterns for path in self._folder.rglob(pattern)):
            try:
                status = path.stat()
            except FileNotFoundError:  # renamed meanwhile
                yield path, _VANISHED
            except OSError as error:
                self._add_missing(f"in {path}", error.strerror or str(error))
            else:
                if status.st_mtime >= since:
                    yield path, _identity(status)

    def _add_missing(self, where: str, why: str) -> None:
        text = f"requests {where} are lacking: {why}"
        self.missing = tuple(dict.fromkeys((*self.missing, text)))


def last_rows(
    state_dir: Path, accepts: Callable[[UsageRow], bool], since: datetime, count: int
) -> list[UsageRow]:
    """Return the last accepted rows of all logs and copies, oldest first, without twins.

    Raises:
        OSError: a log cannot be read.
    """
    found: dict[str, list[UsageRow]] = {}
    written = (
        (segment.path.stat().st_mtime, segment.path.name, segment)
        for segment in whole_segments(state_dir)
    )
    for time, _, segment in sorted(written, key=lambda found: found[:2], reverse=True):
        rows = found.setdefault(segment.gateway, [])
        if len(rows) < count and time >= since.timestamp():
            last: deque[UsageRow] = deque(maxlen=count)
            for line in segment.read_rows(0).splitlines():
                row = _parse(line)
                if row is not None and datetime.fromisoformat(row["time"]) >= since:
                    with suppress(msgspec.ValidationError):  # a number beyond its bounds: no row
                        converted = msgspec.convert(row, UsageRow)
                        if accepts(converted):
                            last.append(converted)
            rows[:0] = last
    once = {row.request_id: row for rows in found.values() for row in rows}
    return sorted(once.values(), key=lambda row: (row.time[:23], row.request_id))[-count:]


def _parse(line: bytes) -> dict[str, Any] | None:
    """Return a row whose time, status and numbers are sound; None: the line is no such row."""
    try:
        row = to_usage_row(decode_json(line))
        time = datetime.fromisoformat(row["time"])
        numbers = [row["latency_s"], *(row[n] for n in _NUMBERS if row.get(n) is not None)]
        is_sound = (
            time.tzinfo is not None
            and type(row["status"]) is int
            and all(type(n) in {int, float} and math.isfinite(n) for n in numbers)
        )
    except (ValueError, KeyError, TypeError, OverflowError):
        return None
    return row if is_sound else None


def _identity(status: os.stat_result) -> _Identity:
    return status.st_dev, status.st_ino
