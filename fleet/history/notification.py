"""A notification of people, and whether a recipient is still to get the notification."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from fleet.history.events import Entry
from fleet.history.rollout_events import Notified
from fleet.spec import NotifyEvent

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
