"""Decides which rollback drills are due, as often as declared.

Only an alias that declares `drill` is practised. What prevents a drill (a rollout under way, a
closed change window, no version to go back to) is said, and does not count as a drill.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from fleet.history import Drilled, DrillRefused, Entry
from fleet.spec import FleetSpec

LATE = 0.1
"""Part of the interval after which a drill that is due is overdue."""
RETRY = timedelta(hours=1)
"""How long after a drill that failed the next one is tried, at the earliest."""


class DrillDue(StrEnum):
    """Whether a rollback should be practised."""

    FRESH = "fresh"
    DUE = "due"
    OVERDUE = "overdue"
    FAILED = "failed"
    """The last one failed: a rollback would not succeed."""


@dataclass(frozen=True, slots=True)
class DrillRecord:
    """One alias's turn."""

    alias: str
    every: timedelta
    last: datetime | None
    """When one last succeeded; None: none ever did."""
    tried: datetime | None
    """When one was last tried."""
    due: datetime | None
    """Since or from when on one is due; None: nobody knows since when there is a way back."""
    turn: DrillDue
    waits: str
    """What prevents one now, as a sentence without its full stop; empty: nothing does."""

    def may_begin(self, now: datetime) -> bool:
        """Say whether the drill is to be carried out now."""
        paused = (
            self.turn is DrillDue.FAILED and self.tried is not None and now - self.tried < RETRY
        )
        return self.turn is not DrillDue.FRESH and not self.waits and not paused


_URGENCY = (DrillDue.FAILED, DrillDue.OVERDUE, DrillDue.DUE, DrillDue.FRESH)


def due_drills(
    fleet: FleetSpec,
    entries: Iterable[Entry],
    since: Mapping[str, datetime],
    waits: Mapping[str, str],
    now: datetime,
) -> tuple[DrillRecord, ...]:
    """Return the turn of every alias whose rollout declares `drill`, the most urgent first.

    Args:
        fleet: The declarations.
        entries: The ledger, oldest first.
        since: By alias: since when there is a version to go back to, where that is known.
        waits: By alias: what prevents a drill now.
        now: The time.
    """
    entries = list(entries)
    good = last_drills(entries)
    tried = {
        entry.event.alias: entry.time
        for entry in entries
        if isinstance(entry.event, Drilled | DrillRefused)
    }
    found = [
        _drill(alias, every, good.get(alias), tried.get(alias), since, waits, now)
        for alias, adapter in fleet.adapters.items()
        if (every := fleet.rollouts[adapter.rollout].drill)
    ]
    return tuple(sorted(found, key=lambda drill: (_URGENCY.index(drill.turn), _age(drill))))


def last_drills(entries: Iterable[Entry]) -> dict[str, datetime]:
    """Return the time of the last successful drill, by alias."""
    return {
        entry.event.alias: entry.time
        for entry in entries
        if isinstance(entry.event, Drilled) and entry.event.complete
    }


def _drill(
    alias: str,
    every: timedelta,
    last: datetime | None,
    tried: datetime | None,
    since: Mapping[str, datetime],
    waits: Mapping[str, str],
    now: datetime,
) -> DrillRecord:
    due = last + every if last else since.get(alias)
    if tried is not None and tried != last:
        turn = DrillDue.FAILED
    elif due is not None and now < due:
        turn = DrillDue.FRESH
    else:
        turn = DrillDue.OVERDUE if due is not None and now - due > every * LATE else DrillDue.DUE
    return DrillRecord(alias, every, last, tried, due, turn, waits.get(alias, ""))


def _age(drill: DrillRecord) -> tuple[bool, float, str]:
    """Return the key that sorts drills by how long they wait."""
    return drill.due is None, drill.due.timestamp() if drill.due else 0.0, drill.alias
