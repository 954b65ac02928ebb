"""Defines `Alert` and its life: pending, firing, resolved; decides which alerts share a cause."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from fleet.alerting.baseline import HISTORY, LatencyBaseline
from fleet.alerting.changes import AliasChange


class AlertRule(StrEnum):
    """The rules; of alerts with the same subject, an earlier rule speaks for a later rule."""

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
