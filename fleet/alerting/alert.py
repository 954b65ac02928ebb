"""Defines an alert, its life and its causes, and the usual p95 of an alias at an hour."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, NamedTuple

from fleet.alerting.changes import AliasChange
from fleet.usage import Grain, Sketch, UsageCell

WEEK: Final = timedelta(days=7)
LEAST_HISTORY: Final = WEEK
"""Least time of healthy requests from which a baseline is taken."""
HISTORY: Final = 4 * WEEK
"""Time that a baseline looks back."""
LEAST_REQUESTS: Final = 50
"""Least answered requests of a window, and of a baseline's class of hours."""
_SATURDAY: Final = 5


@dataclass(frozen=True, slots=True)
class LatencyBaseline:
    """The usual p95 of an alias in a class of hours."""

    p95_s: float
    days: float = 0.0
    """Days of healthy hours behind the figure; 0: the promise stands in for it."""


def hour_class(start: datetime) -> tuple[bool, int]:
    """Return the class of an hour: on a weekend or not, and the hour of the day, UTC."""
    return start.weekday() >= _SATURDAY, start.hour


def same_class(now: datetime) -> list[datetime]:
    """Return the starts of the hours of the class of `now` in the time of a baseline."""
    hour = now.replace(minute=0, second=0, microsecond=0)
    days = (hour - timedelta(days=day) for day in range(1, HISTORY.days + 1))
    return [start for start in days if hour_class(start) == hour_class(hour)]


def latency_baseline(
    cells: Sequence[UsageCell],
    version: str,
    sick: Sequence[tuple[datetime, datetime]],
    promise_s: float,
) -> LatencyBaseline:
    """Return the baseline of an alias from cells of the same class of hours.

    Hours of another version than `version`, and hours in which the alias had an alert (`sick`),
    are left out. Where less than a week of hours is left, the promise is the baseline.
    """
    healthy = [
        cell
        for cell in cells
        if cell.version == version
        and not any(cell.start < until and since < _end(cell) for since, until in sick)
    ]
    latency = sum((cell.figures.latency for cell in healthy), Sketch())
    days = {cell.start for cell in healthy}
    span = max(days) - min(days) + timedelta(days=1) if days else timedelta()
    p95 = latency.quantile(0.95)
    if p95 is None or span < LEAST_HISTORY or latency.count < LEAST_REQUESTS:
        return LatencyBaseline(promise_s)
    return LatencyBaseline(p95, span / timedelta(days=1))


def _end(cell: UsageCell) -> datetime:
    return cell.start + Grain.HOUR.length


class AlertRule(StrEnum):
    """The rules; of alerts on one subject, equally urgent and old, the rule named first speaks."""

    OUTAGE = "outage"
    ERRORS = "errors"
    SLOW = "slow"
    STARVED = "starved"
    PROMISE = "promise"
    ERRORS_BUDGET = "errors_budget"
    PROMISE_BUDGET = "promise_budget"
    COST = "cost"
    COST_WARNING = "cost_warning"
    BUDGET_USED_UP = "budget_used_up"
    BUDGET = "budget"
    CAPACITY = "capacity"
    DATA = "data"
    EVENT = "event"
    """An event that has a notice of its own, such as a drift of quality."""


OF_TRAFFIC = frozenset(
    {AlertRule.ERRORS, AlertRule.SLOW, AlertRule.STARVED, AlertRule.PROMISE}
    | {AlertRule.ERRORS_BUDGET, AlertRule.PROMISE_BUDGET}
)
"""Rules on the requests of an alias."""


class Signal(StrEnum):
    """The result of a rule at a look."""

    CLEAR = "clear"
    BETWEEN = "between"
    """Below the limit, and above the limit at which a firing alert ends."""
    PENDING = "pending"
    FIRING = "firing"
    UNKNOWN = "unknown"
    """Too little data: nothing begins, and nothing ends."""


class AlertPhase(StrEnum):
    """The phase of an alert."""

    PENDING = "pending"
    FIRING = "firing"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True)
class Alert:
    """A rule that a subject breaks, with the command to go to."""

    rule: AlertRule
    subject: str
    """An alias, client, base, gateway, or address of a resource."""
    value: float | None
    limit: float | None
    since: datetime
    command: str
    cause: AliasChange | None = None
    detail: str = ""
    urgent: bool = True
    """Whether a person should look now; else within days."""
    servers: tuple[str, ...] = ()
    """Servers that answer the alias, or that an outage takes away."""
    baseline: LatencyBaseline | None = None
    """The baseline at the beginning: a baseline that moves would absorb the incident."""
    phase: AlertPhase = AlertPhase.PENDING
    until: datetime | None = None
    silenced_by: str = ""
    """Id of the alert whose notice tells of this alert, too."""

    @property
    def id(self) -> str:
        """Return rule and subject."""
        return f"{self.rule} {self.subject}"

    @property
    def stands(self) -> bool:
        """Say whether the alert fires."""
        return self.phase is AlertPhase.FIRING


class RuleFinding(NamedTuple):
    """The result of a rule on a subject, and the alert that would begin."""

    signal: Signal
    alert: Alert


def advance(
    known: Iterable[Alert],
    findings: Iterable[RuleFinding],
    now: datetime,
    unseen: Collection[AlertRule] = (),
) -> tuple[Alert, ...]:
    """Return the alerts after a look, those that ended in the time of a baseline included.

    A subject without a finding is clear, but for the rules that could not be looked at (`unseen`).
    """
    kept, open_alerts = list[Alert](), dict[str, Alert]()
    for alert in known:
        if alert.phase is not AlertPhase.RESOLVED:
            open_alerts[alert.id] = alert
        elif alert.until is None or now - alert.until < HISTORY:
            kept.append(alert)
    for signal, fresh in findings:
        before = open_alerts.pop(fresh.id, None)
        if after := _after(before, signal, fresh, now):
            kept.append(after)
    for alert in open_alerts.values():
        if alert.rule in unseen:
            kept.append(alert)
        elif alert.stands:
            kept.append(_resolved(alert, now))
    return with_silence(kept)


def _after(before: Alert | None, signal: Signal, fresh: Alert, now: datetime) -> Alert | None:
    """Return the alert of a subject after a look; None: none is open."""
    match signal:
        case Signal.UNKNOWN:
            return before
        case Signal.CLEAR:
            return _resolved(before, now) if before and before.stands else None
        case Signal.BETWEEN | Signal.PENDING if before and before.stands:
            return replace(before, value=fresh.value)
        case Signal.BETWEEN:
            return None
        case Signal.PENDING:
            phase = AlertPhase.PENDING
        case Signal.FIRING:
            phase = AlertPhase.FIRING
    if before is None:
        return replace(fresh, phase=phase)
    return replace(
        before,
        value=fresh.value,
        phase=phase,
        detail=fresh.detail,
        cause=before.cause if before.stands else fresh.cause,
    )


def _resolved(alert: Alert, now: datetime) -> Alert:
    return replace(alert, phase=AlertPhase.RESOLVED, until=now)


def with_silence(alerts: Sequence[Alert]) -> tuple[Alert, ...]:
    """Note which alerts have the notice of another alert with the same cause, by subject.

    An alert that is urgent is never silenced by another that is not.
    """
    firing = sorted((alert for alert in alerts if alert.stands), key=_order)

    def speaker(alert: Alert) -> str:
        earlier = firing[: firing.index(alert)]
        return next((other.id for other in earlier if _speaks_for(other, alert)), "")

    return tuple(
        replace(alert, silenced_by=speaker(alert)) if alert.stands else alert
        for alert in sorted(alerts, key=lambda alert: (alert.rule, alert.subject, alert.since))
    )


def _order(alert: Alert) -> tuple[bool, bool, datetime, int, str]:
    rank = [*AlertRule].index(alert.rule)
    return alert.rule is not AlertRule.OUTAGE, not alert.urgent, alert.since, rank, alert.subject


def _speaks_for(other: Alert, alert: Alert) -> bool:
    if other.rule is AlertRule.OUTAGE:
        of_server = alert.rule in OF_TRAFFIC and not {*other.servers}.isdisjoint(alert.servers)
        return of_server or other.subject == f"gateway/{alert.subject}"
    return other.subject == alert.subject or (
        other.cause is not None and other.cause == alert.cause
    )
