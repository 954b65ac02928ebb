"""Folds the changes of routes into the traffic that moved in the last 24 hours."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from fleet.resources import Route

DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class TrafficShift:
    """A change of a route by which other versions answer."""

    at: datetime
    percent: int
    """Of the alias's requests, those that another version answers than before."""


@dataclass(slots=True)
class TrafficFold:
    """Shifts of traffic while entries are being added; the field is that of `History`."""

    shifts: dict[str, tuple[TrafficShift, ...]] = field(default_factory=dict)

    def shifted(self, before: object, after: Route, at: datetime) -> None:
        """Take the change of a route, and forget the shifts of a day before."""
        if not isinstance(before, Route):
            return
        old = {share.adapter: share.percent for share in before.shares}
        moved = sum(max(its.percent - old.get(its.adapter, 0), 0) for its in after.shares)
        if moved:
            kept = (its for its in self.shifts.get(after.alias, ()) if at - its.at < DAY)
            self.shifts[after.alias] = (*kept, TrafficShift(at, moved))
