"""Records the demand of each alias by hour of the day, from the usage rows of the gateways."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fleet.codes import diagnostic
from fleet.errors import ConfigError, Position
from fleet.rollout_policy import EndpointFaults

DEMAND_FILE = "demand.json"
"""The file's name, in the project."""
FORMAT = 1
_HOURS = 24
_SECONDS = 3600
_PERCENTILE = 95


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """One request as the usage log has it."""

    time: float
    """Seconds since 1970, UTC."""
    alias: str
    prompt_tokens: int | None
    output_tokens: int | None
    failed: bool = False
    format_ok: bool | None = None
    """Whether the answer has its adapter's form; None: not told."""
    cut_short: bool | None = None
    """Whether the answer ended for its length; None: not told."""


@dataclass(frozen=True, slots=True)
class ObservedDemand:
    """What one alias was asked."""

    rpm: tuple[float, ...]
    """Requests per minute in each hour of the day, UTC: the 95th percentile over the days."""
    prompt_tokens: int | None
    """Mean per request, rounded up; None: no server reported any."""
    output_tokens: int | None
    faults: EndpointFaults | None = None
    """Of all requests of the days; None: recorded before they were counted."""


@dataclass(frozen=True, slots=True)
class Recording:
    """What all aliases were asked between two full hours, UTC."""

    since: datetime
    until: datetime
    adapters: Mapping[str, ObservedDemand]
    """By alias, sorted."""

    @property
    def hours(self) -> int:
        """Return how many hours were recorded."""
        return int((self.until - self.since).total_seconds()) // _SECONDS


def record_demand(requests: Iterable[RecordedRequest], days: int) -> Recording | None:
    """Sum up the last `days` days of the requests; None if there are none.

    The days end with the hour of the newest request and not with the present: a gateway that
    stands still says nothing about demand. They begin no earlier than the hour of the oldest
    request, and an hour in between without a request counts as one with none.

    The rate of an hour of the day is the 95th percentile (nearest rank) over its days: with up
    to 20 days the busiest of them, with more all but the odd one. Means hide the busy days that
    a server must get through.
    """
    counts: defaultdict[int, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
    tokens: defaultdict[tuple[int, str], list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    faults: defaultdict[tuple[int, str], list[int]] = defaultdict(
        lambda: [0] * len(fields(EndpointFaults))
    )
    for request in requests:
        hour = int(request.time // _SECONDS)
        counts[hour][request.alias] += 1
        sums = tokens[hour // _HOURS, request.alias]
        for position, number in ((0, request.prompt_tokens), (2, request.output_tokens)):
            if number is not None:
                sums[position] += number
                sums[position + 1] += 1
        for position, number in enumerate(_faults(request)):
            faults[hour // _HOURS, request.alias][position] += number
    if not counts:
        return None
    until = max(counts) + 1
    since = max(min(counts), until - _HOURS * days)
    aliases = sorted({alias for hour in range(since, until) for alias in counts.get(hour, ())})
    days_of = range(since // _HOURS, (until - 1) // _HOURS + 1)
    return Recording(
        datetime.fromtimestamp(since * _SECONDS, UTC),
        datetime.fromtimestamp(until * _SECONDS, UTC),
        {
            alias: ObservedDemand(
                tuple(
                    _rate(
                        [
                            counts[hour_of_day].get(alias, 0) if hour_of_day in counts else 0
                            for hour_of_day in hours
                        ]
                    )
                    for hour in range(_HOURS)
                    for hours in [
                        [
                            hour_of_day
                            for hour_of_day in range(since, until)
                            if hour_of_day % _HOURS == hour
                        ]
                    ]
                ),
                *_means(tokens, alias, days_of),
                EndpointFaults(
                    *map(sum, zip(*(faults[day, alias] for day in days_of), strict=True))
                ),
            )
            for alias in aliases
        },
    )


def carried_on(
    found: Recording, before: Mapping[str, ObservedDemand], known: Iterable[str]
) -> Recording:
    """Return the recording to keep, of the aliases that are still declared.

    An alias that was recorded before and asked nothing since is idle. One that was never asked
    is left out: its declared demand holds until it is.
    """
    idle = {alias: replace(demand, rpm=(0.0,) * _HOURS) for alias, demand in before.items()}
    declared = {*known}
    return Recording(
        found.since,
        found.until,
        {
            alias: each
            for alias, each in sorted({**idle, **found.adapters}.items())
            if alias in declared
        },
    )


def _rate(requests: list[int]) -> float:
    """Return requests per minute from the requests of the same hour on several days."""
    if not requests:
        return 0.0
    rank = -(-_PERCENTILE * len(requests) // 100)
    return round(sorted(requests)[rank - 1] / 60, 4)


def _means(
    tokens: Mapping[tuple[int, str], list[int]], alias: str, days: range
) -> tuple[int | None, int | None]:
    sums = [tokens[day, alias] for day in days if (day, alias) in tokens]
    prompt, prompts, output, outputs = (sum(column) for column in zip(*sums, strict=True))
    return (
        max(1, -(-prompt // prompts)) if prompts else None,
        max(1, -(-output // outputs)) if outputs else None,
    )


def _faults(request: RecordedRequest) -> tuple[int, ...]:
    """Return what a request adds to the fields of `EndpointFaults`."""
    told = not request.failed and request.format_ok is not None
    ended = not request.failed and request.cut_short is not None
    return (
        1,
        request.failed,
        told,
        told and not request.format_ok,
        ended,
        bool(ended and request.cut_short),
    )


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    rpm: Annotated[
        tuple[Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)], ...],
        Field(min_length=_HOURS, max_length=_HOURS),
    ]
    prompt_tokens: Annotated[int, Field(ge=1)] | None = None
    output_tokens: Annotated[int, Field(ge=1)] | None = None
    faults: dict[str, Annotated[int, Field(ge=0)]] | None = None


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Annotated[int, Field(ge=FORMAT, le=FORMAT)]
    since: datetime
    until: datetime
    adapters: dict[str, _Entry]


def recorded_demand_text(recording: Recording) -> str:
    """Return the text of `demand.json`: one line per alias, so that changes read well."""
    entries = [
        f"    {json.dumps(alias)}: "
        + json.dumps(
            {
                "rpm": adapter.rpm,
                "prompt_tokens": adapter.prompt_tokens,
                "output_tokens": adapter.output_tokens,
            }
            | ({"faults": asdict(adapter.faults)} if adapter.faults else {})
        )
        for alias, adapter in sorted(recording.adapters.items())
    ]
    since, until = recording.since.isoformat(), recording.until.isoformat()
    head = f'{{\n  "format": {FORMAT},\n  "since": "{since}",\n  "until": "{until}",\n'
    return f'{head}  "adapters": {{\n' + ",\n".join(entries) + "\n  }\n}\n"


def parse_recorded_demand(text: str) -> Recording:
    """Read the text of `demand.json`.

    Raises:
        ConfigError: it is no such file.
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
                adapter.rpm,
                adapter.prompt_tokens,
                adapter.output_tokens,
                None if adapter.faults is None else _read(adapter.faults),
            )
            for alias, adapter in sorted(file.adapters.items())
        },
    )


def _read(counts: Mapping[str, int]) -> EndpointFaults:
    """Return the faults of a file; kinds that are not known are of a later day."""
    return EndpointFaults(
        **{field.name: counts.get(field.name, 0) for field in fields(EndpointFaults)}
    )
