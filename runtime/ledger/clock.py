"""Whether the clock of this machine is behind the ledger."""

from collections.abc import Sequence
from datetime import datetime

from fleet.errors import FleetError, problem
from fleet.history import SKEW, Entry, latest_time


def behind(entries: Sequence[Entry], now: datetime) -> FleetError | None:
    """Return FC5108 where this clock is behind what has happened already; None: it is not.

    Requests and stages would lie in the future, and bakes end when they should not.
    """
    so_far: datetime | None = None
    ahead: Entry | None = None
    for entry in entries:
        before, so_far = so_far, latest_time(so_far, entry)
        ahead = entry if so_far == entry.time != before else ahead
    if ahead is None or ahead.time - now <= SKEW:
        return None
    late = (ahead.time - now).total_seconds()
    return FleetError(
        problem(
            "FC5108",
            "The clock is behind the ledger",
            f"It is {now:%Y-%m-%d %H:%M:%S} UTC here, and the ledger's entry {ahead.seq} by "
            f"{ahead.by} is of {ahead.time:%Y-%m-%d %H:%M:%S}, {late:,.0f} s later. Live gates "
            "take traffic back; nothing passes by this clock, and no rollout moves on.",
            hint="Set the clock of this machine. If it was the one that wrote the entry which was "
            "wrong, and this one is right, say so by releasing what is to go on.",
            command="fleetctl release ALIAS --reason TEXT",
        )
    )
