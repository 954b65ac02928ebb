"""Verify: whether what a plan promised is live. Pure."""

from collections.abc import Iterator

from fleet.history import History
from fleet.names import Address
from fleet.plan import Action, Change, Plan
from fleet.resources import Resource, State
from runtime.execute.check import describe


def unconverged(plan: Plan, live: State) -> tuple[Address, ...]:
    """Return the addresses that a plan changes and that are not as it would leave them."""
    return tuple(sorted(set(_unconverged(plan, live))))


def _unconverged(plan: Plan, live: State) -> Iterator[Address]:
    for change in plan.changes:
        if live.resources.get(change.address) != change.after:
            yield change.address
        before = change.before
        left = before is not None and before.address != change.address
        if change.action is Action.MOVE and before and left and before.address in live.resources:
            yield before.address


def forgotten(history: History, live: State) -> tuple[Address, ...]:
    """Return what was once established, is not live, and no plan asks for any more.

    Only to be asked when planning again finds nothing to do.
    """
    return tuple(
        sorted(
            address
            for address in history.established
            if address not in live.resources and live.knows(address)
        )
    )


def moved_since(plan: Plan, live: State) -> tuple[str, ...]:
    """Return, as lines, the changes whose resource is neither as before nor as after it."""
    return tuple(
        f"{change.address}: {describe(before)} in the plan, {describe(now)} now"
        for change in plan.changes
        if live.knows(change.address)
        for before in [_before(change)]
        for now in [live.resources.get(change.address)]
        if now not in (before, change.after)
    )


def _before(change: Change) -> Resource | None:
    """Return what a plan saw at a change's own address; a move's was empty."""
    return None if change.action is Action.MOVE else change.before
