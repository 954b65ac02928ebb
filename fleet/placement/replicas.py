"""Replicas: on how many servers an adapter is."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil, inf
from typing import Self

from fleet.declared import Adapter
from fleet.demand import Load

WASTEFUL = 0.5
"""Part of the weakest server below which a replica is not worth keeping."""


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where a replica could be, alone."""

    limit: float
    """Tokens per second that the best server there may carry."""
    price: float
    """Of that server, an hour."""


@dataclass(frozen=True, slots=True)
class Ladder:
    """Places, the strongest first, with what is the same whoever asks; a fleet has thousands."""

    limits: tuple[float, ...]
    """Of each place."""
    rungs: tuple[tuple[float, float], ...]
    """Each limit once, above 0 and falling, with the least price of a token per second there or at
    a stronger place."""

    @classmethod
    def of(cls, places: Iterable[Place]) -> Self:
        """Sort places; none is nowhere."""
        found = sorted(places, key=lambda each: (-each.limit, each.price))
        rungs: dict[float, float] = {}
        least = inf
        for each in found:
            if each.limit > 0:
                least = min(least, each.price / each.limit)
                rungs[each.limit] = least
        return cls(tuple(each.limit for each in found), tuple(rungs.items()))

    def price(self, part: float) -> float:
        """Return the least that a token per second costs where such a part of a load fits."""
        return min((price for limit, price in self.rungs if limit >= part > 0), default=inf)


NOWHERE = Ladder((), ())


def replicas_for(
    declared: Adapter, load: Load, places: Ladder, now: int = 0, slack: float = 1.0
) -> list[int]:
    """Return how many servers may hold an adapter, the best number first.

    As many as declared, or more where they cannot carry it. Parts of a load take a slot each,
    and what they add up to stays the same: so the fewest, unless weaker servers carry more for
    their price. Those there are stay while they carry the load and are no waste, so that a small
    change of demand moves nothing. The others are for a search that finds no place, or a
    cheaper one.

    Args:
        declared: The adapter.
        load: What all its replicas are asked together.
        places: One for each place that a replica may have.
        now: Replicas that have its traffic.
        slack: What running servers may be asked for, as a multiple of what new ones may.
    """
    limits = places.limits
    least, peak, most = max(declared.replicas, 1), max(load.tokens), len(limits)
    if not most or not peak:
        return [least]
    fewest = next(
        (each for each in range(least, most + 1) if peak <= limits[each - 1] * each),
        max(least, most),  # too few all the same
    )
    weaker = [each for each, _ in places.rungs if each < peak / fewest]
    found = [fewest, *(min(ceil(peak / each), most) for each in weaker)]
    if weaker:
        found.sort(key=lambda count: (places.price(peak / count), count))
    keeps = fewest < now <= most and peak > WASTEFUL * limits[-1] * (now - 1)
    bears = least <= now < fewest and peak <= slack * limits[now - 1] * now
    if keeps or bears or now == fewest:
        found.insert(0, now)
    return list(dict.fromkeys(found))
