"""Verify: checks a placement again, against every constraint.

The checks share no code with the search: only the declarations and the laws of memory, demand and
throughput. A violation is a fault in fleetctl, not in the declarations.
"""

from collections.abc import Callable, Iterator

from fleet.placement.model.state import PlacementResult
from fleet.placement.verify import placement
from fleet.placement.verify.steps import verify_steps
from fleet.placement.verify.view import Constraint, PlacementView, Violation, now_of
from fleet.resources import State
from fleet.rollouts import RolloutTargets
from fleet.spec import FleetSpec

__all__ = ["Constraint", "Violation", "verify_placement", "verify_steps"]

Check = Callable[[PlacementView], Iterator[Violation]]

_RULES: tuple[Check, ...] = (
    placement.replicas,
    placement.servers,
    placement.silence,
    placement.spread,
    placement.choices,
    placement.company,
    placement.promises,
    placement.flags,
    placement.ranks,
    placement.ports,
)
"""Checks that are broken or not; nothing excuses a violation."""

_RESOURCES: tuple[Check, ...] = (
    placement.slots,
    placement.memory,
    placement.host_memory,
    placement.loads,
)
"""Checks of amounts: an amount over its limit before may stay the part of the limit that it was."""

MORE = 1 + placement.SLACK
"""Upper bound of the growth of an amount that counts as none."""


def verify_placement(
    fleet: FleetSpec, targets: RolloutTargets, live: State, placement: PlacementResult
) -> tuple[Violation, ...]:
    """Return every constraint that a placement breaks; empty when it is sound.

    A device, server or hour that is over its limit already, as after a change of demand by
    hand, is no violation as long as the placement does not make it worse.
    """
    view = PlacementView(
        fleet, targets, live, placement.servers, placement.bindings, placement.unplaced
    )
    broken = [violation for check in _RULES for violation in check(view)]
    over = [violation for check in _RESOURCES for violation in check(view)]
    before: dict[tuple[str, str, str, int], Violation] = {}
    if over:
        now = now_of(view)
        before = {violation.key: violation for check in _RESOURCES for violation in check(now)}
    for violation in over:
        was = before.get(violation.key)
        if was is None or violation.amount * was.limit > was.amount * violation.limit * MORE:
            broken.append(violation)
    worst: dict[tuple[str, str, str], Violation] = {}  # of a server's hours only the worst
    for violation in broken:
        key = (violation.constraint.value, violation.server, violation.adapter)
        if key not in worst or violation.excess > worst[key].excess:
            worst[key] = violation
    return tuple(worst[key] for key in sorted(worst))
