"""Codes the events of a ledger, a type for every kind of entry, as the data of its lines.

The plain form of an event is the `data` of a line. A field that an older line lacks has its
default; a field or a kind that only a later release knows is passed over. A new kind needs a type
here, a place in the `match` of `fold`, and a sentence in `plans.reports.history`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeAlias, get_args

from fleet.decoding import decode
from fleet.encoding import plain
from fleet.history.apply_events import (
    Adopted,
    ApplyFinished,
    ApplyStarted,
    Collected,
    Document,
    EventFields,
    Noted,
    StepFailed,
    StepFinished,
    StepStarted,
)
from fleet.history.rollout_events import (
    Drilled,
    DrillRefused,
    DrillStarted,
    DrillUndone,
    EvalFinished,
    GateJudged,
    JudgeCompared,
    Notified,
    Released,
    RetrainClaimed,
    RetrainFinished,
    RetrainReleased,
    RetrainStarted,
    RollbackChecked,
    RolledBack,
    RolloutMarked,
)


@dataclass(frozen=True, slots=True)
class UnknownEvent(EventFields):
    """An event of a kind that only a later release knows."""

    kind: str
    data: Document


LedgerEvent: TypeAlias = (
    ApplyStarted
    | StepStarted
    | StepFinished
    | StepFailed
    | ApplyFinished
    | RolledBack
    | RollbackChecked
    | Notified
    | DrillStarted
    | Drilled
    | DrillRefused
    | DrillUndone
    | Collected
    | Released
    | Adopted
    | Noted
    | GateJudged
    | RolloutMarked
    | EvalFinished
    | JudgeCompared
    | RetrainClaimed
    | RetrainReleased
    | RetrainStarted
    | RetrainFinished
    | UnknownEvent
)
_KINDS: Mapping[str, type[LedgerEvent]] = MappingProxyType(
    {made.kind: made for made in get_args(LedgerEvent) if made not in (DrillRefused, UnknownEvent)}
)


def event_of(kind: str, data: Document) -> LedgerEvent:
    """Return the event of an entry's kind and data.

    Raises:
        MalformedError: a field is of another type.
    """
    made = _KINDS.get(kind)
    if made is None:
        return UnknownEvent(kind, data, entry_id=data.get("entry_id"), queued=data.get("queued"))
    if made is Drilled and "reason" in data:
        made = DrillRefused
    return decode(made, data, kind, lenient=True)


def data_of(event: LedgerEvent) -> dict[str, Any]:
    """Return the data of the entry of an event."""
    found: dict[str, Any] = plain(event.data if isinstance(event, UnknownEvent) else event)
    return found
