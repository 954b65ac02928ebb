"""Decides which aliases are due for retraining, which claim stands, and which drills are due.

Only an alias that declares `drill` is practised. A drill that something prevents (a rollout under
way, a closed change window, no version to go back to) stays due.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from fleet.evals import DriftStatus, EvalRecord, drifts
from fleet.history import (
    Adopted,
    Claim,
    Drilled,
    DrillRefused,
    Entry,
    RetrainFinished,
    StepFinished,
)
from fleet.names import AdapterName, Version, adapter_of_address, alias_parts
from fleet.spec import FleetSpec

LEAD = 0.1
"""Part of the cadence before its end in which a retraining is due and not yet overdue."""
LONGEST_LEAD = timedelta(days=7)


class RetrainingDue(StrEnum):
    """Whether an adapter should be retrained, the most urgent value first."""

    OVERDUE = "overdue"
    AD_HOC = "ad hoc"
    """Outside the cadence: the accuracy has drifted, or a person has claimed the retraining."""
    DUE = "due"
    UNKNOWN = "unknown"
    """There is a cadence, and the ledger has no time of the training or the first load."""
    FRESH = "fresh"
    NO_CADENCE = "no cadence"


@dataclass(frozen=True, slots=True)
class Retraining:
    """An alias's declared version, and whether a newer version is due."""

    alias: str
    adapter: str
    urgency: RetrainingDue
    reason: str
    trained: datetime | None
    """Time of the training; where that is not known, of the first load."""
    next: datetime | None
    """Time by which the next retraining should be done."""
    claim: Claim | None


def due_retrainings(
    fleet: FleetSpec,
    entries: Sequence[Entry],
    past: Mapping[str, Sequence[EvalRecord]],
    claims: Mapping[str, Claim],
    now: datetime,
) -> tuple[Retraining, ...]:
    """Return the retraining of every alias, the most urgent first."""
    times, ranks, found = trained(entries), list(RetrainingDue), []
    for alias, adapter in fleet.adapters.items():
        name = str(adapter.name)
        claim = standing_claim(claims, alias, now)
        since = times.get(name)
        tier = fleet.tiers.get(adapter.tier)
        every = tier.retrain_every if tier else None
        until = since + every if since and every else None
        urgency, reason = _cadence(every, until, now)
        for drift in drifts(past.get(alias, ()), name):
            if drift.standing is DriftStatus.RETRAIN and urgency is not RetrainingDue.OVERDUE:
                urgency, reason = RetrainingDue.AD_HOC, drift.reason
        if claim and ranks.index(urgency) >= ranks.index(RetrainingDue.UNKNOWN):
            urgency, reason = RetrainingDue.AD_HOC, claim.reason or "claimed"
        found.append(Retraining(alias, name, urgency, reason, since, until, claim))
    return tuple(sorted(found, key=lambda due: (ranks.index(due.urgency), due.alias)))


def trained(entries: Iterable[Entry]) -> dict[str, datetime]:
    """Return the time of training by version, else the time of the first load or adoption."""
    known: dict[str, datetime] = {}
    loaded: dict[str, datetime] = {}
    for entry in entries:
        match entry.event:
            case RetrainFinished(adapter=adapter):
                known[adapter] = entry.time
            case StepFinished(address=address) | Adopted(address=address):
                if adapter := adapter_of_address(address):
                    loaded.setdefault(adapter, entry.time)
            case _:
                pass
    return {**loaded, **known}


def _cadence(
    every: timedelta | None, until: datetime | None, now: datetime
) -> tuple[RetrainingDue, str]:
    if every is None:
        return RetrainingDue.NO_CADENCE, "its tier has no `retrain_every`"
    if until is None:
        return RetrainingDue.UNKNOWN, "the ledger does not say when it was trained or loaded"
    rest = until - now
    if rest <= timedelta(0):
        return RetrainingDue.OVERDUE, f"{(-rest).days} days over"
    if rest <= min(every * LEAD, LONGEST_LEAD):
        return RetrainingDue.DUE, f"{max(rest.days, 0)} days left"
    return RetrainingDue.FRESH, f"{rest.days} days left"


def standing_claim(claims: Mapping[str, Claim], alias: str, now: datetime) -> Claim | None:
    """Return the claim on an alias's retraining; None: no claim, or the claim has run out."""
    claim = claims.get(alias)
    return claim if claim and now < claim.until else None


def next_version(alias: str, base: str, known: Iterable[str]) -> AdapterName:
    """Return the name of the next version: the newest known version of the alias, plus a patch."""
    client, task = alias_parts(alias)
    versions = [name.version for name in map(AdapterName.parse, known) if name.alias == alias]
    if not versions:
        return AdapterName(client, task, base, Version(1, 0, 0))
    last = max(versions)
    return AdapterName(client, task, base, replace(last, patch=last.patch + 1))


LATE = 0.1
"""Part of the interval after which a drill that is due is overdue."""
RETRY = timedelta(hours=1)
"""Least time between a drill that failed and the next drill."""


class DrillDue(StrEnum):
    """Whether a rollback should be practised, the most urgent value first."""

    FAILED = "failed"
    """The last drill failed: a rollback would not succeed."""
    OVERDUE = "overdue"
    DUE = "due"
    FRESH = "fresh"


@dataclass(frozen=True, slots=True)
class DrillRecord:
    """Drills of an alias: the last drills, and whether another is due."""

    alias: str
    every: timedelta
    last: datetime | None
    """Time of the last drill that succeeded; None: no drill has."""
    tried: datetime | None
    """Time of the last drill."""
    due: datetime | None
    """Time from which a drill is due; None: it is not known since when there is a way back."""
    urgency: DrillDue
    waits: str
    """Reason that prevents a drill now, without its full stop; empty: no reason."""

    def may_begin(self, now: datetime) -> bool:
        """Say whether the drill is to be carried out now."""
        recent = self.tried is not None and now - self.tried < RETRY
        paused = self.urgency is DrillDue.FAILED and recent
        return self.urgency is not DrillDue.FRESH and not self.waits and not paused


def due_drills(
    fleet: FleetSpec,
    entries: Sequence[Entry],
    since: Mapping[str, datetime],
    waits: Mapping[str, str],
    now: datetime,
) -> tuple[DrillRecord, ...]:
    """Return the drills of every alias whose rollout declares `drill`, the most urgent first.

    By alias, `since` is the time from which there is a version to go back to, where that is known,
    and `waits` the reason that prevents a drill now. Entries are sorted, the oldest first.
    """
    drills = ((entry.event, entry.time) for entry in entries)
    tried = {event.alias: at for event, at in drills if isinstance(event, Drilled | DrillRefused)}
    last = last_drills(entries)
    records = []
    for alias, adapter in fleet.adapters.items():
        if every := fleet.rollouts[adapter.rollout].drill:
            due = last[alias] + every if alias in last else since.get(alias)
            if tried.get(alias) != last.get(alias):
                urgency = DrillDue.FAILED
            elif due is not None and now < due:
                urgency = DrillDue.FRESH
            else:
                late = due is not None and now - due > every * LATE
                urgency = DrillDue.OVERDUE if late else DrillDue.DUE
            times = (last.get(alias), tried.get(alias), due)
            records.append(DrillRecord(alias, every, *times, urgency, waits.get(alias, "")))
    return tuple(sorted(records, key=_rank))


def last_drills(entries: Iterable[Entry]) -> dict[str, datetime]:
    """Return the time of the last successful drill, by alias."""
    return {
        entry.event.alias: entry.time
        for entry in entries
        if isinstance(entry.event, Drilled) and entry.event.complete
    }


def _rank(record: DrillRecord) -> tuple[int, bool, float, str]:
    since = record.due.timestamp() if record.due else 0.0
    return list(DrillDue).index(record.urgency), record.due is None, since, record.alias
