"""The reader of usage rows: mappings for gates, requests for recorded demand.

Rows as Parquet and sums over them are in `parquet`, which reads the same files by segments.
"""

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import msgspec

from fleet.capacity import RecordedRequest
from fleet.encoding import decode_json
from runtime.usage.log import COPY_PATTERN, LOG_PATTERN
from runtime.usage.row import LIVE, to_usage_row, translate_lines

_MAX_LISTINGS: Final = 10
"""Upper bound of folder listings in a reading; a rotation makes another listing necessary, and a
gateway rotates every 200,000 requests."""
_NUMBERS: Final = ("first_token_s", "first_byte_s", "output_tokens")
_Identity = tuple[int, int]
"""Device and inode of a file, the same under any name."""
_VANISHED: Final[_Identity] = (0, 0)


class _DemandRow(msgspec.Struct):
    """The fields of a `UsageRow` that recorded demand needs; an Envoy writes null for empty."""

    time: str
    alias: str | None = None
    version: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    purpose: str = LIVE
    status: int = 0
    finish: str | None = None
    format_ok: bool | None = None


_DEMAND_ROW: Final = msgspec.json.Decoder(_DemandRow)


@dataclass(slots=True)
class UsageReader:
    """Reads the usage logs below a folder, rotated files included, in no order."""

    _folder: Path
    missing: tuple[str, ...] = ()
    """Which rows may be lacking and why, see `runtime.usage.sync`."""
    damaged: int = 0
    """Lines of the last reading that are no row; the last line of a running gateway may be."""

    @property
    def paths(self) -> list[Path]:
        """The files, without copies from other machines."""
        return sorted(self._folder.rglob(LOG_PATTERN))

    def rows(self, since: datetime, alias: str = "") -> Iterator[dict[str, Any]]:
        """Yield an alias's rows, or all, from a moment on, with copies; note files in `missing`."""
        # Most lines are another client's: to search for the name is ten times faster than to parse.
        needle = f'"alias":"{alias}"'.encode() if alias else b""
        moment = since.isoformat(timespec="seconds")[:19]
        self.damaged = 0
        for line in self._lines((LOG_PATTERN, COPY_PATTERN), since.timestamp()):
            if needle not in line:
                continue
            row = _parse(line)
            if row is None:
                self.damaged += 1
            elif row["time"][:19] >= moment:
                yield row

    def requests(self) -> Iterator[RecordedRequest]:
        """Yield clients' requests that were given a version, without copies; raises `OSError`."""
        self.damaged = 0
        for line in translate_lines(self._lines((LOG_PATTERN,), strict=True)):
            try:
                row = _DEMAND_ROW.decode(line)
                time = datetime.fromisoformat(row.time).timestamp()
            except (ValueError, OverflowError):
                self.damaged += 1
                continue
            if row.alias and row.version and row.purpose == LIVE:
                yield RecordedRequest(
                    time,
                    row.alias,
                    row.input_tokens,
                    row.output_tokens,
                    row.status >= HTTPStatus.INTERNAL_SERVER_ERROR,
                    row.format_ok,
                    row.finish == "length" if row.finish else None,
                )

    def _lines(
        self, patterns: Sequence[str], since: float = 0.0, *, strict: bool = False
    ) -> Iterator[bytes]:
        """Yield the lines of the files that were written since, every file once.

        The folder is listed until every file was read, for a gateway may rotate its log meanwhile.
        """
        read: set[_Identity] = set()
        for _ in range(_MAX_LISTINGS):
            files = self._files(patterns, since, strict=strict)
            unread = [(path, identity) for path, identity in files if identity not in read]
            if not unread:
                return
            for path, identity in unread:
                try:
                    with path.open("rb") as lines:
                        opened = _identity(os.fstat(lines.fileno()))
                        if opened not in read:
                            read.add(opened)
                            yield from lines
                except FileNotFoundError:  # renamed meanwhile
                    continue
                except OSError as error:
                    if strict:
                        raise
                    read.add(identity)
                    self._add_missing(f"in {path}", error.strerror or str(error))
        self._add_missing(f"below {self._folder}", "its files get other names all the time")

    def _files(
        self, patterns: Sequence[str], since: float, *, strict: bool
    ) -> Iterator[tuple[Path, _Identity]]:
        for path in sorted(path for pattern in patterns for path in self._folder.rglob(pattern)):
            try:
                status = path.stat()
            except FileNotFoundError:  # renamed meanwhile
                yield path, _VANISHED
            except OSError as error:
                if strict:
                    raise
                self._add_missing(f"in {path}", error.strerror or str(error))
            else:
                if status.st_mtime >= since:
                    yield path, _identity(status)

    def _add_missing(self, where: str, why: str) -> None:
        text = f"requests {where} are lacking: {why}"
        self.missing = tuple(dict.fromkeys((*self.missing, text)))


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
