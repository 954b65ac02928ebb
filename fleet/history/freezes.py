"""Finds the freeze of the fleet, and makes the error of work that a freeze stops."""

from collections.abc import Iterable

from fleet.errors import FrozenError
from fleet.history.apply_events import Frozen, Thawed
from fleet.history.events import Entry
from fleet.plan import Freeze


def freeze_after(entries: Iterable[Entry], before: Freeze | None = None) -> Freeze | None:
    """Return the freeze that holds after entries, oldest first; None: there is none.

    `before`: the freeze that holds before the entries. The first of two freezes counts.
    """
    for entry in entries:
        match entry.event:
            case Frozen(reason=reason):
                before = before or Freeze(entry.by, entry.time, reason)
            case Thawed():
                before = None
            case _:
                pass
    return before


def frozen_fleet(freeze: Freeze, stopped: str) -> FrozenError:
    """Return the error of work that a freeze stops; `stopped` is a clause without full stop."""
    detail = (
        f"{freeze.by} froze it at {freeze.at:%Y-%m-%d %H:%M} UTC: {freeze.reason}. {stopped}; "
        "`plan`, healing, gates and `rollback` go on."
    )
    hint = "Ask first whether the reason is over; then:"
    command = "fleetctl thaw"
    return FrozenError.of("FC6067", "The fleet is frozen", detail, hint=hint, command=command)
