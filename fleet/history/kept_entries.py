"""Tells which entries of a ledger still count, so that no command reads a long past.

A checkpoint keeps these entries beside the folded history. Readers of `standing` entries find in
them the same as in all: the last of what is repeated, the first loads of versions, all evaluations
but repeated ones, what has not ended, and everything of the last day.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, TypeAlias

from fleet.history.apply_events import (
    Adopted,
    ApplyFinished,
    ApplyStarted,
    BackedUp,
    BackupDrilled,
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
    Notified,
    Released,
    RetrainFinished,
    RolledBack,
)
from fleet.history.values import History
from fleet.names import Address, adapter_of_address, address_parts

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
