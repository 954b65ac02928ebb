"""Make bills of months from ledger and usage store; close months, import hours of staff."""

import asyncio
import csv
import hashlib
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from math import inf
from pathlib import Path
from threading import Lock
from typing import Any, Final
from zoneinfo import ZoneInfo

from fleet.codec import MalformedError, canonical_json, decode, decode_json, plain
from fleet.costing import (
    COUNTED,
    HOUR,
    Bill,
    Corrections,
    HourSplitter,
    MonthCost,
    ServerHour,
    Terms,
    WorkCell,
    WorkNames,
    due_corrections,
    hourly_terms,
    month_cost,
    promise_hours,
    promised_spans,
    rollback_seconds,
)
from fleet.errors import FleetError, problem_of
from fleet.history import CostTermsChanged, Entry, MonthClosed, StaffHoursImported
from fleet.usage import Operator
from runtime.files import READ_ONLY_FILE, make_private, read_plain, replace_file
from runtime.usage.ingest import ingest
from runtime.usage.store import UsageStore
from runtime.usage.tables import BUSY
from runtime.workspace import Workspace

CORRECTED: Final = 3
"""Number of closed months whose late rows become corrections."""
KEPT_S: Final = 60.0
"""Lower bound of the time between two bills of the present month. Seconds."""
LEAST_PAUSE: Final = 20
"""Lower bound of that time, in durations of a bill: bills cost a twentieth of a core at most."""
OLDEST_S: Final = 600.0
"""Upper bound of the age of a bill that a page shows. Seconds."""
_NO_CELLS: Final[tuple[float, Iterator[Any]]] = (inf, iter(()))
_NOTHING: Final = Corrections()


class MonthBills:
    """Bills of a project, read from the ledger and the usage store as they are now."""

    def __init__(self, workspace: Workspace) -> None:
        """Bring new rows into the store, and read the ledger."""
        self._workspace, self._state_dir = workspace, workspace.state_dir
        self.now = workspace.now()
        try:
            ingest(self._state_dir, self.now)
        except FleetError as error:
            if error.diagnostics[0].code != BUSY:
                raise
        self._entries: Sequence[Entry] = workspace.ledger.open().read()
        self._previous: dict[str, MonthCost | None] = {}

    @cached_property
    def changes(self) -> list[tuple[datetime, Mapping[str, Mapping[str, Any] | None]]]:
        """The recorded terms, oldest first.

        Raises:
            FleetError: FC6083, none are recorded.
        """
        found = [
            (entry.time, entry.event.changed)
            for entry in self._entries
            if isinstance(entry.event, CostTermsChanged)
        ]
        if not found:
            raise FleetError.of(
                "FC6083",
                "No costs are recorded",
                "No apply has recorded prices, servers and fees yet, so there is nothing to bill.",
                hint="Declare `price_per_hour` of a device, then apply: docs/cost.md.",
                command="fleetctl apply --auto",
            )
        return sorted(found, key=lambda change: change[0])

    @cached_property
    def _read(self) -> datetime | None:
        """The time at which rows were last looked for; None: never."""
        with UsageStore(self._state_dir) as store:
            return store.ingested_at

    @cached_property
    def zone(self) -> ZoneInfo:
        """The zone in which months begin, as last recorded."""
        return ZoneInfo(self._last.fleet.timezone)

    @cached_property
    def _last(self) -> Terms:
        *_, (_, terms) = hourly_terms(self.changes, self.changes[-1][0], self.changes[-1][0] + HOUR)
        return terms

    @cached_property
    def closed(self) -> dict[str, MonthClosed]:
        """The closed months, oldest first."""
        events = (entry.event for entry in self._entries)
        found = {event.month: event for event in events if isinstance(event, MonthClosed)}
        return dict(sorted(found.items()))

    def month_of(self, time: datetime) -> str:
        """Return the month of a time, such as `2026-11`."""
        return f"{time.astimezone(self.zone):%Y-%m}"

    def bounds(self, month: str) -> tuple[datetime, datetime]:
        """Return begin and end of a month: the full hours, UTC, that begin in the month."""
        return month_bounds(month, self.zone)

    def bill(self, month: str) -> Bill:
        """Return the bill of a month.

        Raises:
            FleetError: FC6083, FC6084 no hour of the month has recorded terms; FC6085 the file of a
                closed month is not the closed one.
        """
        closed = self.closed.get(month)
        cost = (
            read_closed(self._state_dir, closed)
            if closed
            else self.compute(month, self._corrections(month))
        )
        begin, _ = self.bounds(month)
        early = {} if closed else self._before(month, cost)
        terms = self._last
        if closed or month != self.month_of(self.now):
            hours = self._terms(begin, begin + cost.hours * HOUR)
            terms = next(reversed([terms for _, terms in hours]), terms)
        sha256 = closed.sha256 if closed else ""
        return Bill(
            cost, sha256, terms, early, rollback_seconds(self._entries, *self.bounds(month))
        )

    def previous(self, month: str) -> MonthCost | None:
        """Return the cost of the month before; None: no terms of its hours are recorded.

        Raises:
            FleetError: FC6083, FC6085.
        """
        if month not in self._previous:
            name, found = self.month_of(self.bounds(month)[0] - HOUR), None
            if closed := self.closed.get(name):
                found = read_closed(self._state_dir, closed)
            elif name >= self.month_of(self.changes[0][0]):
                found = self._counted(name)
            self._previous[month] = found
        return self._previous[month]

    def compute(self, month: str, corrected: Corrections = _NOTHING) -> MonthCost:
        """Return the cost of a month from rows and recorded terms, closed or not."""
        found = self._counted(month, corrected)
        spans = promised_spans(self._terms(*self.bounds(month)))
        with UsageStore(self._state_dir) as store:
            kept = promise_hours(
                spans,
                lambda span: store.hours_within(
                    Operator(), span.alias, span.begin, span.end, span.limit_ms / 1000
                ),
            )
        clients = {
            name: replace(its, promises=kept.get(name, {})) for name, its in found.clients.items()
        }
        return replace(found, clients=clients)

    def _counted(self, month: str, corrected: Corrections = _NOTHING) -> MonthCost:
        """Return the cost of a month without the hours of promises."""
        begin, end = self.bounds(month)
        found = month_cost(
            month, begin, end, self._hours(begin, end), self._worked(month), corrected
        )
        if found is None:
            first = self.changes[0][0]
            detail = (
                f"No hour of {month} that is over has recorded prices and servers; costs are "
                f"recorded since {first:%Y-%m-%d %H:%M} UTC."
            )
            last = full_hour(self.now, up=False) - HOUR
            command = f"fleetctl cost report --month {self.month_of(last)}"
            if last < full_hour(first, up=False):
                detail += " A plan has the costs by declared demand."
                command = "fleetctl plan"
            raise FleetError.of("FC6084", "No costs of this month", detail, command=command)
        return found

    def hour(self, hour: datetime) -> tuple[Terms, list[WorkCell] | None]:
        """Return terms and usage of an hour.

        Raises:
            FleetError: FC6083, FC6084.
        """
        for _, terms, cells in self._hours(hour, hour + HOUR):
            return terms, cells
        self.compute(self.month_of(hour))
        raise FleetError.of(
            "FC6084", "No costs of this month", f"The hour {hour:%Y-%m-%dT%H} is not over."
        )

    def close(self, month: str) -> tuple[Path, MonthClosed]:
        """Close a month, once: write its file, and the file's hash into the ledger.

        Raises:
            FleetError: FC6086, the month is not over, or an earlier month is open.
        """
        path = month_path(self._state_dir, month)
        if known := self.closed.get(month):
            read_closed(self._state_dir, known)
            return path, known
        _, end = self.bounds(month)
        first = max([self.month_of(self.changes[0][0]), *map(_following, self.closed)])
        problem = ""
        if self.now < end:
            problem = f"{month} ends at {end:%Y-%m-%d %H:%M} UTC."
        elif month != first:
            problem = f"The earliest open month is {first}, and months are closed in order."
        elif self._read is None or self._read < end:
            problem = "Rows up to its end were not looked for: another run is at work. Run again."
        if problem:
            raise FleetError.of("FC6086", "Month cannot be closed", problem)
        cost = self.compute(month, self._corrections(month))
        content = month_file(cost)
        make_private(path.parent)
        replace_file(path, content, READ_ONLY_FILE)
        event = MonthClosed(month, hashlib.sha256(content).hexdigest(), cost.total)
        self._workspace.ledger.open().append([event])
        return path, event

    def _corrections(self, month: str) -> Corrections:
        """Return the changes of closed months by late rows, for the month after the last."""
        if not self.closed or month != _following(max(self.closed)):
            return Corrections()
        files = {name: read_closed(self._state_dir, event) for name, event in self.closed.items()}
        return due_corrections(files, {name: self._counted(name) for name in [*files][-CORRECTED:]})

    def _worked(self, month: str) -> Mapping[str, int] | None:
        events = (entry.event for entry in self._entries)
        found = [e for e in events if isinstance(e, StaffHoursImported) and e.month == month]
        return found[-1].hours if found else None

    def _terms(self, begin: datetime, end: datetime) -> Iterator[tuple[datetime, Terms]]:
        return hourly_terms(self.changes, begin, min(end, full_hour(self.now, up=False)))

    def _hours(
        self, begin: datetime, end: datetime
    ) -> Iterator[tuple[datetime, Terms, list[WorkCell] | None]]:
        """Yield the hours that are over; usage is None where rows were not looked for since."""
        with (
            UsageStore(self._state_dir) as store,
            closing(store.counts(Operator(), begin, end, COUNTED, WorkNames._make)) as counted,
        ):
            start, cells = next(counted, _NO_CELLS)
            for hour, terms in self._terms(begin, end):
                wanted = int(hour.timestamp()) // 3600
                while start < wanted:
                    start, cells = next(counted, _NO_CELLS)
                found = map(WorkCell._make, cells if start == wanted else ())
                is_read = self._read is not None and hour + HOUR <= self._read
                yield hour, terms, [*found] if is_read else None

    def _before(self, month: str, cost: MonthCost) -> dict[str, dict[int, int]]:
        """Return the daily costs of the month before, of a month that is not over."""
        found = self.previous(month) if cost.elapsed < cost.hours else None
        if found is None:
            return {}
        days = found.hours // 24
        return {
            client: {int(day) - days: amount for day, amount in daily.items() if int(day) < days}
            for client, daily in found.daily.items()
        }


def _following(month: str) -> str:
    year, number = int(month[:4]), int(month[5:])
    return f"{year + number // 12:04}-{number % 12 + 1:02}"


def import_staff(workspace: Workspace, file: Path) -> dict[str, dict[str, int]]:
    """Record the staff hours of a CSV file with the columns date, client and hours, by month.

    Raises:
        FleetError: FC6087, a line is wrong, or its month is closed.
    """
    books = MonthBills(workspace)
    months: dict[str, Counter[str]] = defaultdict(Counter)
    known = workspace.project.fleet().clients
    with file.open(encoding="utf-8-sig", newline="") as text:
        for number, row in enumerate(csv.DictReader(text), start=2):
            try:
                month = datetime.fromisoformat(row["date"]).strftime("%Y-%m")
                client, hours = row["client"], round(float(row["hours"]) * 1000)
                problem = "" if client in known else f"client `{client:.40}` is not declared"
                problem = problem or ("" if 0 <= hours < 10**9 else "hours are out of range")
            except (KeyError, TypeError, ValueError, OverflowError):
                problem = "needs the columns `date` (2026-11-30), `client` and `hours`"
            else:
                problem = problem or (f"{month} is closed" if month in books.closed else "")
            if problem:
                detail = f"`{file}`, line {number}: {problem}. Nothing was imported."
                raise FleetError.of("FC6087", "Staff hours cannot be imported", detail)
            months[month][client] += hours
    events = [
        StaffHoursImported(month, dict(sorted(by_client.items())), file.name)
        for month, by_client in sorted(months.items())
    ]
    if events:
        workspace.ledger.open().append(events)
    return {event.month: dict(event.hours) for event in events}


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


@dataclass(frozen=True, slots=True)
class ReadBill:
    """A bill, or the reason why there is none."""

    month: str
    months: tuple[str, ...] = ()
    """Months with costs: closed ones and the present one, newest first."""
    bill: Bill | None = None
    problem: str = ""
    before: MonthCost | None = None
    """Cost of the month before; None: not known."""
    busy: Mapping[str, float] = field(default_factory=dict)
    """Work of the last full hour as a part of the capacity, by server on a device with a price."""


@dataclass(slots=True)
class BillReader:
    """Reads bills of months and keeps them; the present one is made anew before it is old."""

    workspace: Workspace
    _kept: dict[str, tuple[float, ReadBill]] = field(default_factory=dict)
    _making: Lock = field(default_factory=Lock)

    async def run(self) -> None:
        """Make the present month's bill anew, until cancelled, so that no page waits for a bill."""
        while True:
            began = time.monotonic()
            await asyncio.to_thread(self._make, "")
            await asyncio.sleep(max(KEPT_S, LEAST_PAUSE * (time.monotonic() - began)))

    def read(self, month: str) -> ReadBill:
        """Return the bill of a month, empty: the present month. Blocks where none is kept."""
        at, found = self._kept.get(month, (0.0, None))
        return found if found and time.monotonic() - at < OLDEST_S else self._make(month)

    def _make(self, month: str) -> ReadBill:
        asked = time.monotonic()
        with self._making:
            at, found = self._kept.get(month, (0.0, None))
            if found is None or at < asked:  # no other has made it meanwhile
                found = self._read(month)
                kept = dict(list(self._kept.items())[-24:])
                self._kept = {**kept, month: (time.monotonic(), found)}
        return found

    def _read(self, month: str) -> ReadBill:
        try:
            bills = MonthBills(replace(self.workspace, emit=lambda _: None))
            present = bills.month_of(bills.now)
            months = tuple(dict.fromkeys((present, *reversed([*bills.closed]))))
        except Exception as error:  # noqa: BLE001 (pages are served without costs)
            return ReadBill(month, problem=_reason(error))
        try:
            bill = bills.bill(month or present)
            busy = {} if month else _busy(bills)
            found = ReadBill(month or present, months, bill, busy=busy)
        except Exception as error:  # noqa: BLE001 (as above)
            return ReadBill(month or present, months, problem=_reason(error))
        try:
            return replace(found, before=bills.previous(found.month))
        except Exception as error:  # noqa: BLE001 (the bill is shown without a change)
            return replace(found, problem=f"No change since last month: {_reason(error)}")


def _busy(bills: MonthBills) -> dict[str, float]:
    hour = bills.now.replace(minute=0, second=0, microsecond=0) - HOUR
    try:
        terms, cells = bills.hour(hour)
    except FleetError:  # the hour has no recorded terms
        return {}
    devices = HourSplitter(terms).split(hour, cells).values() if cells is not None else ()
    hours = (part for parts in devices for part in parts if isinstance(part, ServerHour))
    return {
        part.server: round(min(1, sum(part.work.values()) / part.capacity), 4)
        for part in hours
        if part.capacity
    }


def _reason(error: Exception) -> str:
    first = problem_of(error).diagnostics[0]
    return " ".join(filter(None, (f"{first.summary} [{first.code}]: {first.detail}", first.hint)))
