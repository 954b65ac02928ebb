"""Report the cost of a month to the operator: clients, devices, budgets, projections, tables.

Amounts are rounded once, so that the lines add up to the bill, to the cent.
"""

import csv
import io
from calendar import monthrange
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from fleet.alerting import BudgetUse, Month
from fleet.codec import plain
from fleet.costing import (
    ALARM,
    PLATFORM,
    WARN,
    Bill,
    ClientMonth,
    LineKind,
    MonthCost,
    ServerHour,
    ShareState,
    Terms,
    bill_cents,
    change_since,
    cheaper_moves,
    fee_needed,
    projection,
    share_state,
    to_cents,
)
from fleet.names import alias_of
from plans.documents.document import write
from plans.tables import WIDE_GAP, aligned, listed, percent
from plans.templating import rendered
from plans.visible import prose, visible


@dataclass(frozen=True, slots=True)
class ReportTable:
    """A table; the first column holds names, and numbers follow."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    names: int = 1
    """Columns of names; the columns after them are aligned to the right."""


@dataclass(frozen=True, slots=True)
class TabularReport:
    """A report."""

    title: str
    facts: tuple[str, ...]
    tables: tuple[ReportTable, ...]
    notes: tuple[str, ...] = ()


def render_text(report: TabularReport) -> str:
    """Return the report for a terminal."""
    blocks = [[report.title, *report.facts]]
    for table in report.tables:
        right = range(table.names, len(table.heads))
        lines = aligned((table.heads, *table.rows), gap=WIDE_GAP, right=right)
        blocks.append([f"{table.title}:", *(f"  {line}" for line in lines)])
    blocks.append(list(report.notes))
    return "\n\n".join("\n".join(map(visible, block)) for block in blocks if block) + "\n"


def render_markdown(report: TabularReport) -> str:
    """Return the report as Markdown."""
    blocks = [[f"## {prose(report.title)}"], [f"- {prose(fact)}" for fact in report.facts]]
    for table in report.tables:
        rule = "---|" * table.names + "---:|" * (len(table.heads) - table.names)
        rows = (f"| {' | '.join(map(prose, row))} |" for row in table.rows)
        head = f"| {' | '.join(map(prose, table.heads))} |"
        blocks += [[f"### {prose(table.title)}"], [head, f"|{rule}", *rows]]
    blocks.append([f"- {prose(note)}" for note in report.notes])
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


def render_html(report: TabularReport) -> str:
    """Return the report as a page without script; texts from outside are escaped."""
    return rendered("tabular.html.j2", report=report)


def csv_text(rows: Sequence[Sequence[object]]) -> str:
    """Return rows as CSV; a cell that a spreadsheet would compute begins with an apostrophe."""
    out = io.StringIO()
    acts = ("=", "+", "@")
    safe = ([f"'{cell}" if str(cell).startswith(acts) else cell for cell in row] for row in rows)
    csv.writer(out, lineterminator="\n").writerows(safe)
    return out.getvalue()


_HEADS = ("budget of", "", "used", "of", "", "", "reached", "then")


def rows(uses: Iterable[BudgetUse], month: Month, now: datetime) -> list[dict[str, Any]]:
    """Return a row for every budget; `reached` is a day of this month, by its pace so far."""
    made = []
    for use in uses:
        (kind, name), reached = use.holder, use.ends_at(month, now)
        made.append(
            {
                kind: name,
                "kind": use.kind,
                "used": use.used,
                "limit": use.limit,
                "budget": "hard" if use.is_hard else "soft",
                "reached": f"{reached:%Y-%m-%d}" if reached else None,
                "month_ends": f"{month.end:%Y-%m-%dT%H:%MZ}",
            }
        )
    return made


def table(found: Sequence[dict[str, Any]]) -> str:
    """Return the rows as a table."""
    if not found:
        return "No budget of a month is declared: `limits.tokens_per_month` of a tier or client.\n"
    cells = [
        (
            str(row.get("client") or row["alias"]),
            row["kind"],
            f"{row['used']:,}",
            f"{row['limit']:,}",
            f"{row['used'] / row['limit']:.0%}",
            row["budget"],
            "yes" if row["used"] >= row["limit"] else row["reached"] or "-",
            _then(row),
        )
        for row in found
    ]
    lines = aligned([_HEADS, *cells], gap=WIDE_GAP, right=(2, 3, 4))
    return "".join(f"{line.rstrip()}\n" for line in lines)


def _then(row: dict[str, Any]) -> str:
    if row["budget"] == "soft":
        return "an alert alone"
    verb = "are refused" if row["used"] >= row["limit"] else "would be refused"
    return f"requests {verb} until {row['month_ends']}"


_MOVES: Final = 2
"""Upper bound of cheaper moves that are told of a client."""


def money(cents: int) -> str:
    """Return cents as an amount, such as `1,234.50`."""
    return f"{'-' if cents < 0 else ''}{abs(cents) // 100:,}.{abs(cents) % 100:02}"


def _micro(amount: int) -> str:
    return money(bill_cents(amount))


def report(bill: Bill, client: str | None = None) -> TabularReport:
    """Return the report; `client`: of a single client."""
    cost = bill.cost
    state = f"closed, sha256 {bill.sha256}" if bill.sha256 else "open"
    part = (
        "" if cost.counted == cost.hours else f"; {cost.counted} of {cost.hours} hours are counted"
    )
    whose = f"of {client} " if client else ""
    tables = [_clients(bill, client)]
    if client is None:
        tables.append(_devices(bill))
    elif figures := cost.clients.get(client):
        tables.append(promise_table(promises(figures)))
    if rows := tuple(_projections(bill, client)):
        heads = ("client", "expected", "from", "to", "fee", "of the fee")
        tables.append(ReportTable(f"Projection of the whole month, {cost.currency}", heads, rows))
    return TabularReport(
        f"Cost {whose}in {cost.month}, in {cost.currency}",
        (f"{state}{part}. Months begin in {cost.timezone}.",),
        tuple(tables),
        tuple(_notes(bill, client)),
    )


def _names(bill: Bill, client: str | None) -> list[str]:
    known = {line.client for line in bill.cost.lines} | bill.cost.clients.keys()
    return [name for name in sorted(known - {PLATFORM}) if client in (None, name)]


def _clients(bill: Bill, client: str | None) -> ReportTable:
    cost = bill.cost
    sums: Counter[tuple[str, LineKind]] = Counter()
    for (name, kind, _), cents in to_cents(cost.lines).items():
        sums[name, kind] += cents
    kinds = [kind for kind in LineKind if any(kind is found for _, found in sums)]
    names = [*_names(bill, client), *([] if client else [PLATFORM])]
    rows = []
    for name in names:
        total, its = sum(sums[name, kind] for kind in kinds), cost.clients.get(name)
        cells = [money(sums[name, kind]) for kind in kinds]
        ending = ["", "", "", ""]
        if its is not None and its.fee is not None:
            earned = its.due_cents
            share = percent(cost.cost(name) / its.fee, 1) if its.fee else "-"
            ending = [money(earned), money(earned - total), share, _state(bill, name)]
        elif name:
            ending[-1] = ShareState.NO_FEE
        rows.append((name or "platform", *cells, money(total), *ending))
    if client is None:
        columns = [money(sum(sums[name, kind] for name in names)) for kind in kinds]
        rows.append(("sum = bill", *columns, money(bill_cents(cost.total)), "", "", "", ""))
    heads = ("client", *kinds, "total", "fee", "margin", "of the fee", "state")
    return ReportTable("Clients", heads, tuple(rows))


def _state(bill: Bill, client: str) -> ShareState:
    its = bill.cost.clients.get(client)
    return share_state(bill.cost.cost(client), its.fee if its else None)


def _devices(bill: Bill) -> ReportTable:
    found: dict[str, Counter[LineKind]] = {}
    for line in bill.cost.lines:
        if line.device:
            found.setdefault(line.device, Counter())[line.kind] += line.micro
    free = (LineKind.IDLE, LineKind.UNPLACED, LineKind.UNKNOWN)
    rows = tuple(
        (name, *map(_micro, (kinds.total(), *(kinds[kind] for kind in free))))
        for name, kinds in sorted(found.items())
    )
    return ReportTable("Devices", ("device", "leased", *free), rows)


def _projections(bill: Bill, client: str | None) -> Iterator[tuple[str, ...]]:
    for name in _names(bill, client):
        found = projection(bill.cost, name, bill.before.get(name, {}))
        if found is not None:
            declared = bill.terms.clients.get(name)
            fee = declared.fee if declared else None
            share = percent(found.expected / fee, 1) if fee else "-"
            shown = map(_micro, (found.expected, found.low, found.high))
            yield name, *shown, "-" if fee is None else _micro(fee), share


def _notes(bill: Bill, client: str | None) -> Iterator[str]:
    cost = bill.cost
    for name in _names(bill, client):
        state = _state(bill, name)
        if state in {ShareState.ALARM, ShareState.WARN}:
            limit = ALARM if state is ShareState.ALARM else WARN
            yield f"{name} costs more than {limit} % of its fee."
        if state is ShareState.ALARM:
            fee = fee_needed(cost.recurring(name, cost.hours))
            yield f"  At this cost, a fee of {_micro(fee)} a month is 2.5 times the cost."
            yield from _moves(bill, name)
    yield from _corrections(bill, client)
    if cost.uncalibrated:
        servers = listed(cost.uncalibrated, 4)
        yield f"Capacity and weights are uncalibrated on {servers}: fleetctl calibrate SERVER."
    if cost.estimated:
        yield f"{cost.estimated} requests without token counts weigh as the others of their alias."
    reasons: Counter[str] = Counter()
    for line in cost.lines:
        if client is None and line.client == PLATFORM and line.reason:
            reasons[f"{line.kind}, {line.reason}"] += line.micro
    for reason, amount in sorted(reasons.items()):
        yield f"The platform pays {_micro(amount)}: {reason}."


def _moves(bill: Bill, client: str) -> Iterator[str]:
    cost = bill.cost
    fee = cost.clients[client].fee
    for move in cheaper_moves(bill.terms, client)[:_MOVES]:
        left = cost.cost(client) - move.saved * cost.counted // cost.hours
        share = f", to {percent(max(left, 0) / fee, 1)} of the fee" if fee else ""
        yield (
            f"  {move.adapter} on {move.server} would save {_micro(move.saved)} a month by "
            f"declared demand{share}: pin it there, and ask `fleetctl plan`."
        )


def _corrections(bill: Bill, client: str | None) -> Iterator[str]:
    for name, figures in bill.cost.clients.items():
        for month, amount in figures.corrections.items() if client in (None, name) else ():
            yield f"{name} owes {_micro(amount)} more for further tokens of {month}, counted late."


def document(bill: Bill, client: str | None = None) -> dict[str, Any]:
    """Return the report as a JSON document: exact lines in millionths, rounded lines in cents."""
    cost = bill.cost
    cents = [
        {"client": name or None, "line": kind, "reason": reason, "cents": amount}
        for (name, kind, reason), amount in to_cents(cost.lines).items()
        if client in (None, name)
    ]
    clients: dict[str, Any] = {}
    for name in _names(bill, client):
        figures = cost.clients.get(name)
        clients[name] = {
            **(plain(figures) if figures else {}),
            "cost": cost.cost(name),
            "state": _state(bill, name),
            "fee_needed": fee_needed(cost.recurring(name, cost.hours)),
            "projection": plain(found)
            if (found := projection(cost, name, bill.before.get(name, {})))
            else None,
        }
    return {
        "format": "fleetctl-cost",
        "format_version": "1.0",
        "month": cost.month,
        "closed": bill.sha256 or None,
        "currency": cost.currency,
        "timezone": cost.timezone,
        "hours": cost.hours,
        "counted": cost.counted,
        "leased": cost.leased,
        "total": cost.total,
        "bill_cents": bill_cents(cost.total),
        "clients": clients,
        "lines": [plain(line) for line in cost.lines if client in (None, line.client)],
        "cents": cents,
        "uncalibrated": list(cost.uncalibrated),
        "estimated": cost.estimated,
    }


def render_json(bill: Bill, client: str | None = None) -> str:
    """Return the document as text."""
    return write(document(bill, client))


def render_csv(bill: Bill, client: str | None = None) -> str:
    """Return a row a line, in cents: the amounts add up to the bill."""
    month, currency = bill.cost.month, bill.cost.currency
    rows: list[list[object]] = [["month", "client", "line", "reason", "amount", "currency"]]
    for (name, kind, reason), cents in to_cents(bill.cost.lines).items():
        if client in (None, name):
            amount = money(cents).replace(",", "")
            rows.append([month, name or "platform", kind.value, reason, amount, currency])
    return csv_text(rows)


def explanation(
    terms: Terms, hour: datetime, device: str, client: str, parts: tuple[Any, ...]
) -> str:
    """Return how the hour of a device was split, and the client's part, as sentences."""
    price, currency = terms.devices[device].price, terms.fleet.currency
    lines = [f"{device}, {hour:%Y-%m-%d %H}:00 UTC: {_exact(price)} {currency} leased."]
    for part in parts:
        if not isinstance(part, ServerHour):
            lines.append(f"The platform pays {_exact(part.micro)}: {part.kind}.")
            continue
        work: Mapping[Any, int] = part.work
        total = sum(work.values())
        busy = "its capacity is not known"
        if part.capacity:
            basis = "" if terms.servers[part.server].calibrated else ", uncalibrated"
            busy = f"{percent(min(1, total / part.capacity), 1)} busy{basis}"
        lines.append(f"{part.server}: {_exact(part.cost)} of it; {busy}.")
        its = sum(weight for (name, _), weight in work.items() if name == client)
        lines.append(f"  {client} did {its / 1e6:,.0f} of {total / 1e6:,.0f} units of work.")
        held = sum(weight for (name, _), weight in part.reserved.items() if name == client)
        if part.reserved:
            whole = sum(part.reserved.values())
            lines.append(
                f"  {percent(held / whole, 1)} of idle time is its, by `{terms.fleet.idle}`."
            )
        its_lines = [line for line in part.lines if line.client == client]
        shown = [f"{_exact(line.micro)} {line.kind}" for line in its_lines]
        lines.append(f"  {client} pays {' + '.join(shown) or '0'}.")
        lines += [
            f"  The platform pays {_exact(line.micro)} {line.kind}: {line.reason}."
            for line in part.lines
            if line.client == PLATFORM
        ]
    return "\n".join(lines) + "\n"


def _exact(amount: int) -> str:
    return f"{amount // 1_000_000:,}.{amount % 1_000_000:06}"


def promises(figures: ClientMonth) -> list[dict[str, Any]]:
    """Return the promise of every alias, and its hours; null where no p95 was promised."""
    found = []
    for alias in sorted({*map(alias_of, figures.versions), *figures.promises}):
        its = figures.promises.get(alias)
        known = (its.limit_ms / 1000, its.judged, its.kept) if its else (None, None, None)
        names = ("promise_s", "hours", "hours_kept")
        found.append({"alias": alias, **dict(zip(names, known, strict=True))})
    return found


def promise_table(found: list[dict[str, Any]]) -> ReportTable:
    """Return the promises of a client as a table."""
    rows = []
    for its in found:
        limit, hours, kept = (its[name] for name in ("promise_s", "hours", "hours_kept"))
        promised = "no promise" if limit is None else f"{limit:g} s"
        of_hours = f"{kept:,} of {hours:,}" if hours else "-"
        share = percent(kept / hours, 1) if hours else "not known"
        rows.append((its["alias"], promised, of_hours, share))
    heads = ("alias", "promised p95", "hours kept", "kept")
    return ReportTable("Promises, in hours with an answer", heads, tuple(rows))


def cost_documents(
    bill: Bill, client: str | None
) -> tuple[dict[str, Any], tuple[dict[str, Any], ...]]:
    """Return the report of a month, and its rounded lines in cents; of a client or of all."""
    return plain(report(bill, client)), tuple(document(bill, client)["cents"])


def client_costs(
    bill: Bill | None, before: MonthCost | None, names: Iterable[str]
) -> dict[str, dict[str, Any]]:
    """Return the cost of every client of a bill, and of `names`; their sum is the bill's.

    `before`: cost of the month before. `fee_cents` is with overage and corrections, null where no
    fee is declared. `state` is `ok`, `warning`, `alarm` or `no fee declared`, empty without a bill.
    `change_cents` is the cost beyond that of as many hours of the month before, corrections left
    out. What is not known is null.
    """
    found = {name: _client_cost(name) for name in names}
    if bill is not None:
        cents: Counter[str] = Counter()
        for (name, _, _), amount in to_cents(bill.cost.lines).items():
            cents[name] += amount
        for name in {*cents, *bill.cost.clients} - {PLATFORM}:
            found[name] = _client_cost(name, cents[name], bill, before)
    return dict(sorted(found.items()))


def _client_cost(
    name: str, cents: int | None = None, bill: Bill | None = None, before: MonthCost | None = None
) -> dict[str, Any]:
    if bill is None:
        fee, earned, share, state, moved = None, None, None, "", None
    else:
        its, cost = bill.cost.clients.get(name), bill.cost.cost(name)
        fee = its.fee if its else None
        earned = its.due_cents if its and fee is not None else None
        share = round(100 * cost / fee, 1) if fee else None
        state, moved = share_state(cost, fee).value, change_since(bill.cost, before, name)
    change, was = moved or (None, 0)
    return {
        "client": name,
        "cost_cents": cents,
        "fee_cents": earned,
        "of_fee_percent": share,
        "state": state,
        "change_cents": None if change is None else bill_cents(change),
        "change_percent": round(100 * change / was, 1) if change is not None and was else None,
    }


def cost_days(cost: MonthCost) -> tuple[dict[str, Any], ...]:
    """Return the cost of devices by day and client, in millionths; a null client is the platform.

    Days without recorded terms are left out. A day is 24 hours from the month's begin on; where
    clocks go back, the last has an hour more.
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
