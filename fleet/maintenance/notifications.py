"""Decides which events people are notified of, once an event.

An event that lasts (a rollout that waits for people, a drift, an overdue retraining) is notified
once; an event that ends and comes again is another one. A notification that was not delivered is
tried again, an hour later at the earliest.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from fleet.evals import DriftStatus, EvalRecord, QualityDrift
from fleet.evals import drift_since as lasting_since
from fleet.history import Entry, History, Notified, RollbackChecked, RolledBack
from fleet.maintenance.retraining import Retraining, RetrainingDue
from fleet.names import version_of
from fleet.rollouts import AliasTarget, Phase
from fleet.spec import FleetSpec, NotifyEvent

AGAIN = timedelta(hours=1)
"""Least time between two attempts to deliver the same notice."""
AGAIN_FOR = timedelta(days=1)
"""How long whom the notice of a rollback did not reach is tried again."""


@dataclass(frozen=True, slots=True)
class Notification:
    """Something that people are told once."""

    event: NotifyEvent
    alias: str
    key: str
    """What makes it this one; an occasion with another key is told anew."""
    facts: Mapping[str, Any]
    """For operators, in plain form; a client sees those of `fleet.events.OF_A_CLIENT`."""


def undecided_rollouts(
    wanted: Mapping[str, AliasTarget], history: History, now: datetime
) -> Iterator[Notification]:
    """Yield rollouts in which no gate will tell any more, so that a person decides."""
    for alias, target in sorted(wanted.items()):
        if target.phase is Phase.UNDECIDED:
            percent = dict(target.shares).get(target.target, 0)
            stage = history.stages.get(alias)
            since = stage.since.isoformat() if stage else ""
            marks = history.marks.get(alias, ())
            longer = [m.at for m in marks if (m.mark, m.adapter) == ("extend", target.target)]
            since = max(since, *(at.isoformat() for at in longer)) if longer else since
            facts = _facts(alias, target.target, now) | {
                "percent": percent,
                "reason": target.held or target.why,
            }
            yield Notification("undecided", alias, f"{target.target} {percent} {since}", facts)


def drifted(
    alarms: Iterable[tuple[str, str, QualityDrift]],
    past: Mapping[str, Sequence[EvalRecord]],
    now: datetime,
) -> Iterator[Notification]:
    """Yield the drifts of quality.

    Args:
        alarms: Alias, version, and what the rule says of it.
        past: By alias: all evaluations, oldest first.
        now: The time.
    """
    for alias, adapter, each in alarms:
        facts = _facts(alias, adapter, now)
        facts |= {"measure": each.measure, "rule": each.rule, "standing": each.standing.value}
        facts |= {"reason": each.reason, "retrain": each.standing is DriftStatus.RETRAIN}
        begun = lasting_since(past.get(alias, ()), adapter, each)
        key = f"{adapter} {each.rule} {each.measure} {each.standing.value} {begun}"
        yield Notification("drifted", alias, key, facts)


def overdue_retrainings(turns: Iterable[Retraining], now: datetime) -> Iterator[Notification]:
    """Yield the retrainings that should have been done."""
    for turn in turns:
        if turn.turn is RetrainingDue.OVERDUE:
            until = turn.next.isoformat() if turn.next else ""
            facts = _facts(turn.alias, turn.adapter, now)
            facts |= {"reason": turn.reason, "due": until}
            facts |= {"claimed_by": turn.claim.by if turn.claim else ""}
            yield Notification("retraining_overdue", turn.alias, f"{turn.adapter} {until}", facts)


def failed_gates(fleet: FleetSpec, history: History, now: datetime) -> Iterator[Notification]:
    """Yield declared versions that a gate has stopped before they got any traffic."""
    for alias, found in sorted(history.rejected.items()):
        declared = fleet.adapters.get(alias)
        for item in found.values():
            if item.percent or declared is None or item.adapter != str(declared.name):
                continue
            facts = _facts(alias, item.adapter, now) | {"stable": version_of(item.stable)}
            facts |= {"gate": item.gate, "reason": item.finding.reason}
            yield Notification(
                "gate_failed", alias, f"{item.adapter} {item.gate} {item.seq}", facts
            )


def rollbacks(entries: Iterable[Entry], now: datetime) -> Iterator[Notification]:
    """Yield the rollbacks of the last day, for recipients without a delivered notification.

    What the ledger does not keep of one (what exactly the smoke test said) is not told.
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
    """Return the event that the ledger cannot be read; `entries` are the known ones."""
    read = [entry for entry in entries if entry.hash]  # what is queued has none yet
    as_of = read[-1].time.isoformat(timespec="seconds") if read else ""
    facts = _facts("", "", now) | {"reason": why, "as_of": as_of}
    return Notification("ledger_away", "", f"after {len(read)}", facts)


def _facts(alias: str, adapter: str, now: datetime) -> dict[str, Any]:
    at = now.isoformat(timespec="seconds")
    return {"alias": alias, "version": version_of(adapter), "adapter": adapter, "at": at}


def is_due(entries: Iterable[Entry], notification: Notification, to: str, now: datetime) -> bool:
    """Say whether a reader is still to be told of an occasion.

    Args:
        entries: The ledger, oldest first.
        notification: The occasion.
        to: Who, as `notified` entries name them.
        now: The time.
    """
    about = (notification.event, notification.alias, notification.key, to)
    notices = [
        (event.delivered, entry.time)
        for entry in entries
        if isinstance(event := entry.event, Notified)
        and about == (event.event, event.alias, event.key or event.decided, event.to)
    ]
    delivered, time = notices[-1] if notices else (False, now - AGAIN)
    return not delivered and now - time >= AGAIN


OF_A_CLIENT: Mapping[NotifyEvent, tuple[str, ...]] = {
    "rolled_back": ("alias", "decided", "seconds", "from", "to", "complete"),
    "gate_failed": ("alias", "version", "stable", "at"),
    "undecided": ("alias", "version", "percent", "at"),
    "drifted": ("alias", "version", "measure", "at"),
    "drill_failed": ("alias", "at"),
    "retraining_overdue": ("alias", "version", "at"),
}
"""Facts that a client may see; no server, gateway, person or other client is among them."""
