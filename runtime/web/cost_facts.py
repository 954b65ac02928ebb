"""Gather the facts of costs: the operator's month, and the preview of a client's invoice."""

import asyncio
import time
from calendar import monthrange
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from threading import Lock
from typing import Any, Final

from fleet.costing import (
    HOUR,
    PLATFORM,
    Bill,
    HourSplitter,
    MonthCost,
    ServerHour,
    bill_cents,
    change_since,
    share_state,
    to_cents,
)
from fleet.errors import FleetError, problem_of
from fleet.usage import OfClient, Operator
from runtime.operations.costs import MonthBills
from runtime.web.facts import AliasRow, Document, Documents, Heading
from runtime.web.gather import AWAY, alias_rows, heading
from runtime.web.snapshot import FleetSnapshot
from runtime.workspace import Workspace

KEPT_S: Final = 60.0
"""Lower bound of the time between two bills of the present month. Seconds."""
LEAST_PAUSE: Final = 20
"""Lower bound of that time, in durations of a bill: bills cost a twentieth of a core at most."""
OLDEST_S: Final = 600.0
"""Upper bound of the age of a bill that a page shows. Seconds."""


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


@dataclass(frozen=True, slots=True)
class CostPage:
    """The page `/cost`."""

    heading: Heading
    month: str
    months: tuple[str, ...]
    problem: str
    report: Document
    """The tables of `fleetctl cost report`; empty: there is no bill."""
    lines: tuple[Document, ...]
    """Rounded lines in cents, which add up to the bill."""
    shares: "tuple[ClientCost, ...]"
    days: tuple[Document, ...]
    """Cost of devices by day and client, in millionths; None is the platform."""


@dataclass(frozen=True, slots=True)
class ClientCost:
    """The cost of a client in a month so far, beside its fee for the same hours."""

    client: str
    cost_cents: int | None = None
    """None: there is no bill."""
    fee_cents: int | None = None
    """With overage and corrections; None: no fee is declared."""
    of_fee_percent: float | None = None
    state: str = ""
    """`ok`, `warning`, `alarm` or `no fee declared`; empty: there is no bill."""
    change_cents: int | None = None
    """Cost beyond that of as many hours of the month before, corrections left out; None: not
    known."""
    change_percent: float | None = None


@dataclass(frozen=True, slots=True)
class ClientRow(ClientCost):
    """A client on the list of clients, with the health of its aliases."""

    aliases: int = 0
    away: int = 0
    """Aliases that no server answers, or of which that is not known."""
    alerts: int = 0
    """Alerts that stand on the client or an alias."""
    promises: int = 0
    """Aliases with a promise and a request, of the last day as all that follows."""
    promises_kept: int = 0
    requests: int = 0
    errors: int = 0


@dataclass(frozen=True, slots=True)
class ClientsPage:
    """The page `/clients`."""

    heading: Heading
    month: str
    problem: str
    """Why there are no costs; empty: there are."""
    clients: tuple[ClientRow, ...]


@dataclass(frozen=True, slots=True)
class ClientInvoicePage:
    """The page `/c/CLIENT/invoice`: a preview, or the invoice of a closed month."""

    client: str
    as_of: str
    month: str
    invoice: Document
    """Document of `fleetctl cost invoice`; empty: there is none."""
    report: Document
    lines: tuple[Document, ...]


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


def cost_page(found: ReadBill, head: Heading, scope: Operator, make: Documents) -> CostPage:  # noqa: ARG001 (a proof)
    """Return the facts of a month's costs."""
    report: Mapping[str, Any] = {}
    lines: tuple[Document, ...] = ()
    if found.bill is not None:
        report, lines = make.cost(found.bill, None)
    shares = tuple(client_costs(found).values())
    days = cost_days(found.bill.cost) if found.bill else ()
    return CostPage(head, found.month, found.months, found.problem, report, lines, shares, days)


def cost_days(cost: MonthCost) -> tuple[Document, ...]:
    """Return the cost of devices by day and client; days without recorded terms are left out.

    A day is 24 hours from the month's begin on; where clocks go back, the last has an hour more.
    """
    last = monthrange(*map(int, cost.month.split("-")))[1]
    sums: Counter[tuple[int, str]] = Counter()
    for client, daily in cost.daily.items():
        for day, micro in daily.items():
            sums[min(int(day) + 1, last), client] += micro
    return tuple(
        {"day": f"{cost.month}-{day:02}", "client": client or None, "micro": micro}
        for (day, client), micro in sorted(sums.items())
    )


def client_costs(read: ReadBill) -> dict[str, ClientCost]:
    """Return the cost of every client of a bill, by name; their sum is the bill's."""
    bill = read.bill
    if bill is None:
        return {}
    cents: Counter[str] = Counter()
    for (name, _, _), amount in to_cents(bill.cost.lines).items():
        cents[name] += amount
    found = {}
    for name in sorted({*cents, *bill.cost.clients} - {PLATFORM}):
        its, cost = bill.cost.clients.get(name), bill.cost.cost(name)
        fee = its.fee if its else None
        earned = its.due_cents if its and fee is not None else None
        share = round(100 * cost / fee, 1) if fee else None
        state, moved = share_state(cost, fee).value, change_since(bill.cost, read.before, name)
        change, before = moved or (None, 0)
        found[name] = ClientCost(
            name,
            cents[name],
            earned,
            share,
            state,
            None if change is None else bill_cents(change),
            round(100 * change / before, 1) if change is not None and before else None,
        )
    return found


def clients_page(
    found: ReadBill, seen: FleetSnapshot, scope: Operator, now: datetime
) -> ClientsPage:
    """Return the facts of the list of clients: health of the last day, costs of the month."""
    costs, rows = client_costs(found), dict[str, list[AliasRow]]()
    for row in alias_rows(seen, scope):
        rows.setdefault(row.client, []).append(row)
    clients = sorted({*seen.fleet.clients, *rows, *costs})
    listed = tuple(
        _client_row(seen, rows.get(name, []), costs.get(name, ClientCost(name))) for name in clients
    )
    return ClientsPage(heading(seen, scope, now), found.month, found.problem, listed)


def _client_row(seen: FleetSnapshot, rows: Sequence[AliasRow], cost: ClientCost) -> ClientRow:
    subjects = {cost.client, *(row.alias for row in rows)}
    asked = [row for row in rows if row.promise_s is not None and row.p95_s is not None]
    return ClientRow(
        **asdict(cost),
        aliases=len(rows),
        away=sum(row.state in AWAY for row in rows),
        alerts=sum(alert.stands and alert.subject in subjects for alert in seen.alerts),
        promises=len(asked),
        promises_kept=sum((row.p95_s or 0) <= (row.promise_s or 0) for row in asked),
        requests=sum(row.requests for row in rows),
        errors=sum(row.errors for row in rows),
    )


def client_invoice(
    found: ReadBill, seen: FleetSnapshot, scope: OfClient, make: Documents
) -> ClientInvoicePage:
    """Return the facts of a client's invoice."""
    as_of, none = seen.at.isoformat(timespec="minutes"), (dict[str, Any](), dict[str, Any]())
    bill = found.bill
    has = bill is not None and scope.name in bill.cost.clients
    invoice, report = make.invoice(bill, scope.name) if bill is not None and has else none
    rows = tuple(row for table in report.get("tables", ()) for row in _rows(table))
    return ClientInvoicePage(scope.name, as_of, found.month, invoice, report, rows)


def _rows(table: Mapping[str, Any]) -> list[Document]:
    return [dict(zip(table["heads"], row, strict=False)) for row in table["rows"]]
