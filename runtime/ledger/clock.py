"""Is the clock here behind what has happened already?"""

from collections.abc import Sequence
from datetime import datetime

from fleet.errors import FleetError, problem
from fleet.history import Entry
from fleet.timing import SKEW


def behind(entries: Sequence[Entry], now: datetime) -> FleetError | None:
    """Return FC5108 where this clock is behind what has happened already; None: it is not.

    Requests and stages would lie in the future, and bakes end when they should not.
    """
    last = entries[-1] if entries else None
    if last is None or last.time - now <= SKEW:
        return None
    late = (last.time - now).total_seconds()
    return FleetError(
        problem(
            "FC5108",
            "The clock is behind the ledger",
            f"It is {now:%Y-%m-%d %H:%M:%S} UTC here, and the ledger's entry {last.seq} by "
            f"{last.by} is of {last.time:%Y-%m-%d %H:%M:%S}, {late:,.0f} s later. Live gates "
            "take traffic back; nothing passes by this clock, and no rollout moves on.",
            hint="Set the clock of this machine, or of the one that wrote the entry.",
            command="fleetctl history --limit 5",
        )
    )
