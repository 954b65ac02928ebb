"""Proven: which versions are something to fall back on, and what speaks against the others."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType

from fleet.conditions import Override
from fleet.history import History, is_out, rejection, taken_out
from fleet.names import route_address
from fleet.resources import LoadedAdapter, Route

UNPROVEN = "it never had all traffic"
ROLLED_BACK, ABORTED = "it was rolled back", "its rollout was aborted"
FAILED = "a gate failed it"
TWIN = "it has the bytes of {}, which was taken out"


@dataclass(frozen=True, slots=True)
class Doubts:
    """What the ledger says against versions; empty where it does not answer."""

    held: frozenset[str] = frozenset()
    """Full names of those that were rolled back and not released."""
    unfit: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Why nobody is to be sent back there unasked, by full name."""
    served: frozenset[str] = frozenset()
    """Full names of those that had traffic when the ledger last heard of the route."""
    rejected: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Which gate keeps them out, by full name; see `rejected`."""


Against = Callable[[tuple[str, ...]], Doubts]
"""Asks what speaks against versions, by full names."""


def nothing_known(names: tuple[str, ...]) -> Doubts:  # noqa: ARG001 (an `Against`)
    """Return no doubts, where nobody is asked."""
    return Doubts()


def doubts(
    history: History, alias: str, digests: Mapping[str, str], names: tuple[str, ...]
) -> Doubts:
    """Return what speaks against versions of an alias.

    Where none of them ever had all traffic the ledger was begun after them and knows nothing
    of their past, so that it says nothing against one by that alone.

    Args:
        history: The ledger, folded.
        alias: Whom they serve.
        digests: Of their bytes, as far as known; bytes that were taken out are no better under
            another name.
        names: Their full names.
    """
    held = history.holds.get(alias, {})
    ended = {each.adapter for each in history.marks.get(alias, ()) if each.mark == "abort"}
    begun = not history.answered_all.isdisjoint(names)
    unfit = {}
    for name in names:
        if name in held:
            unfit[name] = ROLLED_BACK
        elif name in ended:
            unfit[name] = ABORTED
        elif same := taken_out(history, {}, alias, name, digests.get(name, "")):
            unfit[name] = TWIN.format(same[0].adapter.rpartition("-v")[2])
        elif is_out(history, {}, alias, name, digests.get(name, "")):
            unfit[name] = FAILED
        elif begun and name not in history.answered_all:
            unfit[name] = UNPROVEN
    route = history.established.get(route_address(alias))
    shares = route.shares if isinstance(route, Route) else ()
    return Doubts(frozenset(held), unfit, frozenset(e.adapter for e in shares if e.percent))


def rejected(
    history: History,
    overrides: Iterable[Override],
    alias: str,
    digests: Mapping[str, str],
    names: Iterable[str],
    now: datetime,
) -> dict[str, str]:
    """Return which gate failed versions whose bytes nobody has accepted or released, by full name.

    Args:
        history: The ledger, folded.
        overrides: Those declared.
        alias: Whom the versions serve.
        digests: Of their bytes, as far as known.
        names: Their full names.
        now: The time.
    """
    accepted = tuple(overrides)
    by = {
        name: rejection(history, accepted, alias, name, digests.get(name, ""), now)
        for name in names
    }
    return {
        name: f"gate {each.gate} failed it (#{each.seq}): {each.finding.reason}"
        for name, each in by.items()
        if each is not None
    }


def loaded_digests(history: History) -> dict[str, str]:
    """Return the digest of each version that an apply has loaded, by full name."""
    return {
        each.adapter: each.digest
        for each in history.established.values()
        if isinstance(each, LoadedAdapter) and each.digest
    }
