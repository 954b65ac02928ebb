"""The error of a ledger whose home does not answer."""

from fleet.errors import FleetError, problem


def unanswered(why: str) -> FleetError:
    """Return the error; `why` is a sentence without its full stop."""
    return FleetError(
        problem(
            "FC5107",
            "The ledger's home does not answer",
            f"{why[:1].upper()}{why[1:]}.",
            hint="Another process may hold its lock and have stopped, or its disk is away. A "
            "rollback works meanwhile.",
        )
    )
