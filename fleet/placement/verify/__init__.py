"""Verify: re-checks a placement against everything it must keep to.

It shares no code with the search: only the declarations and the laws of memory, demand and
throughput. What it finds is a fault in fleetctl, not in the declarations.
"""

from collections.abc import Callable, Iterator

from fleet.declared import Fleet
from fleet.pace import Paced
from fleet.placement.outcome import Placement
from fleet.placement.verify import places, room
from fleet.placement.verify.scene import Scene, now_of
from fleet.placement.verify.steps import verify_steps
from fleet.placement.verify.violation import Constraint, Violation
from fleet.resources import State

__all__ = ["Constraint", "Violation", "inherited", "verify", "verify_steps"]

Check = Callable[[Scene], Iterator[Violation]]

_RULES: tuple[Check, ...] = (
    places.replicas,
    places.servers,
    places.silence,
    places.spread,
    places.choices,
    places.company,
    places.promises,
    room.flags,
    room.ranks,
    room.ports,
)
"""Broken or not; nothing excuses them."""

_RESOURCES: tuple[Check, ...] = (room.slots, room.memory, room.host_memory, room.loads)
"""Amounts: one that was over its limit before may stay as bad as it was."""


def verify(fleet: Fleet, wanted: Paced, live: State, placement: Placement) -> tuple[Violation, ...]:
    """Return every constraint that a placement breaks; empty when it is sound.

    A device, server or hour that is over its limit already, as after a change of demand by
    hand, is no violation as long as the placement does not make it worse; see `inherited`.
    """
    scene = Scene(fleet, wanted, live, placement.servers, placement.bindings, placement.unplaced)
    broken = [each for check in _RULES for each in check(scene)]
    over, before = _amounts(scene)
    broken += [each for each in over if not _was_so(each, before)]
    return _worst(broken)


def inherited(
    fleet: Fleet, wanted: Paced, live: State, placement: Placement
) -> tuple[Violation, ...]:
    """Return the limits that were passed before and still are, not more than before."""
    scene = Scene(fleet, wanted, live, placement.servers, placement.bindings, placement.unplaced)
    over, before = _amounts(scene)
    return _worst([each for each in over if _was_so(each, before)])


def _amounts(scene: Scene) -> tuple[list[Violation], dict[tuple[str, str, str, int], Violation]]:
    """Return what is over its limit after, and what was before if that matters."""
    over = [each for check in _RESOURCES for each in check(scene)]
    if not over:
        return [], {}
    now = now_of(scene)
    return over, {each.key: each for check in _RESOURCES for each in check(now)}


def _was_so(found: Violation, before: dict[tuple[str, str, str, int], Violation]) -> bool:
    was = before.get(found.key)
    return was is not None and found.excess <= was.excess + room.SLACK * abs(found.limit)


def _worst(found: list[Violation]) -> tuple[Violation, ...]:
    """Return the findings by constraint and place; of one server's hours only the worst."""
    worst: dict[tuple[str, str, str], Violation] = {}
    for each in found:
        key = (each.constraint.value, each.server, each.adapter)
        if key not in worst or each.excess > worst[key].excess:
            worst[key] = each
    return tuple(worst[key] for key in sorted(worst))
