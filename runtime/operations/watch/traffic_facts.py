"""Read the traffic of aliases from the usage store for the rules of alerts and `why`."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

from fleet.alerting import (
    HOURS_FOR,
    QUARTERS_FOR,
    Alert,
    AliasFacts,
    WhyWorse,
    explain_worse,
    latency_baseline,
    ledger_changes,
    same_class,
)
from fleet.errors import FleetError, did_you_mean
from fleet.history import Entry
from fleet.resources import Route, State
from fleet.spec import FleetSpec
from fleet.usage import Grain, Operator, UsageCell
from runtime.usage.store import UsageStore

QUARTERS_KEPT = timedelta(hours=48)
"""Time for which the store has quarters; before that, hours."""
QUARTER = Grain.QUARTER.length
_Cells = Mapping[str, Sequence[UsageCell]]


def _start(now: datetime, grain: Grain) -> datetime:
    """Return the start of the cell that `now` lies in."""
    return now - timedelta(seconds=now.timestamp() % grain.length.total_seconds())


def _by_alias(cells: Iterable[UsageCell]) -> dict[str, list[UsageCell]]:
    found: dict[str, list[UsageCell]] = defaultdict(list)
    for cell in cells:
        found[cell.alias].append(cell)
    return found


@dataclass(slots=True)
class TrafficReader:
    """Reads the store at every look; keeps what changes by the hour."""

    _hour: datetime | None = None
    _hours: _Cells = field(default_factory=dict)
    _history: _Cells = field(default_factory=dict)

    def facts(
        self,
        store: UsageStore,
        fleet: FleetSpec,
        live: State,
        alerts: Sequence[Alert],
        now: datetime,
    ) -> list[AliasFacts]:
        """Return the traffic of every declared alias."""
        end, scope = _start(now, Grain.QUARTER), Operator()
        hour, one = _start(now, Grain.HOUR), Grain.HOUR.length
        quarters = _by_alias(
            store.cells(scope, end - QUARTERS_FOR, end, Grain.QUARTER, by=("alias",))
        )
        if hour != self._hour:
            self._hour = hour
            self._hours = _by_alias(store.cells(scope, hour - HOURS_FOR, hour, by=("alias",)))
            by = ("alias", "version")
            past = (store.cells(scope, at, at + one, by=by) for at in same_class(now))
            self._history = _by_alias(cell for cells in past for cell in cells)
        running = _by_alias(store.cells(scope, end, now, Grain.QUARTER, by=("alias",)))
        waits = store.cells(scope, end - QUARTER, end, Grain.QUARTER, by=("alias", "server"))
        waiting = {(c.server, c.alias) for c in waits if c.figures.waited.quantile(0.95)}
        routes = live.routes()
        found = []
        for alias, adapter in fleet.adapters.items():
            version, servers = _serving(routes.get(alias), str(adapter.name))
            sick = [(a.since, a.until or now) for a in alerts if a.subject == alias]
            history = self._history.get(alias, ())
            found.append(
                AliasFacts(
                    alias,
                    adapter.slo_s,
                    latency_baseline(history, version, sick, adapter.slo_s),
                    tuple(quarters.get(alias, ())),
                    tuple(self._hours.get(alias, ())),
                    servers,
                    tuple(s for s in servers if any(at == s and a != alias for at, a in waiting)),
                    adapter.aimed,
                    tuple(running.get(alias, ())),
                )
            )
        return found


def _serving(route: Route | None, declared: str) -> tuple[str, tuple[str, ...]]:
    """Return the version with the most traffic of a route, and all servers of the route."""
    if route is None:
        return declared, ()
    most = max(route.shares, key=lambda share: share.percent)
    servers = {name for share in route.shares if share.percent for name in share.servers}
    return most.adapter, tuple(sorted(servers))


def explain_alias(
    store: UsageStore,
    fleet: FleetSpec,
    entries: Sequence[Entry],
    alias: str,
    since: timedelta,
    now: datetime,
) -> WhyWorse:
    """Rank the changes around an alias in the time before now.

    Raises:
        FleetError: FC1223, the alias is not declared.
    """
    adapter = fleet.adapters.get(alias)
    if adapter is None:
        near = did_you_mean(alias, sorted(fleet.adapters))
        raise FleetError.of(
            "FC1223", "Unknown alias or client", f"`{alias}` is not declared.", hint=near
        )
    grain = Grain.QUARTER if since <= QUARTERS_KEPT else Grain.HOUR
    end = _start(now, grain)
    read = partial(
        store.cells, Operator(), end - since, end, grain, by=("alias", "version", "server")
    )
    own = read(alias=alias)
    servers = {cell.server for cell in own} - {""}
    beside = [
        cell
        for server in sorted(servers)
        for cell in read(server=server, sketches=False)
        if cell.alias != alias
    ]
    others = {cell.alias for cell in beside}
    sections = {"tiers": adapter.tier, "bases": adapter.name.base}
    changes = ledger_changes(entries, alias, sections, others, servers, end - since)
    return explain_worse(alias, [*own, *beside], [*changes])
