"""Tells which entries of a ledger still count, and reads the deployments of a version.

A checkpoint keeps these entries beside the folded history. Readers of `standing` entries find in
them the same as in all: the last of what is repeated, the first loads of versions, all evaluations
but repeated ones, what has not ended, and everything of the last day.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, TypeAlias

from fleet.history.apply_events import (
    Adopted,
    ApplyFinished,
    ApplyStarted,
    BackedUp,
    BackupDrilled,
    Document,
    StepFailed,
    StepFinished,
    StepStarted,
)
from fleet.history.events import Entry
from fleet.history.rollout_events import (
    Drilled,
    DrillRefused,
    DrillStarted,
    DrillUndone,
    EvalFinished,
    GateJudged,
    Notified,
    Released,
    RetrainFinished,
    RolledBack,
    RolloutMarked,
)
from fleet.history.values import History
from fleet.names import (
    AdapterName,
    Address,
    adapter_of_address,
    address_parts,
    route_address,
    server_of_address,
)
from fleet.plan import Plan

RECENT: Final = timedelta(hours=25)
"""Time before a later entry in which all entries count: notices of a day, healing of an hour."""
_ROLLING: Final = "rolling"
_Key: TypeAlias = tuple[object, ...]


@dataclass(slots=True)
class _Kept:
    """Places of entries that count, while those before the last day are read."""

    last: dict[_Key, int] = field(default_factory=dict)
    first: dict[_Key, int] = field(default_factory=dict)
    failed: dict[str, tuple[int, int]] = field(default_factory=dict)
    """By step that failed and was not done since: its first and last failure."""
    begun: dict[str, int] = field(default_factory=dict)
    """By step on a route that has not ended: its start."""

    def take(self, place: int, entry: Entry) -> None:
        """Note the place of an entry."""
        for key in _subjects(entry):
            self.last[key] = place
        match entry.event:
            case StepStarted(step=step, address=address) if _is_route(address):
                self.begun[step] = place
            case StepFailed(step=step, stale=False):
                self.failed[step] = self.failed.get(step, (place, place))[0], place
            case StepFinished(step=step, address=address):
                self.failed.pop(step, None)
                if _is_route(address):
                    self.last["begun", address] = self.begun.pop(step, place)
                    self.last["set", address] = place
                elif adapter := adapter_of_address(Address(address)):
                    self.first.setdefault(("loaded", adapter), place)
            case Adopted(address=address) if adapter := adapter_of_address(Address(address)):
                self.first.setdefault(("loaded", adapter), place)
            case _:
                pass

    def places(self) -> set[int]:
        """Return all places."""
        pairs = (place for pair in self.failed.values() for place in pair)
        return {*self.last.values(), *self.first.values(), *self.begun.values(), *pairs}


def standing_entries(entries: Sequence[Entry], history: History) -> list[Entry]:
    """Return the entries that still count, in order.

    Those of some first entries, with all entries since, have the same result as all entries.
    `history`: all entries folded.
    """
    judged = {item.seq for found in history.evidence.values() for item in found}
    judged |= {item.seq for found in history.rejected.values() for item in found.values()}
    recent, kept = _recent(entries), _Kept()
    for place, entry in enumerate(entries):
        if place not in recent:
            kept.take(place, entry)
    places = kept.places() | recent
    return [e for place, e in enumerate(entries) if place in places or e.seq in judged]


def _recent(entries: Sequence[Entry]) -> set[int]:
    """Return the places of entries that no entry after them is much later than."""
    found, latest = set[int](), entries[-1].time if entries else None
    for place, entry in reversed([*enumerate(entries)]):
        latest = entry.time if latest is None else max(latest, entry.time)
        if latest - entry.time <= RECENT:
            found.add(place)
    return found


def _is_route(address: str) -> bool:
    return address_parts(Address(address))[0] == "route"


def _subjects(entry: Entry) -> Iterator[_Key]:
    """Yield the subjects of which an entry says the last."""
    match entry.event:
        case ApplyStarted() | ApplyFinished() | BackedUp() as event:
            yield (event.kind,)
        case BackupDrilled(sha256=sha256) as event:
            yield event.kind, sha256
        case Drilled() | DrillRefused() as event:
            yield event.kind, event.alias
            if event.complete:
                yield event.kind, event.alias, "complete"
        case DrillStarted() | DrillUndone() | RolledBack() | Released() as event:
            yield event.kind, event.alias
        case RetrainFinished(adapter=adapter) as event:
            yield event.kind, adapter
        case Notified() as event:
            key = event.key or event.decided
            yield event.kind, event.event, event.alias, key, event.to
        case EvalFinished() as event:
            yield _of_evaluation(entry, event)
        case _:
            pass
    if isinstance(entry.event, Released | Adopted):
        yield ("vouched",)


def _of_evaluation(entry: Entry, event: EvalFinished) -> _Key:
    """Return the subject of an evaluation.

    Of rolling ones the last of a version on a set counts, and of invalid ones the last; of
    all others every one.
    """
    about = event.kind, event.alias, event.adapter
    made_up = bool(event.summary.get("made_up"))
    if not event.summary.get("valid"):
        return *about, "invalid", made_up
    if event.purpose != _ROLLING:
        return *about, entry.seq
    levels = event.summary.get("levels") or {}
    measures = frozenset(name for name, level in levels.items() if level and level.get("n"))
    asked = str(event.summary.get("golden_digest", ""))
    return *about, asked, measures, made_up


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
