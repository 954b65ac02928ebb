"""What Prometheus reads: requests, tokens and times per client, alias and version.

Counted from the same call that writes the usage row, so that the two cannot differ.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

Labels = tuple[str, str, str]
"""Client, alias and version; what was not found out is empty."""

BOUNDS: Final = (
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0,
)  # fmt: skip
"""Upper bounds of the buckets, seconds; a last one holds the rest."""
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_HELP: Final = {
    "fleetctl_requests_total": ("counter", "Requests, by status as sent to the client."),
    "fleetctl_input_tokens_total": ("counter", "Prompt tokens as the servers reported them."),
    "fleetctl_output_tokens_total": ("counter", "Generated tokens, of aborted streams too."),
    "fleetctl_request_seconds": ("histogram", "From the request's head to the answer's end."),
    "fleetctl_first_byte_seconds": ("histogram", "From the request's head to the first byte."),
    "fleetctl_in_flight": ("gauge", "Requests in flight, by server and version."),
    "fleetctl_waiting": ("gauge", "Requests that wait for their turn."),
    "fleetctl_target_percent": ("gauge", "Share that a version should have, while there are two."),
    "fleetctl_split_requests": ("gauge", "Requests of a version since the split last changed."),
    "fleetctl_server_up": ("gauge", "1 for a server that is asked like any other, 0 if it rests."),
    "fleetctl_other_requests_total": ("counter", "Requests of no client, by purpose and status."),
}


class Histogram:
    """Counts per bucket, and their sum."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        """Count one value."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds

    def lines(self, name: str, labels: str) -> Iterator[str]:
        """Give the samples as Prometheus reads them, buckets cumulated."""
        running = 0
        for bound, count in zip((*BOUNDS, "+Inf"), self.counts, strict=True):
            running += count
            yield f'{name}_bucket{{{labels},le="{bound}"}} {running}'
        yield f"{name}_sum{{{labels}}} {self.total!r}"
        yield f"{name}_count{{{labels}}} {running}"


class Series:
    """All that is counted for one set of labels."""

    __slots__ = ("first_byte", "input_tokens", "latency", "output_tokens", "statuses")

    def __init__(self) -> None:
        self.statuses: Counter[int] = Counter()
        self.input_tokens = 0
        self.output_tokens = 0
        self.latency = Histogram()
        self.first_byte = Histogram()


@dataclass(slots=True)
class Metrics:
    """The counters of one gateway process, since it started."""

    series: dict[Labels, Series] = field(default_factory=dict)
    others: Counter[tuple[str, int]] = field(default_factory=Counter)
    """Requests that no client made, by purpose and status."""

    def count_other(self, purpose: str, status: int) -> None:
        """Count one request that no client made: it is in none of the clients' figures."""
        self.others[purpose, status] += 1

    def count(
        self,
        labels: Labels,
        status: int,
        latency_s: float,
        first_byte_s: float | None,
        input_tokens: int | None,
        output_tokens: int | None,
    ) -> None:
        """Count one request."""
        found = self.series.get(labels)
        if found is None:
            found = self.series[labels] = Series()
        found.statuses[status] += 1
        found.latency.add(latency_s)
        if first_byte_s is not None:
            found.first_byte.add(first_byte_s)
        found.input_tokens += input_tokens or 0
        found.output_tokens += output_tokens or 0

    def text(
        self,
        in_flight: list[dict[str, object]],
        shares: list[dict[str, object]],
        servers: Mapping[str, bool],
        waiting: int,
    ) -> str:
        """Return the exposition.

        Args:
            in_flight: As the in-flight counters show themselves.
            shares: As the split shows itself.
            servers: Whether each is up.
            waiting: Requests that wait for their turn.
        """
        samples: dict[str, list[str]] = {name: [] for name in _HELP}
        for key, each in sorted(self.series.items()):
            labels = _labels(zip(("client", "alias", "version"), key, strict=True))
            samples["fleetctl_requests_total"] += [
                f'fleetctl_requests_total{{{labels},status="{status}"}} {count}'
                for status, count in sorted(each.statuses.items())
            ]
            for name, value in (
                ("fleetctl_input_tokens_total", each.input_tokens),
                ("fleetctl_output_tokens_total", each.output_tokens),
            ):
                samples[name].append(f"{name}{{{labels}}} {value}")
            for name, histogram in (
                ("fleetctl_request_seconds", each.latency),
                ("fleetctl_first_byte_seconds", each.first_byte),
            ):
                samples[name] += histogram.lines(name, labels)
        for entry in in_flight:
            labels = _labels((name, str(entry[name])) for name in ("server", "adapter"))
            samples["fleetctl_in_flight"].append(f"fleetctl_in_flight{{{labels}}} {entry['count']}")
        samples["fleetctl_waiting"].append(f"fleetctl_waiting {waiting}")
        for entry in shares:
            labels = _labels((name, str(entry[name])) for name in ("alias", "adapter"))
            for name, of in (("target_percent", "percent"), ("split_requests", "requests")):
                samples[f"fleetctl_{name}"].append(f"fleetctl_{name}{{{labels}}} {entry[of]}")
        samples["fleetctl_server_up"] += [
            f"fleetctl_server_up{{{_labels([('server', name)])}}} {int(up)}"
            for name, up in sorted(servers.items())
        ]
        samples["fleetctl_other_requests_total"] += [
            f'fleetctl_other_requests_total{{purpose="{purpose}",status="{status}"}} {count}'
            for (purpose, status), count in sorted(self.others.items())
        ]
        return "".join(_family(name, lines) for name, lines in samples.items())


def _family(name: str, lines: list[str]) -> str:
    kind, text = _HELP[name]
    return "\n".join([f"# HELP {name} {text}", f"# TYPE {name} {kind}", *lines, ""])


def _labels(pairs: Iterable[tuple[str, str]]) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in pairs)


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
