"""Computes the demand of an adapter version by hour of the day, UTC."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from math import expm1

from fleet.spec import AdapterSpec, DemandSpec

HOURS = 24
_MINUTES = 60
_DAY = HOURS * _MINUTES


@dataclass(frozen=True, slots=True)
class Load:
    """Load of an adapter on its server, by hour of the day, UTC."""

    tokens: tuple[float, ...]
    """Decoded tokens per second; prompt tokens count at their weight."""
    concurrency: tuple[float, ...]
    """Expected part of the time in which a request of the adapter runs, 0 to 1."""


IDLE = Load((0.0,) * HOURS, (0.0,) * HOURS)
"""The load of an adapter without known demand."""


def hourly_rpm(demand: DemandSpec | None) -> tuple[float, ...]:
    """Return the requests per minute by hour of the day, UTC.

    The peak rate inside the business hours and inside the batch window, 0 outside: declared hours
    say that traffic elsewhere is not worth a GPU. The adapter stays loaded all day, and free
    capacity of its server answers the odd request.

    Hours are local. Where clocks change in the course of the year, an hour is busy that is busy
    under any of the year's offsets, so that a placement holds all year and no plan appears because
    of a clock. An hour that is busy in part is busy: time zones with half hours touch an hour more.

    An observed day replaces the declared hours. Without any demand the day is idle.
    """
    if demand is None:
        return IDLE.tokens
    if demand.observed is not None:
        return demand.observed
    busy = _busy(demand.hours, demand.offsets)
    if demand.batch is not None:
        batch = _busy(demand.batch, demand.offsets)
        busy = tuple(map(max, zip(busy, batch, strict=True)))
    return tuple(demand.peak_rpm if hour else 0.0 for hour in busy)


@lru_cache(maxsize=4096)
def _busy(window: tuple[int, int], offsets: tuple[int, ...]) -> tuple[bool, ...]:
    """Return whether a local window touches the hours of the day, UTC, under any of the offsets.

    The window is over midnight where its begin is not below its end.
    """
    first, last = window
    length = (last - first) % HOURS * _MINUTES or _DAY
    found = set()
    for offset in offsets:
        start = (first * _MINUTES - offset) % _DAY
        end = start + length
        found |= {hour % HOURS for hour in range(start // _MINUTES, -(-end // _MINUTES))}
    return tuple(hour in found for hour in range(HOURS))


def load_of(
    demand: DemandSpec | None, prompt_weight: float, slo_s: float, replicas: int = 1
) -> Load:
    """Return the load of an adapter's demand on a server, of `replicas` that share the demand.

    Tokens: a request costs its output tokens, and its prompt tokens at their weight.

    Concurrency: if requests arrive independently at `rate` per second and run for `slo_s` seconds
    on average, the number that run at a time is Poisson with mean `rate * slo_s`, whatever the
    lengths of the single requests are (the M/G/infinity queue: a batching server starts a request
    at once). Some request runs for the part `1 - exp(-rate * slo_s)` of the time. Answers are due
    within the SLO and mostly come sooner, so the SLO stands in for the mean on the safe side.

    Unknown demand is taken as no demand at all, see `without_demand`. `prompt_weight` is the cost
    of a prompt token in decoded tokens.
    """
    if demand is None:
        return IDLE
    cost = demand.output_tokens + prompt_weight * demand.prompt_tokens
    rates = [rpm / 60 / replicas for rpm in hourly_rpm(demand)]
    running = {rate: -expm1(-rate * slo_s) for rate in set(rates)}
    return Load(tuple(rate * cost for rate in rates), tuple(running[rate] for rate in rates))


def without_demand(adapters: Iterable[AdapterSpec]) -> tuple[str, ...]:
    """Return the aliases without declared demand, sorted; they are placed as idle."""
    return tuple(sorted(adapter.alias for adapter in adapters if adapter.demand is None))


def peak_hour(hours: tuple[float, ...]) -> int:
    """Return the hour with the largest value; of equal ones, the first."""
    return max(range(len(hours)), key=lambda hour: (hours[hour], -hour))
