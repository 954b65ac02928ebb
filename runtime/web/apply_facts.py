"""Gather the facts of applies: the newest, and a single apply with its steps."""

from datetime import datetime

from fleet.history import ApplyFinished, ApplyStarted, Entry, StepFailed, StepFinished, StepStarted
from fleet.usage import Operator
from runtime.web.facts import Document, PlanPage, PlansPage
from runtime.web.gather import heading, iso, newest
from runtime.web.snapshot import FleetSnapshot


def plans_page(seen: FleetSnapshot, scope: Operator, now: datetime) -> PlansPage:
    """Return the facts of the newest applies."""
    starts = newest(seen.status.entries, lambda event: isinstance(event, ApplyStarted))
    ends = {
        entry.run: entry for entry in seen.status.entries if isinstance(entry.event, ApplyFinished)
    }
    return PlansPage(
        heading(seen, scope, now), tuple(_apply(entry, ends.get(entry.run)) for entry in starts)
    )


def _apply(start: Entry, end: Entry | None) -> Document:
    begun = start.event
    assert isinstance(begun, ApplyStarted)
    ended = end.event if end and isinstance(end.event, ApplyFinished) else None
    return {
        "run": start.run,
        "plan": begun.plan_id,
        "by": start.by,
        "trigger": begun.trigger,
        "commit": begun.commit,
        "at": iso(start.time),
        "seconds": (end.time - start.time).total_seconds() if end else None,
        "steps": begun.steps,
        "result": ended.result if ended else "not finished",
    }


def plan_page(seen: FleetSnapshot, scope: Operator, now: datetime, run: str) -> PlanPage | None:
    """Return the facts of an apply with its steps; None: there is no such run."""
    page = plans_page(seen, scope, now)
    found = next((apply for apply in page.applies if apply["run"] == run), None)
    if found is None:
        return None
    begun: dict[str, datetime] = {}
    steps: list[Document] = []
    for entry in seen.status.entries:
        if entry.run != run:
            continue
        match entry.event:
            case StepStarted(step=step):
                begun[step] = entry.time
            case StepFinished(step=step, address=address):
                steps.append(_step(step, address, begun.get(step), entry, ""))
            case StepFailed(step=step, address=address) as event:
                steps.append(
                    _step(step, address, begun.get(step), entry, f"{event.summary}: {event.detail}")
                )
            case _:
                pass
    return PlanPage(page.heading, found, tuple(steps))


def _step(step: str, address: str, begun: datetime | None, end: Entry, error: str) -> Document:
    return {
        "step": step,
        "address": address,
        "start": iso(begun or end.time),
        "end": iso(end.time),
        "error": error,
    }
