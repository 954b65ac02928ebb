"""Culprits: why a base holds several devices, where others lack one."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

from fleet.declared import Fleet
from fleet.pace import Paced
from fleet.placement.attempt import attempt
from fleet.placement.bins import Spot
from fleet.placement.causes import Cause, Limit
from fleet.placement.diagnose import causes_of
from fleet.placement.search import Board, Search
from fleet.resources import State

ASKED = 4
"""Bases that are placed anew on fewer devices: more would say the same."""


def culprits(
    fleet: Fleet, wanted: Paced, search: Search, board: Board, causes: Sequence[Cause]
) -> Iterator[Cause]:
    """Yield what keeps bases from doing with a device less, where devices are lacking.

    Each base that holds several is placed alone on all but one of them; what that fails for is
    the cause, of which those without a device are only the victims.

    Args:
        fleet: The declarations.
        wanted: What every alias should have.
        search: How hard to look for places.
        board: Where what found a place is.
        causes: Of what found none.
    """
    lacking = {each.base for each in causes if each.primary and each.limit is Limit.DEVICES}
    if not lacking:
        return
    held: dict[str, set[Spot]] = defaultdict(set)
    for each in board.bins.values():
        if each.devices and each.residents and each.base.name not in lacking:
            held[each.base.name] |= each.spots
    several = sorted((each for each in held if len(held[each]) > 1), key=lambda b: -len(held[b]))
    for base in several[:ASKED]:
        fewer = sorted(held[base])[:-1]
        smaller, failed = attempt(
            _only(fleet, frozenset(fewer)), _of_base(fleet, wanted, base), State(), search
        )
        for cause in causes_of(smaller, failed):
            if cause.primary:
                text = f"it takes {len(held[base])} devices, because on one less {cause.text}"
                yield replace(cause, text=text)


def _only(fleet: Fleet, spots: frozenset[Spot]) -> Fleet:
    """Return the fleet with no other devices than these."""
    hosts = {
        name: replace(
            host, devices=tuple(each for each in host.devices if (name, each.name) in spots)
        )
        for name, host in fleet.hosts.items()
    }
    return replace(fleet, hosts=hosts)


def _of_base(fleet: Fleet, wanted: Paced, base: str) -> Paced:
    """Return what the aliases of one base should have, as if nothing of it ran yet."""
    mine = {
        alias: each
        for alias, each in wanted.wanted.items()
        if alias in fleet.adapters and fleet.adapters[alias].name.base == base
    }
    return Paced(mine, {}, {}, frozenset(), frozenset())
