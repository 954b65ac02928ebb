"""Sums up months: hours, promises kept, corrections of closed months; rounds once, to cents."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain, pairwise
from typing import Final, NamedTuple, TypeAlias

from fleet.costing.hours import (
    HOUR,
    CostLine,
    HourLine,
    HourSplitter,
    LineKind,
    ServerHour,
    WorkCell,
    WorkNames,
)
from fleet.costing.terms import ClientTerms, Terms
from fleet.history import Entry, RolledBack
from fleet.names import client_of
from fleet.policies import MICRO


@dataclass(frozen=True, slots=True)
class PromiseHours:
    """A promised p95, and the hours of a kept promise."""

    limit_ms: int
    """As last promised."""
    judged: int
    """Hours with a promise and an answer."""
    kept: int
    """Of these the hours whose p95 is within the promise of the hour."""


class PromisedSpan(NamedTuple):
    """Hours on end with the same promise of an alias."""

    alias: str
    limit_ms: int
    begin: datetime
    end: datetime


def promised_spans(hours: Iterable[tuple[datetime, Terms]]) -> Iterator[PromisedSpan]:
    """Yield the spans of promises, those of an alias in the order of time."""
    begun: dict[tuple[str, int], datetime] = {}
    last, end = None, None
    for hour, terms in hours:
        if terms is not last:
            promised = [client.promises.items() for client in terms.clients.values()]
            now = dict.fromkeys((promise for promises in promised for promise in promises), hour)
            for promise in [*begun]:
                if promise not in now:
                    yield PromisedSpan(*promise, begun.pop(promise), hour)
            begun = {**now, **begun}
        last, end = terms, hour + HOUR
    for promise, begin in begun.items():
        if end is not None:
            yield PromisedSpan(*promise, begin, end)


def promise_hours(
    spans: Iterable[PromisedSpan], judge: Callable[[PromisedSpan], tuple[int, int]]
) -> Mapping[str, Mapping[str, PromiseHours]]:
    """Return the hours of promises by client and alias.

    `judge`: the hours of a span with answers, and those whose p95 is within the promise.
    """
    by_client: dict[str, dict[str, PromiseHours]] = {}
    for span in spans:
        judged, good = judge(span)
        hours = by_client.setdefault(client_of(span.alias), {})
        before = hours.get(span.alias, PromiseHours(0, 0, 0))
        hours[span.alias] = PromiseHours(span.limit_ms, before.judged + judged, before.kept + good)
    return by_client


GIB: Final = 1 << 30
CENT: Final = MICRO // 100
DAY_HOURS: Final = 24
HourUsage: TypeAlias = Iterable[WorkCell] | None
"""The cells of an hour; None: a gateway's log of the hour was not read."""


@dataclass(frozen=True, slots=True)
class ClientMonth:
    """The fee and the usage of a client in the counted hours of a month."""

    fee: int | None
    """The part of the fee for the counted hours; None: no fee was declared."""
    overage: int
    """Price of the tokens beyond those that the fee covers."""
    requests: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    included: int
    """Tokens that the fee covers, for the counted hours; 0: no overage is declared."""
    versions: Mapping[str, int] = field(default_factory=dict)
    """Requests by version, sorted."""
    evaluations: int = 0
    """Evaluations among the requests; 0 where the client does not pay for them."""
    corrections: Mapping[str, int] = field(default_factory=dict)
    """Change of the overage of closed months by late rows, by month; due in this one."""
    promises: Mapping[str, PromiseHours] = field(default_factory=dict)
    """The promised p95 by alias, with the hours of a kept promise."""

    @property
    def due_cents(self) -> int:
        """The sum that the client owes: fee, overage and corrections, all in whole cents."""
        amounts = (self.fee or 0, self.overage, *self.corrections.values())
        return sum(map(bill_cents, amounts))


@dataclass(frozen=True, slots=True)
class MonthCost:
    """The cost of a month as far as its hours are counted; amounts are millionths."""

    month: str
    currency: str
    timezone: str
    hours: int
    """Hours of the whole month."""
    counted: int
    """Hours with recorded terms, up to the last full hour."""
    elapsed: int
    """Hours of the month up to the last full hour."""
    leased: int
    """Sum of the leases of devices."""
    lines: tuple[CostLine, ...]
    """Sorted; they add up to leases, storage and staff."""
    clients: Mapping[str, ClientMonth]
    uncalibrated: tuple[str, ...] = ()
    """Servers whose capacity was estimated or is not known."""
    estimated: int = 0
    """Requests whose tokens were taken from the mean of others."""
    daily: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """By client: cost of devices by day from the month's begin, numbered from 0."""

    @property
    def total(self) -> int:
        """Sum of all lines."""
        return sum(line.micro for line in self.lines)

    def cost(self, client: str) -> int:
        """Return the cost of a client, or of `PLATFORM`."""
        return sum(line.micro for line in self.lines if line.client == client)

    def recurring(self, client: str, hours: int) -> int:
        """Return the cost of a client for as many hours as if the month went on so.

        Corrections are due once, and left out.
        """
        lines = (line for line in self.lines if line.client == client)
        counted = sum(line.micro for line in lines if line.kind is not LineKind.CORRECTION)
        return counted * hours // self.counted


@dataclass(frozen=True, slots=True)
class Corrections:
    """The changes of closed months by late rows, which the open month takes up."""

    lines: tuple[CostLine, ...] = ()
    overage: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Change of the overage by client and closed month."""


_Counts: TypeAlias = dict[WorkNames, list[int]]
"""Requests, and tokens in, out and from a cache."""


@dataclass(slots=True)
class _Sums:
    """The sums of a month while hours are counted."""

    days: dict[tuple[int, str, str], Counter[tuple[str, LineKind]]] = field(
        default_factory=lambda: defaultdict(Counter)
    )
    """Amounts by day, device and reason; by client and kind."""
    monthly: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Amounts for a whole month, added up over its hours."""
    hours_with_fee: Counter[str] = field(default_factory=Counter)
    counts: dict[str, dict[str, list[int]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(lambda: [0] * 5))
    )
    """By client and version: requests, tokens in, out and from a cache, evaluations."""
    uncalibrated: set[str] = field(default_factory=set)
    estimated: int = 0
    counted: int = 0
    elapsed: int = 0


def month_cost(
    month: str,
    begin: datetime,
    end: datetime,
    hours: Iterable[tuple[datetime, Terms, HourUsage]],
    worked: Mapping[str, int] | None = None,
    corrected: Corrections | None = None,
) -> MonthCost | None:
    """Return the cost of a month of `hours`; None: no hour has terms.

    `begin`, `end`: of the month, UTC. `worked`: by client, thousandths of staff hours of the month,
    where they were imported; they replace the declared hours.
    """
    sums, terms, splitter = _Sums(), None, None
    clients: dict[str, ClientTerms] = {}  # as last recorded, those that have left too
    spans: list[tuple[Terms, int, _Counts]] = []
    for hour, terms, usage in hours:
        if splitter is None or splitter.terms is not terms:
            splitter = HourSplitter(terms)
            clients |= terms.clients
            spans.append((terms, sums.counted, defaultdict(lambda: [0] * 4)))
        place = int((hour - begin) / HOUR)
        sums.elapsed = place + 1
        _add_hour(sums, splitter, hour, usage, place // DAY_HOURS, spans[-1][2])
    if terms is None:
        return None
    for (span_terms, first, counts), (_, following, _) in pairwise(
        (*spans, (terms, sums.counted, {}))
    ):
        _add_terms(sums, span_terms, following - first)
        _add_counts(sums, span_terms, counts)
    whole = int((end - begin) / HOUR)
    amounts: Counter[tuple[str, LineKind, str, str]] = Counter()
    daily: dict[str, Counter[str]] = defaultdict(Counter)
    for (day, device, reason), of_day in sums.days.items():
        for (client, kind), amount in of_day.items():
            amounts[client, kind, device, reason] += amount
            daily[client][str(day)] += amount
    lines = [CostLine(*key[:3], amount, key[3]) for key, amount in amounts.items() if amount]
    worked = {name: hours for name, hours in (worked or {}).items() if name in clients}
    for client in sorted({name for name, _ in sums.monthly} | worked.keys()):
        staff = sums.monthly[client, "staff"] // whole
        if client in worked:
            staff = worked[client] * clients[client].staff_rate // 1000
        storage = sums.monthly[client, "storage"] // (GIB * whole)
        lines += [
            CostLine(client, kind, "", amount)
            for kind, amount in ((LineKind.STORAGE, storage), (LineKind.STAFF, staff))
            if amount
        ]
    corrected = corrected or Corrections()
    lines.extend(corrected.lines)
    return MonthCost(
        month, terms.fleet.currency, terms.fleet.timezone, whole, sums.counted, sums.elapsed,
        amounts.total(),
        tuple(sorted(lines, key=lambda line: (line.client, line.kind, line.device, line.reason))),
        dict(_clients(sums, clients, whole, corrected.overage)),
        tuple(sorted(sums.uncalibrated)), sums.estimated,
        {client: dict(sorted(days.items())) for client, days in sorted(daily.items())},
    )  # fmt: skip


def _add_terms(sums: _Sums, terms: Terms, hours: int) -> None:
    for name, client in terms.clients.items():
        sums.monthly[name, "staff"] += client.staff * hours
        sums.monthly[name, "storage"] += client.storage_bytes * terms.fleet.storage * hours
        sums.monthly[name, "included"] += (client.included if client.overage else 0) * hours
        if client.fee is not None:
            sums.hours_with_fee[name] += hours
            sums.monthly[name, "fee"] += client.fee * hours


def _add_counts(sums: _Sums, terms: Terms, counts: _Counts) -> None:
    """Add live requests by client and version, and the evaluations that the client pays for."""
    for names, numbers in counts.items():
        client = terms.clients.get(names.payer)
        is_eval = names.purpose == "eval"
        if names.purpose == "live" or (is_eval and client and client.bill_evals):
            version_counts = sums.counts[names.payer][names.version]
            for place, number in enumerate((*numbers, numbers[0] * is_eval)):
                version_counts[place] += number


def _add_hour(
    sums: _Sums, splitter: HourSplitter, hour: datetime, usage: HourUsage, day: int, counts: _Counts
) -> None:
    terms, cells = splitter.terms, None if usage is None else list(usage)
    sums.counted += 1
    for part in chain.from_iterable(splitter.split(hour, cells).values()):
        line = part
        if isinstance(part, ServerHour):
            sums.estimated += part.estimated
            if not terms.servers[part.server].calibrated:
                sums.uncalibrated.add(part.server)
            of_day, line = sums.days[day, part.device, ""], part.rest
            for key, micro in part.shares.items():
                of_day[key] += micro
        if isinstance(line, HourLine):
            sums.days[day, line.device, line.reason][line.client, line.kind] += line.micro
    for names, requests, prompt, output, cached, *_ in cells or ():
        sums_of = counts[names]
        sums_of[0] += requests
        sums_of[1] += prompt
        sums_of[2] += output
        sums_of[3] += cached


def _clients(
    sums: _Sums,
    terms_by_client: Mapping[str, ClientTerms],
    whole: int,
    corrected: Mapping[str, Mapping[str, int]],
) -> Iterator[tuple[str, ClientMonth]]:
    for name in sorted({client for client, _ in sums.monthly} | corrected.keys()):
        client_terms, by_version = terms_by_client.get(name), sums.counts[name]
        requests, tokens_in, tokens_out, cached, evaluations = (
            sum(counts[place] for counts in by_version.values()) for place in range(5)
        )
        included = sums.monthly[name, "included"] // whole
        beyond = max(tokens_in + tokens_out - included, 0)
        yield name, ClientMonth(
            sums.monthly[name, "fee"] // whole if sums.hours_with_fee[name] else None,
            beyond * client_terms.overage // MICRO if client_terms else 0,
            requests, tokens_in, tokens_out, cached, included,
            {version: counts[0] for version, counts in sorted(by_version.items()) if version},
            evaluations, corrected.get(name, {}),
        )  # fmt: skip


def rollback_seconds(
    entries: Iterable[Entry], begin: datetime, end: datetime
) -> dict[str, tuple[float, ...]]:
    """Return the seconds of rollbacks by client; entries for several versions are one rollback."""
    once = {
        (event.alias, event.decided or str(entry.time)): event.seconds
        for entry in entries
        if begin <= entry.time < end
        and isinstance(event := entry.event, RolledBack)
        and not event.forward
    }
    by_client: dict[str, tuple[float, ...]] = {}
    for (alias, _), seconds in once.items():
        by_client[client_of(alias)] = (*by_client.get(client_of(alias), ()), seconds)
    return by_client


def to_cents(lines: Iterable[CostLine]) -> dict[tuple[str, LineKind, str], int]:
    """Return the lines by client, kind and reason in whole cents.

    Rounded once, by the largest remainder: the cents of all lines are the bill's, to the cent.
    """
    sums: Counter[tuple[str, LineKind, str]] = Counter()
    for line in lines:
        sums[line.client, line.kind, line.reason] += line.micro
    cents = {key: amount // CENT for key, amount in sums.items()}
    remainder = bill_cents(sum(sums.values())) - sum(cents.values())
    for key in sorted(sums, key=lambda key: (-(sums[key] % CENT), key))[:remainder]:
        cents[key] += 1
    return dict(sorted(cents.items()))


def bill_cents(micro: int) -> int:
    """Return an amount in cents, half a cent up."""
    return (micro + CENT // 2) // CENT


def due_corrections(
    closed: Mapping[str, MonthCost], recounted: Mapping[str, MonthCost]
) -> Corrections:
    """Return the changes by a recount of closed months, beyond the corrections in their files.

    `closed`: all closed months as their files have them; `recounted`: some of them, from all rows.
    """
    lines: list[CostLine] = []
    overage: dict[str, dict[str, int]] = {}
    for month, recount in recounted.items():
        due: Counter[str] = Counter()
        charged: Counter[str] = Counter()
        for line in recount.lines:
            due[line.client] += line.micro
        for client, figures in recount.clients.items():
            charged[client] += figures.overage
        for other, cost in closed.items():
            for line in cost.lines:
                is_correction = line.kind is LineKind.CORRECTION
                if line.reason == month if is_correction else other == month:
                    due[line.client] -= line.micro
            for client, figures in cost.clients.items():
                earlier = figures.corrections.get(month, 0)
                charged[client] -= figures.overage if other == month else earlier
        lines += [
            CostLine(client, LineKind.CORRECTION, "", amount, month)
            for client, amount in sorted(due.items())
            if amount
        ]
        for client, amount in sorted(charged.items()):
            if amount:
                overage.setdefault(client, {})[month] = amount
    return Corrections(tuple(lines), overage)
