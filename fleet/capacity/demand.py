"""Computes the demand of versions by hour of the day, UTC: as declared, and as recorded."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from functools import lru_cache
from math import expm1
from types import MappingProxyType
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fleet.codes import diagnostic
from fleet.errors import ConfigError, Position
from fleet.policies import EndpointFaults
from fleet.spec import AdapterSpec, DemandSpec
from fleet.usage import UsageCell, UsageFigures

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
    busy_hours = set()
    for offset in offsets:
        start = (first * _MINUTES - offset) % _DAY
        end = start + length
        busy_hours |= {hour % HOURS for hour in range(start // _MINUTES, -(-end // _MINUTES))}
    return tuple(hour in busy_hours for hour in range(HOURS))


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


DEMAND_FILE = "demand.json"
"""Name of the file in the project."""
FORMAT = 1
USER_DAYS = 28
"""Days of which users are counted: people who ask once a week count."""
_SECONDS = 3600
_PERCENTILE = 95
_LATER = frozenset({"faults", "users"})
"""Fields that earlier releases did not write."""


@dataclass(frozen=True, slots=True)
class ObservedDemand:
    """Recorded demand of an alias."""

    rpm: tuple[float, ...]
    """Requests per minute by hour of the day, UTC: the 95th percentile over the days."""
    prompt_tokens: int | None
    """Mean per request, rounded up; None: no server reported any."""
    output_tokens: int | None
    faults: EndpointFaults | None = None
    """Of all requests of the days; None: recorded before they were counted."""
    users: int | None = None
    """Users of `USER_DAYS`, about, or sessions of requests that name a session; None: not known."""


@dataclass(frozen=True, slots=True)
class Recording:
    """Recorded demand of all aliases between two full hours, UTC."""

    since: datetime
    until: datetime
    adapters: Mapping[str, ObservedDemand]
    """By alias, sorted."""

    @property
    def hours(self) -> int:
        """Return the number of recorded hours."""
        return int((self.until - self.since).total_seconds()) // _SECONDS


def record_demand(
    cells: Iterable[UsageCell], days: int, users: Mapping[str, int] = MappingProxyType({})
) -> Recording | None:
    """Sum up the last `days` days of cells of an hour, by alias; None for no cells.

    `users` has the number of users by alias.

    The days end with the hour of the newest request and not with the present: a stopped gateway
    says nothing about demand. They begin no earlier than the hour of the oldest request. An hour
    in between without a request counts as 0.

    The rate of an hour of the day is the 95th percentile (nearest rank) over its days: with up to
    20 days the busiest day, with more days all but the odd busy day. Means hide the busy days that
    a server must get through.
    """
    counts: defaultdict[tuple[int, str], int] = defaultdict(int)
    sums: defaultdict[tuple[int, str], Counter[str]] = defaultdict(Counter)
    for cell in cells:
        hour = int(cell.start.timestamp() // _SECONDS)
        counts[hour, cell.alias] += cell.figures.requests
        sums[hour // HOURS, cell.alias].update(_figures(cell.figures))
    if not counts:
        return None
    until = max(hour for hour, _ in counts) + 1
    since = max(min(hour for hour, _ in counts), until - HOURS * days)
    recorded = range(since, until)
    recorded_days = range(since // HOURS, (until - 1) // HOURS + 1)
    adapters = {}
    for alias in sorted({alias for hour, alias in counts if hour in recorded}):
        total = sum((sums[day, alias] for day in recorded_days), Counter[str]())
        adapters[alias] = ObservedDemand(
            tuple(
                _rate([counts.get((at, alias), 0) for at in recorded if at % HOURS == hour])
                for hour in range(HOURS)
            ),
            _mean(total["prompt_tokens"], total["prompts"]),
            _mean(total["output_tokens"], total["outputs"]),
            _faults(total),
            users.get(alias) or None,
        )
    return Recording(
        datetime.fromtimestamp(since * _SECONDS, UTC),
        datetime.fromtimestamp(until * _SECONDS, UTC),
        adapters,
    )


def carried_on(
    recording: Recording, before: Mapping[str, ObservedDemand], declared: Iterable[str]
) -> Recording:
    """Return the recording to keep, of the aliases that are still declared.

    An alias of an earlier recording without requests since is idle. An alias without any recorded
    request is left out, so that its declared demand holds.
    """
    idle = {alias: replace(demand, rpm=IDLE.tokens) for alias, demand in before.items()}
    adapters = {**idle, **recording.adapters}
    aliases = sorted({*declared} & adapters.keys())
    return replace(recording, adapters={alias: adapters[alias] for alias in aliases})


def _rate(requests: list[int]) -> float:
    """Return requests per minute from the requests of the same hour on several days."""
    if not requests:
        return 0.0
    rank = -(-_PERCENTILE * len(requests) // 100)
    return round(sorted(requests)[rank - 1] / 60, 4)


def _mean(tokens: int, requests: int) -> int | None:
    return max(1, -(-tokens // requests)) if requests else None


def _figures(figures: UsageFigures) -> dict[str, int]:
    """Return the part of a cell in the sums: tokens, and the fields of `EndpointFaults`."""
    return {
        "prompt_tokens": figures.input_tokens,
        "prompts": figures.inputs,
        "output_tokens": figures.output_tokens,
        "outputs": figures.outputs,
        "requests": figures.requests,
        "errors": figures.errors,
        "told_format": figures.judged,
        "format": figures.misshapen,
        "told_finish": figures.ended,
        "truncated": figures.cut_short,
    }


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    rpm: Annotated[
        tuple[Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)], ...],
        Field(min_length=HOURS, max_length=HOURS),
    ]
    prompt_tokens: Annotated[int, Field(ge=1)] | None = None
    output_tokens: Annotated[int, Field(ge=1)] | None = None
    faults: dict[str, Annotated[int, Field(ge=0)]] | None = None
    users: Annotated[int, Field(ge=0)] | None = None


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Annotated[int, Field(ge=FORMAT, le=FORMAT)]
    since: datetime
    until: datetime
    adapters: dict[str, _Entry]


def recorded_demand_text(recording: Recording) -> str:
    """Return the text of `demand.json`: a line per alias, so that changes read well."""
    entries = []
    for alias, adapter in sorted(recording.adapters.items()):
        written = {
            name: value for name, value in asdict(adapter).items() if value or name not in _LATER
        }
        entries.append(f"    {json.dumps(alias)}: {json.dumps(written)}")
    since, until = recording.since.isoformat(), recording.until.isoformat()
    head = f'{{\n  "format": {FORMAT},\n  "since": "{since}",\n  "until": "{until}",\n'
    return f'{head}  "adapters": {{\n' + ",\n".join(entries) + "\n  }\n}\n"


def parse_recorded_demand(text: str) -> Recording:
    """Read the text of `demand.json`.

    Raises:
        ConfigError: the text is no such file.
    """
    try:
        file = _File.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        detail = f"`{DEMAND_FILE}`{f', `{where}`' if where else ''}: {first['msg']}."
        hint = "Take it back from version control, or record again."
        command = "fleetctl demand record"
        raise ConfigError(
            diagnostic("FC1227", detail, Position(DEMAND_FILE, 1, 1), hint=hint, command=command)
        ) from None
    return Recording(
        file.since,
        file.until,
        {
            alias: ObservedDemand(
                **{**vars(entry), "faults": None if entry.faults is None else _faults(entry.faults)}
            )
            for alias, entry in sorted(file.adapters.items())
        },
    )


def _faults(counts: Mapping[str, int]) -> EndpointFaults:
    """Return the faults of the counts; kinds of a later release are ignored."""
    names = {field.name for field in fields(EndpointFaults)}
    return EndpointFaults(**{name: counts[name] for name in names & counts.keys()})
