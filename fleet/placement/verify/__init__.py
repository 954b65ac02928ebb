"""Verify: re-checks a placement against everything it must keep to.

The checks share no code with the search: only the declarations and the laws of memory, demand and
throughput. A violation is a fault in fleetctl, not in the declarations.
"""

from collections.abc import Callable, Iterator

from fleet.placement.result import PlacementResult
from fleet.placement.verify import amounts, rules
from fleet.placement.verify.steps import verify_steps
from fleet.placement.verify.view import Constraint, PlacementView, Violation, now_of
from fleet.resources import State
from fleet.rollouts import RolloutTargets
from fleet.spec import FleetSpec

__all__ = ["Constraint", "Violation", "inherited", "verify_placement", "verify_steps"]

Check = Callable[[PlacementView], Iterator[Violation]]

_RULES: tuple[Check, ...] = (
    rules.replicas,
    rules.servers,
    rules.silence,
    rules.spread,
    rules.choices,
    rules.company,
    rules.promises,
    amounts.flags,
    amounts.ranks,
    amounts.ports,
)
"""Checks that are broken or not; nothing excuses a violation."""

_RESOURCES: tuple[Check, ...] = (amounts.slots, amounts.memory, amounts.host_memory, amounts.loads)
"""Checks of amounts: an amount over its limit before may stay as bad as it was."""


def verify_placement(
    fleet: FleetSpec, targets: RolloutTargets, live: State, placement: PlacementResult
) -> tuple[Violation, ...]:
    """Return every constraint that a placement breaks; empty when it is sound.

    A device, server or hour that is over its limit already, as after a change of demand by
    hand, is no violation as long as the placement does not make it worse; see `inherited`.
    """
    view = PlacementView(
        fleet, targets, live, placement.servers, placement.bindings, placement.unplaced
    )
    broken = [violation for check in _RULES for violation in check(view)]
    over, before = _amounts(view)
    broken += [violation for violation in over if not _was_so(violation, before)]
    return _worst(broken)


def inherited(
    fleet: FleetSpec, targets: RolloutTargets, live: State, placement: PlacementResult
) -> tuple[Violation, ...]:
    """Return the limits that were passed before and still are, not more than before."""
    view = PlacementView(
        fleet, targets, live, placement.servers, placement.bindings, placement.unplaced
    )
    over, before = _amounts(view)
    return _worst([violation for violation in over if _was_so(violation, before)])


def _amounts(
    view: PlacementView,
) -> tuple[list[Violation], dict[tuple[str, str, str, int], Violation]]:
    """Return what is over its limit after, and what was before if that matters."""
    over = [violation for check in _RESOURCES for violation in check(view)]
    if not over:
        return [], {}
    now = now_of(view)
    return over, {violation.key: violation for check in _RESOURCES for violation in check(now)}


def _was_so(found: Violation, before: dict[tuple[str, str, str, int], Violation]) -> bool:
    was = before.get(found.key)
    return was is not None and found.excess <= was.excess + amounts.SLACK * abs(found.limit)


def _worst(found: list[Violation]) -> tuple[Violation, ...]:
    """Return the findings by constraint and place; of one server's hours only the worst."""
    worst: dict[tuple[str, str, str], Violation] = {}
    for violation in found:
        key = (violation.constraint.value, violation.server, violation.adapter)
        if key not in worst or violation.excess > worst[key].excess:
            worst[key] = violation
    return tuple(worst[key] for key in sorted(worst))
