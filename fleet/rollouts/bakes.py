"""Decides when a stage without a verdict ends: nights and weekends count by their traffic."""

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from fleet.gates import HOUR

MOST = 4
"""Times `max_bake` after which a stage without a verdict ends, whatever its traffic."""


def is_over(longest: timedelta, waited: timedelta, requests: float, hourly: float) -> bool:
    """Say whether a stage has had its time.

    Args:
        longest: `max_bake`, in hours of usual traffic.
        waited: Time since the stage began.
        requests: Of both versions since then.
        hourly: Requests an hour in the weeks before, nights and weekends included; 0: not known,
            so that the clock alone counts.
    """
    if waited < longest or waited >= MOST * longest:
        return waited >= longest
    return not hourly or requests / hourly * HOUR >= longest


def traffic_of(counts: Iterable[Mapping[str, Any]]) -> tuple[float, float]:
    """Return the most requests that gates have counted, and the usual number an hour; 0: none."""
    found = [
        (float(sum(stage["requests"]) + sum(stage["requests_stable"])), float(stage["hourly"]))
        for stage in counts
        if "hourly" in stage and "requests_stable" in stage
    ]
    return max(found, default=(0.0, 0.0))
