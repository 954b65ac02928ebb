"""Watch the fleet: ingest usage, judge all rules, notify people; once or at an interval."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias, TypeVar

from fleet.alerting import (
    Alert,
    AlertRule,
    BaseForecast,
    DataFault,
    ProjectedCost,
    RuleFinding,
    Signal,
    WhyWorse,
    advance,
    alert_notices,
    alias_findings,
    as_told,
    budget_findings,
    budget_uses,
    budgets_of,
    fleet_findings,
)
from fleet.codec import MalformedError, decode, plain
from fleet.errors import FleetError
from fleet.history import Entry, Notification, settled
from fleet.planning import outages_of
from fleet.resources import State
from fleet.spec import FleetSpec
from runtime.files import read_text, write_text
from runtime.notify.alertmanager import post_alerts
from runtime.operations.machines.outages import observe_faults, with_ledger
from runtime.operations.notify import notify_once
from runtime.operations.rounds.rounds import RoundParts, repeat
from runtime.operations.watch.budgets import keep_budgets, used_in_month
from runtime.operations.watch.notifications import open_notifications
from runtime.operations.watch.traffic_facts import (
    TrafficReader,
    base_forecasts,
    explain_alias,
    projected_costs,
)
from runtime.operations.watch.usage import data_faults, gather_rows
from runtime.usage.store import UsageStore
from runtime.workspace import Call, Workspace

STANDS: Final = 2
"""Exit code of a single round in which an alert stands."""
UNPRICED: Final = frozenset({"FC6083", "FC6084"})
"""Codes of a fleet that has no costs, or none yet."""
FILE: Final = "alerts.json"
"""File of the state folder with the alerts of the last round, and those that ended."""
_LASTING: Final = frozenset({"undecided", "drifted", "gate_failed", "retraining_overdue"})
"""Events that last, and stand as alerts; their notices are their own."""
Made = TypeVar("Made")
_Hourly: TypeAlias = tuple[datetime | None, Sequence[Made]]
"""Figures, with the hour in which they were made; None: never."""


def read_alerts(state_dir: Path) -> tuple[Alert, ...]:
    """Return the alerts of the last round; none where there was no round, or its file is broken."""
    try:
        document = json.loads(read_text(state_dir / FILE))
        return decode(tuple[Alert, ...], document, FILE, lenient=True)
    except (OSError, ValueError, MalformedError, FleetError):
        return ()


@dataclass(slots=True)
class Watcher:
    """Runs rounds, and keeps the figures of past hours between rounds."""

    word: Callable[[Alert], str]
    """Returns an alert as a sentence."""
    traffic: TrafficReader = field(default_factory=TrafficReader)
    exit_code: int = 0
    """1 where a part of the last round failed."""
    _costs: _Hourly[ProjectedCost] = (None, ())
    _forecasts: _Hourly[BaseForecast] = (None, ())

    async def rounds(
        self, workspace: Workspace, interval: timedelta
    ) -> AsyncIterator[tuple[Alert, ...]]:
        """Yield the alerts that began or ended in a round, until a signal; errors are emitted."""

        async def look(_: asyncio.Event) -> tuple[Alert, ...]:
            before = {(alert.id, alert.phase) for alert in read_alerts(workspace.state_dir)}
            alerts = await self.look(replace(workspace))
            return tuple(alert for alert in alerts if (alert.id, alert.phase) not in before)

        async for changed in repeat(look, interval, workspace.emit):
            yield changed

    async def look(self, workspace: Workspace) -> tuple[Alert, ...]:
        """Judge all rules now, write the alerts down, notify people; return the alerts.

        A part that fails is reported and ends itself; alerts that it would judge stay.

        Raises:
            FleetError: the declarations or the ledger cannot be read.
        """
        fleet, now = workspace.project.fleet(), workspace.now()
        known = read_alerts(workspace.state_dir)
        parts, found, faults = RoundParts(workspace.emit), list[RuleFinding](), list[DataFault]()
        with parts.part("the ingestion of usage"):
            faults += await gather_rows(workspace)
        with parts.part("the faults of data"):
            faults += data_faults(workspace.state_dir, now)
        snapshot = workspace.ledger.last_known()
        live = with_ledger(workspace, await observe_faults(workspace), snapshot)
        history = settled(snapshot.history(), live)
        events = list[Notification]()
        with parts.part("the open events"):
            events += [] if snapshot.away else open_notifications(workspace, live)
        with parts.part("the usage store"), closing(UsageStore(workspace.state_dir)) as store:
            with parts.part("the projected costs"):
                make_costs = partial(projected_costs, workspace)
                self._costs = _of_the_hour(workspace, self._costs, make_costs, now)
            with parts.part("the forecasts of bases"):
                make_forecasts = partial(base_forecasts, workspace, store, live, now)
                self._forecasts = _of_the_hour(workspace, self._forecasts, make_forecasts, now)
            with parts.part("the findings on traffic"):
                found += self._traffic(fleet, parts, store, live, snapshot.entries, known, now)
            with parts.part("the findings on budgets"):
                found += _budgets(fleet, store, now)
        with parts.part("the findings on devices, data and outages"):
            figures = self._costs[1], self._forecasts[1]
            found += fleet_findings(*figures, faults, outages_of(history, live), now)
        with parts.part("the findings on events"):
            found += _lasting(events, now)
        unseen = {AlertRule.EVENT} if snapshot.away else set[AlertRule]()
        unseen |= {*AlertRule} if parts.exit_code else set()
        with parts.part("the budgets of gateways"):
            await keep_budgets(workspace)
        alerts = as_told(advance(known, found, now, unseen), known, snapshot.standing(), now)
        with parts.part("the record of alerts"):
            write_text(workspace.state_dir / FILE, json.dumps(plain(alerts)) + "\n")
        notices = [*events, *alert_notices(alerts, snapshot.standing(), now)]
        entries = None if snapshot.away is None else snapshot.standing()
        with parts.part("the notices"):
            workspace.warn(*await notify_once(workspace, notices, entries))
        with parts.part("the hand-over to the Alertmanager"):
            await self._hand_over(workspace, fleet, alerts, now)
        self.exit_code = parts.exit_code
        return alerts

    async def _hand_over(
        self, call: Call, fleet: FleetSpec, alerts: Sequence[Alert], now: datetime
    ) -> None:
        if fleet.notify and fleet.notify.alertmanager:
            texts = [(alert, self.word(alert)) for alert in alerts]
            why = await post_alerts(fleet.notify.alertmanager, fleet.name, texts, now)
            call.warn(*([f"the Alertmanager did not take the alerts: {why}"] if why else []))

    def _traffic(
        self,
        fleet: FleetSpec,
        parts: RoundParts,
        store: UsageStore,
        live: State,
        entries: Sequence[Entry],
        known: Sequence[Alert],
        now: datetime,
    ) -> Iterator[RuleFinding]:
        """Yield the findings on aliases; those that begin with their likely cause."""
        pinned = {a.subject: a.baseline for a in known if a.rule is AlertRule.SLOW and not a.until}
        causes = {a.id: a.cause for a in known if not a.until}
        for facts in self.traffic.facts(store, fleet, live, known, now):
            with parts.part(f"the findings on {facts.alias}"):
                for finding in alias_findings(facts, pinned.get(facts.alias), now):
                    signal, alert = finding
                    begins = signal in {Signal.PENDING, Signal.FIRING}
                    if begins and causes.get(alert.id) is None:
                        span = max(timedelta(hours=8), min(now - alert.since, timedelta(hours=47)))
                        why = explain_alias(store, fleet, entries, facts.alias, span, now)
                        likely = why.causes[0].change if why.onset and why.causes else None
                        yield RuleFinding(signal, replace(alert, cause=likely))
                    else:
                        yield finding


def _of_the_hour(
    call: Call, known: _Hourly[Made], make: Callable[[], Sequence[Made]], now: datetime
) -> _Hourly[Made]:
    """Return the figures of this hour; where they cannot be made, a warning and those before.

    A fleet without prices, or before its first hour, has no costs. After any other error than these
    the next round tries again.
    """
    hour = now.replace(minute=0, second=0, microsecond=0)
    if known[0] == hour:
        return known
    try:
        return hour, make()
    except FleetError as error:
        problem = error.diagnostics[0]
        if problem.code in UNPRICED:
            return hour, ()
        call.warn(f"no forecast in this hour: {problem.reason}: {problem.detail}")
        return hour, known[1]


def _budgets(fleet: FleetSpec, store: UsageStore, now: datetime) -> Iterator[RuleFinding]:
    """Yield the findings on budgets of the month."""
    month, used = used_in_month(fleet, store, now)
    yield from budget_findings(budget_uses(budgets_of(fleet), used), month, now)


def why_worse(workspace: Workspace, alias: str, since: timedelta) -> WhyWorse:
    """Bring new rows into the usage store, and rank the causes of an alias's change.

    Raises:
        FleetError: the alias is not declared; declarations, ledger or store cannot be read.
    """
    fleet, now, state_dir = workspace.project.fleet(), workspace.now(), workspace.state_dir
    asyncio.run(gather_rows(workspace))
    entries = workspace.ledger.last_known().entries
    with closing(UsageStore(state_dir)) as store:
        return explain_alias(store, fleet, entries, alias, since, now)


def _lasting(events: Sequence[Notification], now: datetime) -> Iterator[RuleFinding]:
    """Yield the open events that last as findings."""
    for event in events:
        if event.event in _LASTING:
            kind, alias = event.event, event.alias
            detail = f"{kind.replace('_', ' ')}: {event.facts.get('reason', '')}"
            command = f"fleetctl rollout status {alias}"
            if kind in {"drifted", "retraining_overdue"}:
                command = "fleetctl retrain list --due"
            alert = Alert(
                AlertRule.EVENT, f"{alias} {kind}", None, None, now, command, detail=detail,
                urgent=kind == "undecided",
            )  # fmt: skip
            yield RuleFinding(Signal.FIRING, alert)
