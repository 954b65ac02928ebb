"""Metrics for Prometheus: requests, tokens and times per client, alias and version."""

from collections.abc import Iterator, Mapping
from itertools import accumulate
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
    in_flight: Mapping[tuple[str, str], int],
    split: list[dict[str, object]],
    servers: Mapping[str, bool],
    waiting: int,
) -> str:
    """Return the counters as Prometheus reads them.

    Args:
        counters: Counters of the gateway process.
        in_flight: Requests in flight by server and version.
        split: As `ObservedSplit.document` has it.
        servers: Whether servers are up, by name.
        waiting: Requests that wait for their turn.
    """
    samples: dict[str, list[str]] = {name: [] for name in _HELP}

    def add(family: str, labels: str, value: object) -> None:
        samples[family].append(f"{family}{{{labels}}} {value!r}")

    for (client, alias, version), series in sorted(counters.series.items()):
        labels = _labels(client=client, alias=alias, version=version)
        for status, count in sorted(series.statuses.items()):
            add("fleetctl_requests_total", f'{labels},status="{status}"', count)
        add("fleetctl_input_tokens_total", labels, series.input_tokens)
        add("fleetctl_output_tokens_total", labels, series.output_tokens)
        for family, histogram in (
            ("fleetctl_request_seconds", series.latency),
            ("fleetctl_first_byte_seconds", series.first_byte),
        ):
            samples[family] += _histogram(family, labels, histogram)
    for (server, adapter), count in sorted(in_flight.items()):
        add("fleetctl_in_flight", _labels(server=server, adapter=adapter), count)
    samples["fleetctl_waiting"].append(f"fleetctl_waiting {waiting}")
    for share in split:
        labels = _labels(alias=str(share["alias"]), adapter=str(share["adapter"]))
        add("fleetctl_target_percent", labels, share["percent"])
        add("fleetctl_split_requests", labels, share["requests"])
    for server, is_up in sorted(servers.items()):
        add("fleetctl_server_up", _labels(server=server), int(is_up))
    for (purpose, status), count in sorted(counters.others.items()):
        add("fleetctl_other_requests_total", f'purpose="{purpose}",status="{status}"', count)
    lines: list[str] = []
    for family, (kind, text) in _HELP.items():
        lines += [f"# HELP {family} {text}", f"# TYPE {family} {kind}", *samples[family]]
    return "\n".join(lines) + "\n"


def _histogram(family: str, labels: str, histogram: Histogram) -> Iterator[str]:
    """Yield the samples of a histogram, buckets cumulated."""
    cumulated = [*accumulate(histogram.counts)]
    for bound, count in zip((*BOUNDS_S, "+Inf"), cumulated, strict=True):
        yield f'{family}_bucket{{{labels},le="{bound}"}} {count}'
    yield f"{family}_sum{{{labels}}} {histogram.total!r}"
    yield f"{family}_count{{{labels}}} {cumulated[-1]}"


def _labels(**labels: str) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
