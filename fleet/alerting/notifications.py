"""Decides which events people are notified of, a single time for an event.

An event that lasts (a rollout that waits for people, a drift, an overdue retraining) is notified
once; an event that ends and comes again is another event. A notification that was not delivered
is tried again, an hour later at the earliest.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from typing import Any

from fleet.alerting.alert import OF_TRAFFIC, Alert, AlertRule
from fleet.alerting.changes import route_changes
from fleet.codec import plain
from fleet.evals import DriftStatus, EvalRecord, QualityDrift, drift_since
from fleet.history import Entry, History, Notification, Notified, RollbackChecked, RolledBack
from fleet.names import version_of
from fleet.resources import FULL
from fleet.rollouts import AliasTarget, Phase
from fleet.rules import Retraining, RetrainingDue
from fleet.spec import FleetSpec, NotifyEvent

AGAIN_FOR = timedelta(days=1)
"""Time from a rollback during which its undelivered notification is tried again."""


def undecided_rollouts(
    wanted: Mapping[str, AliasTarget], history: History, now: datetime
) -> Iterator[Notification]:
    """Yield rollouts in which no gate will give a verdict any more, so that a person decides."""
    for alias, target in sorted(wanted.items()):
        if target.phase is Phase.UNDECIDED:
            percent = dict(target.shares).get(target.target, 0)
            stage = history.stages.get(alias)
            extensions = [
                mark.at.isoformat()
                for mark in history.marks.get(alias, ())
                if (mark.mark, mark.adapter) == ("extend", target.target)
            ]
            since = max([stage.since.isoformat() if stage else "", *extensions])
            facts = _facts(alias, target.target, now)
            facts |= {"percent": percent, "reason": str(target.note or target.why)}
            yield Notification("undecided", alias, f"{target.target} {percent} {since}", facts)


def drifted(
    alarms: Iterable[tuple[str, str, QualityDrift]],
    past: Mapping[str, Sequence[EvalRecord]],
    now: datetime,
) -> Iterator[Notification]:
    """Yield the drifts of quality: alias, version, and the finding of the rule.

    `past` has all evaluations by alias, the oldest first.
    """
    for alias, adapter, drift in alarms:
        facts = _facts(alias, adapter, now)
        facts |= {"measure": drift.measure, "rule": drift.rule, "standing": drift.standing.value}
        facts |= {"reason": drift.reason, "retrain": drift.standing is DriftStatus.RETRAIN}
        since = drift_since(past.get(alias, ()), adapter, drift)
        key = f"{adapter} {drift.rule} {drift.measure} {drift.standing.value} {since}"
        yield Notification("drifted", alias, key, facts)


def overdue_retrainings(retrainings: Iterable[Retraining], now: datetime) -> Iterator[Notification]:
    """Yield the retrainings that should have been done."""
    for due in retrainings:
        if due.urgency is RetrainingDue.OVERDUE:
            until = due.next.isoformat() if due.next else ""
            facts = _facts(due.alias, due.adapter, now) | {"reason": due.reason, "due": until}
            facts |= {"claimed_by": due.claim.by if due.claim else ""}
            yield Notification("retraining_overdue", due.alias, f"{due.adapter} {until}", facts)


def planned_retrainings(retrainings: Iterable[Retraining], now: datetime) -> Iterator[Notification]:
    """Yield the retrainings that are due soon, or claimed by a person, before they are overdue."""
    for due in retrainings:
        if due.urgency is RetrainingDue.DUE or (
            due.claim and due.urgency is not RetrainingDue.OVERDUE
        ):
            until = due.claim.until if due.claim else due.next
            day = until.date().isoformat() if until else ""
            facts = _facts(due.alias, due.adapter, now) | {"reason": due.reason, "due": day}
            facts |= {"claimed_by": due.claim.by if due.claim else ""}
            yield Notification("retraining_planned", due.alias, f"{due.adapter} {day}", facts)


def rollout_turns(entries: Iterable[Entry], now: datetime) -> Iterator[Notification]:
    """Yield the beginnings and ends of rollouts in the last day, of aliases that had a version."""
    for entry, alias, before, after in route_changes(entries):
        if not before or now - entry.time > AGAIN_FOR:
            continue
        new = after[0]
        had = next((share.percent for share in before if share.adapter == new.adapter), 0)
        stable = next((s.adapter for s in before if s.percent and s.adapter != new.adapter), "")
        if new.percent > had and stable:
            facts = _facts(alias, new.adapter, entry.time) | {"stable": version_of(stable)}
            facts |= {"percent": new.percent}
            if not had:
                yield Notification("rollout_started", alias, facts["at"], facts)
            if new.percent == FULL:
                yield Notification("rollout_finished", alias, facts["at"], facts)


def failed_gates(fleet: FleetSpec, history: History, now: datetime) -> Iterator[Notification]:
    """Yield declared versions that a gate has stopped before they got any traffic."""
    for alias, rejections in sorted(history.rejected.items()):
        declared = fleet.adapters.get(alias)
        for rejection in rejections.values():
            adapter, gate = rejection.adapter, rejection.gate
            if rejection.percent or declared is None or adapter != str(declared.name):
                continue
            facts = _facts(alias, adapter, now) | {"stable": version_of(rejection.stable)}
            facts |= {"gate": gate, "reason": rejection.finding.reason}
            yield Notification("gate_failed", alias, f"{adapter} {gate} {rejection.seq}", facts)


def rollbacks(entries: Iterable[Entry], now: datetime) -> Iterator[Notification]:
    """Yield the rollbacks of the last day, for recipients without a delivered notification.

    The ledger keeps no answers of a smoke test, so the notification has none.
    """
    made: dict[str, dict[str, Any]] = {}
    for entry in entries:
        event = entry.event
        if not isinstance(event, RolledBack | RollbackChecked) or now - entry.time > AGAIN_FOR:
            continue
        key = f"{event.alias} {event.decided}"
        if isinstance(event, RolledBack):
            facts = made.setdefault(key, _of_rollback(event, entry.by))
            facts["held"] += [event.adapter] if event.adapter else []
        elif key in made:
            smoke = {"failures": [], "warnings": [], "seconds": 0.0, **asdict(event.smoke)}
            good = event.smoke_ok_s is not None and not made[key]["failures"]
            made[key] |= {"smoke": smoke, "smoke_ok_s": event.smoke_ok_s, "complete": good}
    for facts in made.values():
        was = ", ".join(f"{version_of(name)} at {part} %" for name, part in facts["before"] if part)
        facts["from"] = ", ".join(map(version_of, facts["held"])) or was
        yield Notification("rolled_back", facts["alias"], facts["decided"], facts)


def _of_rollback(event: RolledBack, by: str) -> dict[str, Any]:
    nothing = {"passed": 0, "total": 0, "telling": None, "seconds": 0.0}
    return {
        "alias": event.alias,
        "target": event.to,
        "to": version_of(event.to),
        "before": [[name, part] for name, part in event.before.items()],
        "held": [],
        "revision": event.revision,
        "decided": event.decided,
        "seconds": event.seconds,
        "acknowledged": list(event.acknowledged),
        "failures": list(event.failures),
        "reason": event.reason,
        "cause": event.cause or by,
        "smoke": {**nothing, "failures": [], "warnings": []},
        "smoke_ok_s": None,
        "warnings": [],
        "complete": False,
    }


def failed_drill(
    alias: str, target: str, reasons: Sequence[str], now: datetime, key: str = ""
) -> Notification:
    """Return the event of a failed drill; without a `key`, every failure is notified."""
    facts = _facts(alias, target, now) | {"reasons": list(reasons)}
    return Notification("drill_failed", alias, key or f"{target} {now.isoformat()}", facts)


def ledger_away(entries: Sequence[Entry], why: str, now: datetime) -> Notification:
    """Return the event that the ledger cannot be read, after its known `entries`."""
    read = [entry for entry in entries if entry.hash]  # a queued entry has no hash yet
    as_of = read[-1].time.isoformat(timespec="seconds") if read else ""
    facts = _facts("", "", now) | {"reason": why, "as_of": as_of}
    return Notification("ledger_away", "", f"after {len(read)}", facts)


def alert_notices(
    alerts: Sequence[Alert], entries: Iterable[Entry], now: datetime
) -> Iterator[Notification]:
    """Yield the alerts that begin, a single alert for a cause, and those that ended in a day.

    An end is told where the beginning was. Alerts of the rule `event` have notices of their own.
    """
    told = {entry.event.key for entry in entries if isinstance(entry.event, Notified)}
    for alert in alerts:
        ended = alert.until is not None and now - alert.until < AGAIN_FOR
        key = f"{alert.id} {alert.since.isoformat()}"
        if alert.rule is AlertRule.EVENT or not (
            (alert.stands and not alert.silenced_by) or (ended and key in told)
        ):
            continue
        also = [other.id for other in alerts if other.silenced_by == alert.id and other.stands]
        facts = {**plain(replace(alert, baseline=None)), "also": also}
        alias = alert.subject if alert.rule in OF_TRAFFIC else ""
        facts |= _facts(alias, "", now)
        if ended:
            yield Notification("alert_resolved", alias, key, facts)
        else:
            yield Notification("alert", alias, key, facts)


def as_told(
    alerts: Iterable[Alert], known: Iterable[Alert], entries: Iterable[Entry], now: datetime
) -> tuple[Alert, ...]:
    """Return alerts, those that are not `known` here with the begin that another watcher told of.

    A begin of the last day counts whose end was not told: it is the same alert, and no new notice.
    """
    begun, here = dict[str, datetime](), {alert.id for alert in known}
    for entry in entries:
        event = entry.event
        if isinstance(event, Notified) and event.delivered and now - entry.time < AGAIN_FOR:
            name, _, since = (event.key or "").rpartition(" ")
            if event.event == "alert":
                begun[name] = datetime.fromisoformat(since)
            elif event.event == "alert_resolved":
                begun.pop(name, None)
    return tuple(
        replace(alert, since=begun[alert.id])
        if alert.stands and alert.id in begun and alert.id not in here
        else alert
        for alert in alerts
    )


def _facts(alias: str, adapter: str, now: datetime) -> dict[str, Any]:
    at = now.isoformat(timespec="seconds")
    return {"alias": alias, "version": version_of(adapter), "adapter": adapter, "at": at}


OF_A_CLIENT: Mapping[NotifyEvent, tuple[str, ...]] = {
    "rolled_back": ("alias", "decided", "seconds", "from", "to", "complete"),
    "gate_failed": ("alias", "version", "stable", "at"),
    "undecided": ("alias", "version", "percent", "at"),
    "drifted": ("alias", "version", "measure", "at"),
    "drill_failed": ("alias", "at"),
    "retraining_overdue": ("alias", "version", "at"),
    "retraining_planned": ("alias", "version", "due", "at"),
    "rollout_started": ("alias", "version", "stable", "percent", "at"),
    "rollout_finished": ("alias", "version", "stable", "at"),
}
"""Facts that a client may see; no server, gateway, person or other client is among them."""
