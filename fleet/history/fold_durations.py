"""Folds the seconds that starts and loads took: what the next ones are estimated by."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from fleet.history.apply_events import StepFinished
from fleet.history.fold_passes import PassesFold
from fleet.names import step_parts
from fleet.resources import Resource
from fleet.steps import duration_key

STEADY: Final = 1.5
"""Least factor between a duration and the known duration that makes way: so a plan that is made
again shows the same seconds."""


@dataclass(slots=True)
class DurationsFold(PassesFold):
    """Durations while entries are being added; the field is that of `History`."""

    durations: dict[str, float] = field(default_factory=dict)

    def timed(self, event: StepFinished, after: Resource | None, took: timedelta | None) -> None:
        """Take the duration of a start or a load that a run did itself; others are passed over."""
        key = duration_key(step_parts(event.step)[0], after)
        if not key or took is None or event.how != "done":
            return
        seconds, known = round(max(took.total_seconds(), 0.1), 1), self.durations.get(key)
        if known is None or not known / STEADY <= seconds <= known * STEADY:
            self.durations[key] = seconds
