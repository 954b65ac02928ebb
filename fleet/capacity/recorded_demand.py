"""Records the demand of aliases by hour of the day, from the usage rows of the gateways."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fleet.capacity.demand import HOURS, IDLE
from fleet.codes import diagnostic
from fleet.errors import ConfigError, Position
from fleet.policies import EndpointFaults
from fleet.usage import UsageCell, UsageFigures

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
    found: Recording, before: Mapping[str, ObservedDemand], known: Iterable[str]
) -> Recording:
    """Return the recording to keep, of the aliases that are still declared.

    An alias of an earlier recording without requests since is idle. An alias without any recorded
    request is left out, so that its declared demand holds.
    """
    idle = {alias: replace(demand, rpm=IDLE.tokens) for alias, demand in before.items()}
    adapters = {**idle, **found.adapters}
    kept = sorted({*known} & adapters.keys())
    return replace(found, adapters={alias: adapters[alias] for alias in kept})


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
