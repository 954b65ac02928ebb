"""Digests usage rows, so that a finding names exactly the counted rows.

The digest of rows is the SHA-256 of the rows' own digests, sorted: the order in which logs are read
makes no difference, and a row that a log and its copy both hold counts once. A row has the same
digest as JSON line and as Parquet row: what is missing, null or the default is the same.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

from fleet.gates.rows import UsageRow, end_of

_TEXTS: Final = (
    "time", "request_id", "client", "alias", "version", "server", "finish", "unit", "digest",
)  # fmt: skip
"""Fields of which an empty text is as none. A finding of earlier rows names no later field."""
_NO_CLIENT: Final = "live"
"""Purpose of a row that names none."""


@dataclass(frozen=True, slots=True)
class CountedRows:
    """The rows behind a finding on traffic, and how they were counted."""

    rows: int = 0
    """Number of different rows."""
    sha256: str = ""
    """Of all rows: `digest_of_rows`."""
    first: datetime | None = None
    """Begin of the time that rows are of: a while before the rollout, for usual figures."""
    began: datetime | None = None
    """When traffic first reached the new version."""
    end: datetime | None = None
    """End of the time that rows are of."""
    window_s: float = 0.0
    """Length of a window."""
    percent: int | None = None
    """The share that requests were compared with; None: the share was not checked."""
    sticky: str = ""
    alone: bool = False
    """Whether no other alias shared a server with the new version."""


def row_digest(row: UsageRow) -> bytes:
    """Return the SHA-256 of a usage row's canonical form.

    Raises:
        KeyError, TypeError, ValueError: the row has no status or latency, or no such numbers.
    """
    first_byte, tokens = row.get("first_byte_s"), row.get("output_tokens")
    canonical = [
        *(row.get(name) or "" for name in _TEXTS),
        int(row["status"]),
        float(row["latency_s"]),
        None if first_byte is None else float(first_byte),
        None if tokens is None else int(tokens),
        row.get("format_ok"),
        bool(row.get("stream")),
        row.get("purpose") or _NO_CLIENT,
    ]
    return hashlib.sha256(json.dumps(canonical, separators=(",", ":")).encode()).digest()


class TimedRow(NamedTuple):
    """A usage row with its time and its digest."""

    time: datetime
    digest: bytes
    row: UsageRow


def in_order(rows: Iterable[UsageRow]) -> list[TimedRow]:
    """Return rows without twins, in the order in which their requests ended.

    A row is written when its request ends, so that rows that were written after a reading stand
    behind the rows of that reading.
    """
    found = {row_digest(row): row for row in rows}
    made = [TimedRow(datetime.fromisoformat(row["time"]), key, row) for key, row in found.items()]
    return sorted(made, key=_ended)


def _ended(timed: TimedRow) -> tuple[datetime, bytes]:
    return end_of(timed.row), timed.digest


def digest_of_rows(digests: Iterable[bytes]) -> str:
    """Return the digest of all rows by their own digests, in any order."""
    return hashlib.sha256(b"".join(sorted(digests))).hexdigest()
