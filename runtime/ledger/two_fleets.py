"""Refuses a home that has the ledger of another fleet of the same name."""

from collections.abc import Sequence

from fleet.errors import FleetError
from fleet.history import ApplyStarted, Entry
from runtime.ledger.replica import LedgerReplica


class AnotherFleetError(FleetError):
    """The ledger of a home is of another fleet than the copy of this checkout."""


def require_same_fleet(mirror: LedgerReplica, entries: Sequence[Entry]) -> None:
    """Refuse a ledger of another id than that of the copy; a fleet without an id has the name.

    Raises:
        FleetError: FC5143, it names both fleets.
        FleetError, OSError: the copy cannot be read.
    """
    (theirs, their_name), (ours, our_name) = _id_of(entries), _id_of(mirror.read())
    if ours and theirs and ours != theirs:
        raise AnotherFleetError.of(
            "FC5143",
            "The home has the ledger of another fleet",
            f"It is of fleet `{their_name}` (id {theirs}), and this checkout is of fleet "
            f"`{our_name}` (id {ours}). A home has fleets by their names, and would make one of "
            "both; nothing was read of it or written.",
            hint="Declare a home of its own for this fleet. If that history took the place of "
            f"this one on purpose, move `{mirror.path}` away first.",
        )


def _id_of(entries: Sequence[Entry]) -> tuple[str, str]:
    """Return id and name of the fleet of a ledger; empty where no entry has an id."""
    begun = (entry.event for entry in entries if isinstance(entry.event, ApplyStarted))
    found = ((event.fleet_id, event.fleet) for event in begun if event.fleet_id)
    return next(found, ("", ""))
