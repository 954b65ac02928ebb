"""Find faults of the figures: rows that are lacking, late or changed, clocks, the disk."""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import inf
from pathlib import Path
from typing import Any, Final

from fleet.alerting import DataFault
from fleet.codec import MalformedError, decode, plain
from fleet.errors import FleetError
from fleet.history import SKEW
from fleet.usage import Grain, Operator
from runtime.files import read_text, write_text
from runtime.operations.usage import gather_usage_rows
from runtime.usage.store import UsageStore
from runtime.usage.tables import BUSY
from runtime.workspace import Workspace

FILE: Final = "watch.json"
"""File of the state folder with the free space of the last day, by the hour, and sums of days."""
LATE: Final = timedelta(minutes=5)
"""Upper bound of the time since rows were last brought into the store."""
LEAST_DISK: Final = 0.05
"""Part of the state folder's disk that should be free."""
LEAST_DAYS: Final = 3.0
"""Lower bound of the days until the disk is full."""
_DAY, _HOUR = Grain.DAY.length, Grain.HOUR.length
_PACE_FROM: Final = 6 * _HOUR.total_seconds()
"""Least time over which the pace of the disk is measured, in seconds."""
_WATCHED_DAYS: Final = 7
"""Number of days that are over whose sums must not change."""


@dataclass(frozen=True, slots=True)
class _WatchNotes:
    """Figures of earlier looks."""

    free: tuple[tuple[float, float], ...] = ()
    """Time in seconds since 1970, and bytes that were free on the disk; the oldest first."""
    days: Mapping[str, int] = field(default_factory=dict)
    """Requests of a day that was over."""


async def gather_rows(workspace: Workspace) -> list[DataFault]:
    """Bring new rows of all gateways into the usage store; return the faults of rows."""
    command = "fleetctl usage summary"
    try:
        _, lacking = await gather_usage_rows(workspace.state_dir, workspace.now)
    except FleetError as error:
        if error.diagnostics[0].code == BUSY:  # another process brings them in
            return []
        return [DataFault("usage", error.diagnostics[0].detail.rstrip("."), 0, 0, command)]
    text = "; ".join(lacking)
    return [DataFault("usage", text, len(lacking), 0, command)] if text else []


def data_faults(state_dir: Path, now: datetime) -> Iterator[DataFault]:
    """Yield the faults of clocks, ingestion, days that are over, and the disk; note what is seen.

    Raises:
        FleetError: the usage store cannot be read.
        OSError: the state folder cannot be written.
    """
    noted = _WatchNotes()
    with suppress(OSError, ValueError, MalformedError, FleetError):
        noted = decode(_WatchNotes, json.loads(read_text(state_dir / FILE)), FILE, lenient=True)
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    # Requests end, and their rows come, a while after midnight.
    over = today if now - today > _HOUR else today - _DAY
    first = over - _WATCHED_DAYS * _DAY
    with closing(UsageStore(state_dir)) as store:
        for gateway in store.gateways():
            if gateway.newest and gateway.newest > now + SKEW:
                ahead = (gateway.newest - now).total_seconds()
                detail = f"its clock is {ahead:.0f} s ahead of the clock here"
                limit = SKEW.total_seconds()
                yield DataFault(gateway.gateway, detail, ahead, limit, "fleetctl gateway status")
        if (read := store.ingested_at) and now - read > LATE:
            minutes = (now - read) / timedelta(minutes=1)
            detail = f"rows were last brought in {minutes:.0f} minutes ago"
            limit = LATE / timedelta(minutes=1)
            yield DataFault("usage", detail, minutes, limit, "fleetctl usage ingest")
        cells = store.cells(Operator(), first, over, Grain.DAY, (), purposes=(), sketches=False)
    days = {f"{cell.start:%Y-%m-%d}": cell.figures.requests for cell in cells}
    for day, count in days.items():
        if (before := noted.days.get(day, count)) != count:
            detail = f"it had {before} requests when it was over, and has {count}"
            yield DataFault(f"day {day}", detail, count, before, "fleetctl usage summary")
    free = [pair for pair in noted.free if pair[0] > (now - _DAY).timestamp()]
    yield from _disk(shutil.disk_usage(state_dir), free, now.timestamp())
    notes = _WatchNotes(tuple(free), days)
    write_text(state_dir / FILE, json.dumps(plain(notes)) + "\n")


def _disk(disk: Any, free: list[tuple[float, float]], now: float) -> Iterator[DataFault]:
    """Yield the fault of a disk that is full, or soon is at the pace of the last day; note."""
    if not free or now - free[-1][0] >= _HOUR.total_seconds():
        free.append((now, disk.free))
    begun, before = free[0]
    span, used = now - begun, before - disk.free
    days = disk.free / used * span / _DAY.total_seconds() if used > 0 else inf
    is_soon = span >= _PACE_FROM and days < LEAST_DAYS
    if is_soon or disk.free < LEAST_DISK * disk.total:
        detail = f"{disk.free / 2**30:.1f} GiB are free on the disk of the state folder"
        if is_soon:
            detail += f", and at the pace of the last hours it is full in {days:.1f} days"
        share = disk.free / disk.total
        yield DataFault("disk", detail, share, LEAST_DISK, "fleetctl usage compact")
