"""What Prometheus reads: requests, tokens and times per client, alias and version."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from runtime.gateway.accounting import BOUNDS_S, Histogram, UsageCounters

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


def exposition(
    counters: UsageCounters,
    in_flight: list[dict[str, object]],
    split: list[dict[str, object]],
    servers: Mapping[str, bool],
    waiting: int,
) -> str:
    """Return the counters as Prometheus reads them.

    Args:
        counters: Of the gateway process.
        in_flight: As `InFlight.document` has it.
        split: As `ObservedSplit.document` has it.
        servers: Server to whether it is up.
        waiting: Requests that wait for their turn.
    """
    samples: dict[str, list[str]] = {name: [] for name in _HELP}
    for key, series in sorted(counters.series.items()):
        labels = _labels(zip(("client", "alias", "version"), key, strict=True))
        samples["fleetctl_requests_total"] += [
            f'fleetctl_requests_total{{{labels},status="{status}"}} {count}'
            for status, count in sorted(series.statuses.items())
        ]
        for name, value in (
            ("fleetctl_input_tokens_total", series.input_tokens),
            ("fleetctl_output_tokens_total", series.output_tokens),
        ):
            samples[name].append(f"{name}{{{labels}}} {value}")
        for name, histogram in (
            ("fleetctl_request_seconds", series.latency),
            ("fleetctl_first_byte_seconds", series.first_byte),
        ):
            samples[name] += _histogram(name, labels, histogram)
    for entry in in_flight:
        labels = _labels((name, str(entry[name])) for name in ("server", "adapter"))
        samples["fleetctl_in_flight"].append(f"fleetctl_in_flight{{{labels}}} {entry['count']}")
    samples["fleetctl_waiting"].append(f"fleetctl_waiting {waiting}")
    for entry in split:
        labels = _labels((name, str(entry[name])) for name in ("alias", "adapter"))
        for name, field in (("target_percent", "percent"), ("split_requests", "requests")):
            samples[f"fleetctl_{name}"].append(f"fleetctl_{name}{{{labels}}} {entry[field]}")
    samples["fleetctl_server_up"] += [
        f"fleetctl_server_up{{{_labels([('server', name)])}}} {int(up)}"
        for name, up in sorted(servers.items())
    ]
    samples["fleetctl_other_requests_total"] += [
        f'fleetctl_other_requests_total{{purpose="{purpose}",status="{status}"}} {count}'
        for (purpose, status), count in sorted(counters.others.items())
    ]
    return "".join(_family(name, lines) for name, lines in samples.items())


def _histogram(name: str, labels: str, histogram: Histogram) -> Iterator[str]:
    """Yield the samples of a histogram, buckets cumulated."""
    running = 0
    for bound, count in zip((*BOUNDS_S, "+Inf"), histogram.counts, strict=True):
        running += count
        yield f'{name}_bucket{{{labels},le="{bound}"}} {running}'
    yield f"{name}_sum{{{labels}}} {histogram.total!r}"
    yield f"{name}_count{{{labels}}} {running}"


def _family(name: str, lines: list[str]) -> str:
    kind, text = _HELP[name]
    return "\n".join([f"# HELP {name} {text}", f"# TYPE {name} {kind}", *lines, ""])


def _labels(pairs: Iterable[tuple[str, str]]) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in pairs)


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
