"""Read and write the files of closed months."""

import hashlib
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from fleet.costing import HOUR, MonthCost
from fleet.decoding import MalformedError, decode
from fleet.encoding import canonical_json, decode_json, plain
from fleet.errors import FleetError
from fleet.history import MonthClosed
from runtime.files import read_plain

FOLDER: Final = "costs"
"""Folder of the state folder that holds a file for every closed month."""


def month_file(cost: MonthCost) -> bytes:
    """Return the content of a closed month's file; equal costs have equal bytes."""
    document = {"format": "fleetctl-month", "format_version": "1.0", "cost": plain(cost)}
    return canonical_json(document).encode() + b"\n"


def read_closed(state_dir: Path, closed: MonthClosed) -> MonthCost:
    """Return the cost in the file of a closed month; the ledger has the file's hash."""
    path = month_path(state_dir, closed.month)
    why = "cannot be read"
    with suppress(OSError, MalformedError, ValueError, KeyError):
        content = read_plain(path)
        if hashlib.sha256(content).hexdigest() == closed.sha256:
            return decode(MonthCost, decode_json(content)["cost"], "cost", lenient=True)
        why = "is not the file whose hash the ledger has"
    raise FleetError.of(
        "FC6085",
        "Closed month was changed",
        f"`{path}` {why}.",
        hint="Put the file back from a backup of the state folder.",
        command="fleetctl state restore FILE",
    )


def month_bounds(month: str, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """Return begin and end of a month: the full hours, UTC, that begin in the month."""
    year, number = int(month[:4]), int(month[5:])
    following = (year + number // 12, number % 12 + 1)
    begin, end = (
        datetime(*first, 1, tzinfo=zone).astimezone(UTC) for first in ((year, number), following)
    )
    return full_hour(begin), full_hour(end)


def full_hour(time: datetime, *, up: bool = True) -> datetime:
    """Return the full hour at or after a time; with `up` false, at or before."""
    floor = time.replace(minute=0, second=0, microsecond=0)
    return floor + HOUR if up and floor < time else floor


def month_path(state_dir: Path, month: str) -> Path:
    """Return the path of a closed month's file."""
    return state_dir / FOLDER / f"{month}.json"
