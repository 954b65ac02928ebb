"""Brings the usage of all gateways into the store, for commands and in rounds of reconcile."""

import asyncio
import json
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import inf
from pathlib import Path
from typing import Any, Final

from fleet.alerting import DataFault
from fleet.codec import MalformedError, decode, plain
from fleet.errors import ConfigError, FleetError
from fleet.evals import EXPORTS, CapturedText, GoldenSet
from fleet.history import SKEW
from fleet.usage import Grain, Operator
from runtime.files import read_text, write_text
from runtime.gateway.admin.state_dir import known_gateways
from runtime.gateway.control.client import usage_sources
from runtime.messages import FailureMessage
from runtime.usage.captured import delete_expired, read_captured, request_of
from runtime.usage.ingest import Ingested, ingest
from runtime.usage.log import GATEWAYS, LOG_BYTES, USAGE_FILE, gateway_segments, log_bytes
from runtime.usage.parquet import KEEP_PARTS
from runtime.usage.store import UsageStore
from runtime.usage.sync import sync_usage
from runtime.usage.tables import BUSY
from runtime.workspace import Call, ProjectContext

WAIT_S: Final = 60.0
"""Upper bound of a command's wait for another process that ingests, in seconds."""


def require_known(project: ProjectContext, client: str | None, found: Collection[object]) -> None:
    """Refuse a client of which nothing was found and that is not declared (FC5122)."""
    if not found:
        with suppress(ConfigError):  # without declarations no name is wrong
            project.require_client(client)


async def gather_usage_rows(
    state_dir: Path, clock: Callable[[], datetime], wait_s: float = 0.0
) -> tuple[Ingested, tuple[str, ...]]:
    """Copy rows of gateways on other machines here, and ingest all; return why rows are lacking.

    Captured text whose time is over is deleted before.

    `wait_s`: as `ingest`; raises as `ingest`.
    """
    sources = usage_sources(state_dir, {})
    lacking = await sync_usage(sources, clock() - KEEP_PARTS, clock)
    delete_expired(state_dir, clock().date())
    done = await asyncio.to_thread(ingest, state_dir, clock(), wait_s=wait_s)
    cut = (
        f"log {path} was cut or changed after it was ingested: each of its rows counts once, and "
        "requests that the log lacks now may be lacking"
        for path in done.cut
    )
    damaged = (
        f"lines of log {path} cannot be read and are left out: {lines}"
        for path, lines in done.damaged.items()
    )
    return done, (*lacking, *cut, *damaged)


def remove_old_logs(state_dir: Path) -> list[str]:
    """Remove the oldest ingested files of usage logs above their size; return what was removed."""
    return [
        text
        for name, gateway in known_gateways(state_dir).items()
        for text in remove_oldest(state_dir, name, gateway.usage_log or LOG_BYTES)
    ]


async def keep_usage(call: Call) -> None:
    """Gather rows in a round of a loop: a fault is told, and does not end the round."""
    try:
        await gather_usage_rows(call.state_dir, call.now)
        for text in remove_old_logs(call.state_dir):
            call.warn(f"The {text}.")
    except FleetError as error:
        if error.diagnostics[0].code != BUSY:
            call.emit(FailureMessage(error.diagnostics))
    except OSError as error:
        call.warn(f"Usage is not ingested: {error}")


def export_captured(
    state_dir: Path,
    client: str,
    form: str,
    alias: str | None,
    since: datetime,
    beside: GoldenSet | None = None,
) -> tuple[list[dict[str, Any]], int]:
    """Return a client's items without repetitions, and the number of requests left out.

    `form` is a name of `EXPORTS`. A request is left out that holds more than text, or that the
    golden set `beside` asks. Golden items of a user, or of a session, are a group.
    """
    items: dict[str, dict[str, Any]] = {}
    first: dict[str, str] = {}
    known = {_question(item.messages, item.prompt) for item in (beside.items if beside else ())}
    left_out = 0
    for found in read_captured(state_dir, client):
        if alias in {None, found.alias} and datetime.fromisoformat(found.time) >= since:
            request = request_of(found)
            text = CapturedText(found.request_id, request, found.answer, found.output_tokens)
            item, who = EXPORTS[form](text), found.user or found.session
            group = first.setdefault(who, found.request_id) if who else ""
            if item is None or _question(item.get("messages", ()), item.get("prompt", "")) in known:
                left_out += 1
            else:
                if form == "golden" and group:
                    item["group"] = group
                items.setdefault(json.dumps({**item, "id": "", "group": ""}, sort_keys=True), item)
    return [*items.values()], left_out


def _question(messages: Iterable[Mapping[str, Any]], prompt: str) -> str:
    return json.dumps([[*messages], prompt], sort_keys=True)


def remove_oldest(state_dir: Path, gateway: str, limit: int) -> Iterator[str]:
    """Remove the oldest files of a log above its limit, in bytes; yield what was removed.

    Rows that are not in the store are not billed yet: a file that has some stays, whatever the
    size of the log. So does the file that is written. Raises `OSError`, and as `UsageStore`.
    """
    folder = state_dir / GATEWAYS / gateway
    excess = log_bytes(folder) - limit
    if excess <= 0:
        return
    with UsageStore(state_dir) as store:
        ingested = store.marks()
    for segment in gateway_segments(folder):  # by name, which is the time of the rotation
        is_closed = segment.path.name != USAGE_FILE
        if excess > 0 and is_closed and ingested.get(segment.key) == segment.end:
            excess -= segment.path.stat().st_size
            segment.path.unlink()
            yield (
                f"usage log of gateway {gateway} was above its `usage_log`: removed "
                f"{segment.path.name}, whose rows are in the store"
            )


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


async def gather_rows(call: Call) -> list[DataFault]:
    """Bring new rows of all gateways into the usage store; return the faults of rows."""
    command = "fleetctl usage summary"
    try:
        _, lacking = await gather_usage_rows(call.state_dir, call.now)
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
