"""List the deployments of an adapter version: person, server, share of traffic."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from fleet.history.apply_events import (
    Adopted,
    ApplyFinished,
    ApplyStarted,
    Document,
    StepFailed,
    StepFinished,
    StepStarted,
)
from fleet.history.events import Entry
from fleet.history.rollout_events import GateJudged, RolledBack, RolloutMarked
from fleet.names import AdapterName, adapter_of_address, route_address, server_of_address
from fleet.plan import Plan


@dataclass(frozen=True, slots=True)
class Deployment:
    """An event in the life of a version."""

    time: datetime
    by: str
    what: str
    """Such as `loaded on llama3_8b-rack1-gpu0` or `10 % of the traffic`."""


def deployments_of(entries: Iterable[Entry], name: AdapterName) -> Iterator[Deployment]:
    """Yield the deployments of a version, oldest first; a share only when it changed."""
    begun: dict[str, Document] = {}
    share: int | None = None
    for entry in entries:
        match entry.event:
            case StepStarted() as event:
                begun[event.step] = event.operation
                continue
            case StepFinished() as event:
                operation = begun.pop(event.step, event.operation or {})
            case RolledBack(alias=name.alias) as event:
                if event.to == str(name):
                    yield Deployment(entry.time, entry.by, "rolled back to")
                    share = 100
                elif share:
                    reason = f": {event.reason}" if event.reason else ""
                    yield Deployment(entry.time, entry.by, f"rolled back{reason}")
                    share = 0
                continue
            case Adopted(address=address) if adapter_of_address(address) == str(name):
                server = server_of_address(address)
                yield Deployment(entry.time, entry.by, f"found on {server} and adopted")
                continue
            case _:
                continue
        now = _share(operation, name)
        if now is not None and now != (share or 0):
            yield Deployment(entry.time, entry.by, f"{now} % of the traffic")
        share = share if now is None else now
        loaded = _loaded(operation, name)
        if loaded:
            yield Deployment(entry.time, entry.by, loaded)


def tried_versions(entries: Iterable[Entry], alias: str) -> list[str]:
    """Return the full names of the versions in verdicts, marks and rollbacks of an alias."""
    return [
        event.adapter
        for event in (entry.event for entry in entries)
        if isinstance(event, GateJudged | RolledBack | RolloutMarked)
        if event.alias == alias and event.adapter
    ]


def carried_out(entries: Iterable[Entry], plan_id: str) -> datetime | None:
    """Return the end of a plan's apply, if an apply of another plan has begun since.

    Such a plan may match what is live by chance: it was reviewed for another moment.
    """
    ended: datetime | None = None
    since = False
    for entry in entries:
        event = entry.event
        if isinstance(event, ApplyFinished) and event.plan_id == plan_id:
            ended = entry.time if event.result == "converged" else None
            since = False
        elif isinstance(event, ApplyStarted) and ended is not None:
            since = since or event.plan_id != plan_id
    return ended if since else None


def overtaken(entries: Iterable[Entry], plan: Plan, length: int) -> Iterator[str]:
    """Yield, as lines, the events since a plan was made that make the plan too old.

    Another plan that a person applied; a step of any plan, or a rollback, at an address that the
    plan changes. Repairs and promotions elsewhere leave the plan as it was reviewed.

    `entries`: those after the ledger's end at that time; `length`: how many the ledger has.
    """
    others = dict[str, str]()
    ours = {change.address for change in plan.changes} | {step.address for step in plan.steps}
    for entry in entries:
        event, at = entry.event, f"{entry.time:%Y-%m-%d %H:%M} UTC"
        match event:
            case ApplyStarted(plan_id=other, trigger="apply", steps=steps):
                if other != plan.id and steps:
                    others.setdefault(other, f"plan {other} was applied by {entry.by}, {at}")
            case StepStarted(plan_id=other, address=address):
                if other != plan.id and address in ours:
                    others.setdefault(address, f"{address} was changed by plan {other}, {at}")
            case RolledBack(alias=alias):
                address = route_address(alias)
                if address in ours:
                    others[address] = f"{address} was rolled back by {entry.by}, {at}"
            case _:
                pass
    if length < plan.ledger_seq:
        yield f"the ledger, which had {plan.ledger_seq} entries, has {length}"
    yield from others.values()


def undone_steps(entries: Iterable[Entry]) -> dict[str, StepFailed]:
    """Return by id the steps that failed and were not done since.

    A stale step is none: what the plan was made from had changed.
    """
    failed: dict[str, StepFailed] = {}
    for entry in entries:
        match entry.event:
            case StepFailed(stale=False) as event:
                failed[event.step] = event
            case StepFinished(step=step):
                failed.pop(step, None)
            case _:
                pass
    return failed


def _share(operation: Document, name: AdapterName) -> int | None:
    """Return a version's percentage on its alias's route; None: about something else."""
    route = operation.get("route", {})
    if operation.get("verb") == "delete_route" and route.get("alias") == name.alias:
        return 0
    if operation.get("verb") != "set_route" or route.get("alias") != name.alias:
        return None
    return next((int(s["percent"]) for s in route["shares"] if s["adapter"] == str(name)), 0)


def _loaded(operation: Document, name: AdapterName) -> str:
    adapter = operation.get("adapter", {})
    words = {"load": "loaded on", "unload": "unloaded from"}.get(operation.get("verb", ""))
    if words is None or adapter.get("adapter") != str(name):
        return ""
    return f"{words} {adapter['server']}"
