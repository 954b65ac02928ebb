"""Partial: what can be planned while some aliases find no place; they stay as they are live.

One client's version that fits nowhere is no reason to keep another client's rollout waiting.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from fleet.declared import Fleet
from fleet.history import History
from fleet.pace import Paced, alias_of, pace
from fleet.placement import Search
from fleet.placement.attempt import attempt
from fleet.placement.diagnose import causes_of
from fleet.resources import LoadedAdapter, Route, State

ROUNDS = 8
"""After so many, every alias that wants a version which is not loaded is left out at once."""


@dataclass(frozen=True, slots=True)
class Rest:
    """What is left to plan with."""

    fleet: Fleet
    """Without the aliases that are left out."""
    history: History
    """In which what they have is nobody's, and so is not touched."""
    left_out: Mapping[str, str]
    """By alias: what has no place, and why."""


def rest_of(
    fleet: Fleet, live: State, history: History, now: datetime, search: Search
) -> Rest | None:
    """Leave out the aliases whose versions find no place, until the others all have one.

    What they have live stays, and takes its slots, as if somebody else had put it there.

    Args:
        fleet: The declarations.
        live: What was observed.
        history: The ledger, folded.
        now: The time, with its zone.
        search: How hard to look for places.

    Returns:
        None where even that does not fit.
    """
    left: dict[str, str] = {}
    for number in range(ROUNDS + 2):
        rest = _without(fleet, live, history, left)
        wanted = pace(rest.fleet, live, rest.history, now)
        board, failed = attempt(rest.fleet, wanted, live, search)
        if not failed:
            return rest
        for cause in causes_of(board, failed):
            for adapter in cause.adapters:
                left.setdefault(alias_of(adapter), f"no place for {adapter}: {cause.text}")
        if number >= ROUNDS:
            left = {**dict.fromkeys(_unloaded(wanted), "it waits for the others"), **left}
    return None


def _without(fleet: Fleet, live: State, history: History, left: Mapping[str, str]) -> Rest:
    adapters = {name: each for name, each in fleet.adapters.items() if name not in left}
    theirs = {
        address
        for address, each in {**history.established, **live.resources}.items()
        if isinstance(each, LoadedAdapter | Route) and _alias(each) in left
    }
    kept = {each: known for each, known in history.established.items() if each not in theirs}
    past = replace(history, owned=history.owned - theirs, established=kept)
    return Rest(replace(fleet, adapters=adapters), past, dict(sorted(left.items())))


def _alias(resource: LoadedAdapter | Route) -> str:
    return resource.alias if isinstance(resource, Route) else alias_of(resource.adapter)


def _unloaded(wanted: Paced) -> Iterable[str]:
    for alias, each in wanted.wanted.items():
        if any(adapter not in wanted.loaded for adapter, _ in each.shares):
            yield alias
