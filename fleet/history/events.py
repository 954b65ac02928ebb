"""Defines an entry of the ledger, and codes its event as the data of its line.

The plain form of an event is the `data` of a line. A field that an older line lacks has its
default; a field or a kind that only a later release knows is passed over. A new kind needs a type
in `apply_events` or `rollout_events`, a function in the table of `fold` unless the event is
passive, and a sentence in `plans.reports.history`.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias, get_args

from fleet.codec import decode, plain
from fleet.history.apply_events import ApplyEvent, Document, PassiveEvent
from fleet.history.rollout_events import Drilled, DrillRefused, Notified, RolloutEvent
from fleet.history.signatures import KeyAccepted, Signature, signature_of
from fleet.spec import NotifyEvent


@dataclass(frozen=True, slots=True)
class UnknownEvent(PassiveEvent):
    """An event of a kind that only a later release knows."""

    kind: str
    data: Document


LedgerEvent: TypeAlias = ApplyEvent | RolloutEvent | KeyAccepted | UnknownEvent
KINDS: Mapping[str, type[LedgerEvent]] = MappingProxyType(
    {
        made.kind: made
        for made in get_args(ApplyEvent | RolloutEvent | KeyAccepted)
        if made is not DrillRefused
    }
)
"""Types of events by kind of entry."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the ledger."""

    seq: int
    time: datetime
    event: LedgerEvent
    run: str
    """Id of the author's run."""
    by: str
    token: int
    previous: str
    """Hash of the entry before, empty for the first."""
    hash: str
    line: bytes = b""
    """The line as written, without its newline; empty: the entry waits for its home."""

    @property
    def is_late_repair(self) -> bool:
        """Whether a repair waited for the home, which may have moved on: it changes no history."""
        return self.event.queued is not None and self.event.kind.startswith(("apply_", "step_"))

    @property
    def signature(self) -> Signature | None:
        """The signature of the line; None: the line has none."""
        return signature_of(self.line)

    def document(self) -> dict[str, Any]:
        """Return the data of the line as written, with the fields of a later release."""
        found: dict[str, Any] = json.loads(self.line)["data"] if self.line else data_of(self.event)
        return found


def event_of(kind: str, data: Document) -> LedgerEvent:
    """Return the event of an entry's kind and data.

    Raises:
        MalformedError: a field is of another type.
    """
    made = KINDS.get(kind)
    if made is None:
        return UnknownEvent(kind, data, entry_id=data.get("entry_id"), queued=data.get("queued"))
    if made is Drilled and "reason" in data:
        made = DrillRefused
    return decode(made, data, kind, lenient=True)


def data_of(event: LedgerEvent) -> dict[str, Any]:
    """Return the data of the entry of an event."""
    found: dict[str, Any] = plain(event.data if isinstance(event, UnknownEvent) else event)
    return found


Audience = Literal["client", "operators"]
"""Readers of a notice. A client sees fewer facts than operators."""
AGAIN: Final = timedelta(hours=1)
"""Least time between two attempts to deliver the same notification."""


@dataclass(frozen=True, slots=True)
class Notification:
    """An event that people are notified of a single time."""

    event: NotifyEvent
    alias: str
    key: str
    """Identity of the event; an event with another key is notified anew."""
    facts: Mapping[str, Any]
    """For operators, in plain form; a client sees some of these."""


def is_due(entries: Iterable[Entry], notification: Notification, to: str, now: datetime) -> bool:
    """Say whether a notification is still to be sent to a recipient, by the ledger's entries."""
    about = (notification.event, notification.alias, notification.key, to)
    delivered, time = False, now - AGAIN
    for entry in entries:
        if isinstance(event := entry.event, Notified) and (
            about == (event.event, event.alias, event.key or event.decided, event.to)
        ):
            delivered, time = event.delivered, entry.time
    return not delivered and now - time >= AGAIN
