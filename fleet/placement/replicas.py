"""Replicas: on how many servers an adapter is."""

from collections.abc import Sequence
from math import ceil

from fleet.declared import Adapter
from fleet.demand import Load

WASTEFUL = 0.5
"""Part of the weakest server below which a replica is not worth keeping."""


def replicas_for(
    declared: Adapter, load: Load, limits: Sequence[float], now: int = 0, slack: float = 1.0
) -> list[int]:
    """Return how many servers may hold an adapter, the best number first.

    As many as declared, or more where they cannot carry it. The fewest are the cheapest: parts
    of a load take a slot each, and what they add up to stays the same. Those there are stay
    while they carry the load and are no waste, so that a small change of demand moves nothing.
    More come last, for a search that finds no place for fewer: parts that fit weaker servers.

    Args:
        declared: The adapter.
        load: What all its replicas are asked together.
        limits: Tokens per second of the servers that could hold a replica, falling.
        now: Replicas that have its traffic.
        slack: What running servers may be asked for, as a multiple of `limits`.
    """
    least, peak, most = max(declared.replicas, 1), max(load.tokens), len(limits)
    if not limits or not peak:
        return [least]
    fewest = next(
        (each for each in range(least, most + 1) if peak <= limits[each - 1] * each),
        max(least, most),  # too few all the same
    )
    keeps = fewest < now <= most and peak > WASTEFUL * limits[-1] * (now - 1)
    bears = least <= now < fewest and peak <= slack * limits[now - 1] * now
    found = [now, fewest] if keeps or bears else [fewest]
    weaker = sorted({each for each in limits if 0 < each < peak / fewest}, reverse=True)
    return list(dict.fromkeys([*found, *(min(ceil(peak / each), most) for each in weaker)]))
