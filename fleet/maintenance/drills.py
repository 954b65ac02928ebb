"""Decides which rollback drills are due, as often as declared.

Only an alias that declares `drill` is practised. A drill that something prevents (a rollout under
way, a closed change window, no version to go back to) stays due.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from fleet.history import Drilled, DrillRefused, Entry
from fleet.spec import FleetSpec

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
    turn: DrillDue
    waits: str
    """Reason that prevents a drill now, without its full stop; empty: no reason."""

    def may_begin(self, now: datetime) -> bool:
        """Say whether the drill is to be carried out now."""
        recent = self.tried is not None and now - self.tried < RETRY
        paused = self.turn is DrillDue.FAILED and recent
        return self.turn is not DrillDue.FRESH and not self.waits and not paused


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
                turn = DrillDue.FAILED
            elif due is not None and now < due:
                turn = DrillDue.FRESH
            else:
                late = due is not None and now - due > every * LATE
                turn = DrillDue.OVERDUE if late else DrillDue.DUE
            times = (last.get(alias), tried.get(alias), due)
            records.append(DrillRecord(alias, every, *times, turn, waits.get(alias, "")))
    return tuple(sorted(records, key=_urgency))


def last_drills(entries: Iterable[Entry]) -> dict[str, datetime]:
    """Return the time of the last successful drill, by alias."""
    return {
        entry.event.alias: entry.time
        for entry in entries
        if isinstance(entry.event, Drilled) and entry.event.complete
    }


def _urgency(record: DrillRecord) -> tuple[int, bool, float, str]:
    """Return the key that sorts records by kind, and then by the time since when they are due."""
    since = record.due.timestamp() if record.due else 0.0
    return list(DrillDue).index(record.turn), record.due is None, since, record.alias
