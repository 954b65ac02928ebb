"""Decides which aliases are due for retraining, and which claim on a retraining stands."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from fleet.evals import DriftStatus, EvalRecord, drifts
from fleet.history import Adopted, Claim, Entry, RetrainFinished, StepFinished
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
    turn: RetrainingDue
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
    times, urgency, found = trained(entries), list(RetrainingDue), []
    for alias, adapter in fleet.adapters.items():
        name = str(adapter.name)
        claim = standing_claim(claims, alias, now)
        since = times.get(name)
        tier = fleet.tiers.get(adapter.tier)
        every = tier.retrain_every if tier else None
        until = since + every if since and every else None
        turn, reason = _cadence(every, until, now)
        for drift in drifts(past.get(alias, ()), name):
            if drift.standing is DriftStatus.RETRAIN and turn is not RetrainingDue.OVERDUE:
                turn, reason = RetrainingDue.AD_HOC, drift.reason
        if claim and urgency.index(turn) >= urgency.index(RetrainingDue.UNKNOWN):
            turn, reason = RetrainingDue.AD_HOC, claim.reason or "claimed"
        found.append(Retraining(alias, name, turn, reason, since, until, claim))
    return tuple(sorted(found, key=lambda due: (urgency.index(due.turn), due.alias)))


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
