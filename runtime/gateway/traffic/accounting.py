"""Usage rows on their way: into the log, into the counters, and the observed split from these.

One call writes a row and counts it, so that both differ by requests alone that no server had.
"""

import time
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from itertools import accumulate
from typing import Final

import msgspec

from fleet.traffic import LATENCY_BOUNDS_S
from runtime.gateway.body import errors
from runtime.gateway.table.routing import RouteTable
from runtime.usage.log import UsageLog
from runtime.usage.row import COUNTING, LIVE, UsageRow

ROWS_AN_HOUR: Final = 1000
"""Upper bound of the rows of a client's requests that no server had, by hour: half a megabyte."""
_HOUR_S: Final = 3600.0


@dataclass(slots=True)
class RefusalQuota:
    """The rows of requests that no server had: none without a valid key, few an hour with one."""

    clock: Callable[[], float] = time.monotonic
    """Unit: seconds."""
    unlogged: Counter[tuple[str, int]] = field(default_factory=Counter)
    """Requests without a row, by client and status; without a valid key, client ''."""
    _rows: Counter[str] = field(default_factory=Counter)
    """Rows since `_began`, by client."""
    _began: float = 0.0

    def leaves_row(self, row: UsageRow) -> bool:
        """Return whether a request is in the log: all but what no server had beyond the quota.

        Without end: what a server had, what found no server for its version (gates and alerts
        count these errors), and requests of the operator.
        """
        client, status = row.client, row.status
        has_met_servers = row.server or (row.version and status >= HTTPStatus.INTERNAL_SERVER_ERROR)
        is_answer = status < HTTPStatus.BAD_REQUEST
        if has_met_servers or is_answer or row.purpose not in {LIVE, COUNTING}:
            return True
        if (now := self.clock()) - self._began >= _HOUR_S:
            self._began, self._rows = now, Counter()
        self._rows[client] += 1
        if client and self._rows[client] <= ROWS_AN_HOUR:
            return True
        self.unlogged[client, status] += 1
        return False

    def by_client(self) -> dict[str, int]:
        """Return the number of requests without a row."""
        counts: Counter[str] = Counter()
        for (client, _), count in self.unlogged.items():
            counts[client] += count
        return dict(sorted(counts.items()))


KEPT_S: Final = 3600.0
"""How long the series of a version stays after the version left the table, in seconds."""
_ERRORS_FROM: Final = int(HTTPStatus.BAD_REQUEST)
_ROW: Final = msgspec.json.Encoder()
_ESCAPES: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
FAMILIES: Final = {
    "fleetctl_requests_total": ("counter", "Requests, by status as sent to the client."),
    "fleetctl_input_tokens_total": ("counter", "Prompt tokens as the servers reported them."),
    "fleetctl_cached_tokens_total": ("counter", "Prompt tokens that the servers had in a cache."),
    "fleetctl_output_tokens_total": ("counter", "Generated tokens, of aborted streams too."),
    "fleetctl_request_seconds": ("histogram", "From the request's head to the answer's end."),
    "fleetctl_first_byte_seconds": ("histogram", "From the request's head to the first byte."),
    "fleetctl_waited_seconds_total": ("counter", "Time that requests waited for their turn."),
    "fleetctl_in_flight": ("gauge", "Requests in flight, by server and version."),
    "fleetctl_waiting": ("gauge", "Requests that wait for their turn."),
    "fleetctl_target_percent": ("gauge", "Share that a version should have, while there are two."),
    "fleetctl_split_requests": ("gauge", "Requests of a version since the split last changed."),
    "fleetctl_server_up": ("gauge", "1 for a server that is asked like any other, 0 if it rests."),
    "fleetctl_unlogged_requests_total": ("counter", "Refused or left, without a usage row."),
    "fleetctl_other_requests_total": (
        "counter",
        "Requests that no series has, by purpose and status.",
    ),
}


@dataclass(slots=True)
class Histogram:
    """Counts per bucket, whose upper bounds never change, and their sum."""

    bounds_s: tuple[float, ...]
    counts: list[int] = field(init=False)
    total: float = 0.0

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds_s) + 1)

    def add(self, seconds: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds_s, seconds)] += 1
        self.total += seconds


@dataclass(slots=True)
class Series:
    """The counts of a client, alias and version."""

    latency: Histogram
    first_byte: Histogram
    statuses: defaultdict[int, int] = field(default_factory=lambda: defaultdict(int))
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    waited_s: float = 0.0


@dataclass(slots=True)
class UsageCounters:
    """Requests, tokens and times since the gateway process started."""

    series: dict[tuple[str, str, str], Series] = field(default_factory=dict)
    """By client, alias and version; an unknown name is empty."""
    _left: dict[tuple[str, str, str], float] = field(default_factory=dict)
    """When the versions of series were found to be served no longer."""
    others: Counter[tuple[str, int]] = field(default_factory=Counter)
    """Requests that are not live, by purpose and status; no series counts them."""
    refusals: RefusalQuota = field(default_factory=RefusalQuota)
    _bounds_s: tuple[float, ...] = LATENCY_BOUNDS_S

    def use_bounds(self, bounds_s: tuple[float, ...]) -> None:
        """Use these bounds of buckets; if they are others, all histograms begin again at 0."""
        if bounds_s == self._bounds_s:
            return
        self._bounds_s = bounds_s
        for series in [*self.series.values()]:  # a copy: another thread may drop some meanwhile
            series.latency, series.first_byte = Histogram(bounds_s), Histogram(bounds_s)

    def count(self, row: UsageRow) -> None:
        """Count a row."""
        if row.purpose != LIVE:
            self.others[row.purpose, row.status] += 1
            return
        labels = (row.client, row.alias, row.version)
        series = self.series.get(labels)
        if series is None:
            bounds_s = self._bounds_s
            series = self.series[labels] = Series(Histogram(bounds_s), Histogram(bounds_s))
        series.statuses[row.status] += 1
        series.latency.add(row.latency_s)
        if row.first_byte_s is not None:
            series.first_byte.add(row.first_byte_s)
        series.input_tokens += row.input_tokens or 0
        series.output_tokens += row.output_tokens or 0
        if row.cached_tokens:
            series.cached_tokens += row.cached_tokens
        if row.waited_s:
            series.waited_s += row.waited_s

    def expire(self, table: RouteTable, now: float) -> None:
        """Drop series of versions that left the table `KEPT_S` ago; `now` in seconds."""
        routes = table.routes.items()
        served = {("", ""), *((alias, "") for alias in table.routes)}
        served |= {(alias, arm.target.adapter) for alias, route in routes for arm in route.arms}
        # A copy: the event loop may count meanwhile.
        for labels in [*self.series]:
            if labels[1:] in served:
                self._left.pop(labels, None)
            elif now - self._left.setdefault(labels, now) >= KEPT_S:
                del self.series[labels], self._left[labels]


@dataclass(slots=True)
class UsageWriter:
    """The rows of a gateway process, every row written and counted once.

    Batching writes the rows of one turn of the event loop by one system call, before anything of
    that turn is sent.
    """

    _log: UsageLog
    _counters: UsageCounters
    _schedule_flush: Callable[[], None] | None = None
    pending: list[UsageRow] = field(default_factory=list)
    """Rows of this turn of the event loop, not written yet."""

    def start_batching(self, schedule_flush: Callable[[], None]) -> None:
        """Keep rows until `flush`, which `schedule_flush` brings about in the same turn."""
        self._schedule_flush = schedule_flush

    def add(self, row: UsageRow) -> None:
        """Take a complete row; as `flush` where rows are not batched."""
        if not self._counters.refusals.leaves_row(row):
            self._counters.count(row)
        elif self._schedule_flush is None:
            self._write([row])
        else:
            if not self.pending:
                self._schedule_flush()
            self.pending.append(row)

    def flush(self) -> None:
        """Write the pending rows, or raise 503: then none of their requests must be answered."""
        if self.pending:
            rows, self.pending = self.pending, []
            self._write(rows)

    def stop_batching(self) -> None:
        """Write the pending rows, as `flush`, and later rows at once."""
        self._schedule_flush = None
        self.flush()

    def _write(self, rows: list[UsageRow]) -> None:
        try:
            self._log.append(b"\n".join(map(_ROW.encode, rows)))
        except OSError:
            if all(row.status >= _ERRORS_FROM for row in rows):
                return  # an error may be told without a row
            raise errors.usage_log_down() from None
        for row in rows:
            self._counters.count(row)


@dataclass(slots=True)
class ObservedSplit:
    """Requests per version since the split of an alias last changed, from the counters."""

    _counters: UsageCounters
    _began: dict[str, tuple[datetime, Counter[str]]] = field(default_factory=dict)
    """By alias: the begin of its split, and the counts of that moment."""

    def restart(self, before: RouteTable, after: RouteTable) -> None:
        """Begin again for every alias whose split differs between two tables."""
        now = datetime.now(UTC)
        changed = {
            alias
            for alias, route in after.routes.items()
            if alias not in before.routes or before.routes[alias].split != route.split
        }
        counts = self._counts(changed)
        began = {alias: start for alias, start in self._began.items() if alias in after.routes}
        self._began = began | {alias: (now, counts[alias]) for alias in changed}

    def document(self, table: RouteTable) -> list[dict[str, object]]:
        """Return percent and requests of all versions of aliases that have several versions."""
        routes = {alias: route for alias, route in table.routes.items() if len(route.arms) > 1}
        counts = self._counts(set(routes))
        rows: list[dict[str, object]] = []
        for alias in sorted(routes):
            since, before = self._began.get(alias, (datetime.now(UTC), Counter()))
            now = counts[alias]
            rows += [
                {
                    "alias": alias,
                    "adapter": (adapter := arm.target.adapter),
                    "percent": arm.percent,
                    "requests": now[adapter] - before[adapter],
                    "since": since.isoformat(timespec="seconds"),
                }
                for arm in routes[alias].arms
            ]
        return rows

    def _counts(self, aliases: set[str]) -> dict[str, Counter[str]]:
        counts: dict[str, Counter[str]] = {alias: Counter() for alias in aliases}
        # A copy: the event loop may count meanwhile.
        for (_, alias, version), series in [*self._counters.series.items()]:
            if alias in counts:
                counts[alias][version] += sum(series.statuses.values())
        return counts


def exposition(
    counters: UsageCounters,
    in_flight: Mapping[tuple[str, str], int],
    split: list[dict[str, object]],
    servers: Mapping[str, bool],
    waiting: int,
) -> str:
    """Return the counters as Prometheus reads them; `split` as `ObservedSplit.document` has it."""
    samples: dict[str, list[str]] = {name: [] for name in FAMILIES}

    def add(family: str, labels: str, value: object) -> None:
        samples[family].append(f"{family}{{{labels}}} {value!r}")

    for (client, alias, version), series in sorted(counters.series.items()):
        labels = labelled(client=client, alias=alias, version=version)
        for status, count in sorted(series.statuses.items()):
            add("fleetctl_requests_total", f'{labels},status="{status}"', count)
        add("fleetctl_input_tokens_total", labels, series.input_tokens)
        add("fleetctl_cached_tokens_total", labels, series.cached_tokens)
        add("fleetctl_output_tokens_total", labels, series.output_tokens)
        add("fleetctl_waited_seconds_total", labels, series.waited_s)
        for family, histogram in (
            ("fleetctl_request_seconds", series.latency),
            ("fleetctl_first_byte_seconds", series.first_byte),
        ):
            samples[family] += _histogram(family, labels, histogram)
    for (server, adapter), count in sorted(in_flight.items()):
        add("fleetctl_in_flight", labelled(server=server, adapter=adapter), count)
    samples["fleetctl_waiting"].append(f"fleetctl_waiting {waiting}")
    for share in split:
        labels = labelled(alias=str(share["alias"]), adapter=str(share["adapter"]))
        add("fleetctl_target_percent", labels, share["percent"])
        add("fleetctl_split_requests", labels, share["requests"])
    for server, is_up in sorted(servers.items()):
        add("fleetctl_server_up", labelled(server=server), int(is_up))
    for (purpose, status), count in sorted(counters.others.items()):
        add("fleetctl_other_requests_total", f'purpose="{purpose}",status="{status}"', count)
    for (client, status), count in sorted(counters.refusals.unlogged.items()):
        labels = labelled(client=client, status=str(status))
        add("fleetctl_unlogged_requests_total", labels, count)
    return in_families(FAMILIES, samples)


def in_families(
    families: Mapping[str, tuple[str, str]], samples: Mapping[str, Sequence[str]]
) -> str:
    """Return samples as Prometheus reads them; `families`: kind and help by name, in order."""
    lines: list[str] = []
    for family, (kind, text) in families.items():
        lines += [f"# HELP {family} {text}", f"# TYPE {family} {kind}", *samples[family]]
    return "\n".join(lines) + "\n"


def _histogram(family: str, labels: str, histogram: Histogram) -> Iterator[str]:
    """Yield the samples of a histogram, buckets cumulated."""
    cumulated = [*accumulate(histogram.counts)]
    for bound, count in zip((*histogram.bounds_s, "+Inf"), cumulated, strict=True):
        yield f'{family}_bucket{{{labels},le="{bound}"}} {count}'
    yield f"{family}_sum{{{labels}}} {histogram.total!r}"
    yield f"{family}_count{{{labels}}} {cumulated[-1]}"


def labelled(**labels: str) -> str:
    """Return labels with their values as they stand in a sample."""
    return ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in labels.items())
