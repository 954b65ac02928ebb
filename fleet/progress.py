"""Progress: what an apply tells while it runs, as data.

Types and their fields, besides those of `Event`:

    plan_started    steps, changes, trigger
    lock_acquired   token
    lock_lost       detail
    recovered       step, how (done, undone): how a step ended that an earlier run began
    step_begin      step, n, of
    step_progress   step, seconds: still running
    step_done       step, how (done, adopted), seconds, warnings, n, of
    step_failed     step, seconds, summary, detail, n, of
    step_stale      step, detail, n, of
    step_blocked    step, by (the step it waits for), n, of
    interrupted     running: steps that are being finished
    verified        converged, remaining (addresses), notes
    run_complete    result, exit_code, done, adopted, failed, stale, blocked, not_run, seconds
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

VERSION = 1
"""Of the event stream; additions keep it."""


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened; `data` is plain JSON."""

    type: str
    data: Mapping[str, Any]


Emit = Callable[[Event], None]
"""Takes events in the order in which they happened; must not block."""
