"""Translate the counters of an Envoy into the series of fleetctl's own gateway."""

import re
from typing import Final

from runtime.gateway.accounting import FAMILIES, in_families

STATS: Final = "^fleetctl[.]"
"""Filter of Envoy's statistics."""
_FAMILIES: Final = {
    "requests": "fleetctl_requests_total",
    "input_tokens": "fleetctl_input_tokens_total",
    "output_tokens": "fleetctl_output_tokens_total",
    "request_microseconds": "fleetctl_request_seconds",
    "first_byte_microseconds": "fleetctl_first_byte_seconds",
    "in_flight": "fleetctl_in_flight",
}
"""Families by the names that `plans.compile.envoy.logs` gives."""
_SAMPLE: Final = re.compile(
    rf"^envoy_fleetctl_({'|'.join(_FAMILIES)})(_bucket|_sum|_count)?\{{(.*)\}} (\S+)$",
    re.MULTILINE,
)
_BOUND: Final = re.compile(r'(?<=le=")[0-9.e+]+(?="$)')


def exposition(text: str) -> str:
    """Return the counters as Prometheus reads them, times in seconds; others are left out."""
    samples: dict[str, list[str]] = {family: [] for family in _FAMILIES.values()}
    for name, part, labels, value in _SAMPLE.findall(text):
        family = _FAMILIES[name]
        its = _BOUND.sub(lambda bound: _seconds(bound[0]), labels)
        its = its.replace('version="', 'adapter="') if name == "in_flight" else its
        number = _seconds(value) if part == "_sum" else value
        samples[family].append(f"{family}{part}{{{its}}} {number}")
    return in_families({family: FAMILIES[family] for family in samples}, samples)


def _seconds(microseconds: str) -> str:
    return str(float(microseconds) / 1e6)
