"""Judges a wrong split with every routing error counted in favour of the new version.

Draws are on the wrong version (a gateway with an old table), or draws of a version are missing (a
log that was not handed over). The other draws have the wanted chance, which bounds how many these
are. A version that is worse even so is worse.
"""

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

from fleet.gates.sample_ratio import draws_of, e_value
from fleet.gates.sequential import Beside, rate_test, rise_test

MISPLACED = 0.001
"""Upper bound of the chance that more draws are misplaced or missing than are counted so."""
MOST_MISSING = 10**9


def best_cases(
    counts: Mapping[str, Any], limits: Mapping[str, float], tolerated: float, allowed: float
) -> Iterator[tuple[float, float, float]]:
    """Yield e-value, bad draws and difference of rates: with moved draws, then with missing ones.

    A draw is a user, or a request where users are unknown. A draw is bad with one bad request or
    more, so that a misplaced user counts once, however often the user asked.

    Args:
        counts: A finding's.
        limits: Its `misplaced`; and `limit`, where the rate is judged by itself.
        tolerated: The ratio of the two rates that is no finding yet.
        allowed: The difference of the two rates, of requests, that is no finding yet.
    """
    kind = "alarm_" if "alarm_people" in counts else ""
    bad, bad_other = (float(sum(counts[f"{kind}people{side}"])) for side in ("", "_stable"))
    draws, draws_other = (float(counts[f"{kind}units{side}"]) for side in ("", "_stable"))
    at_risk, at_risk_other = (
        float(sum(counts[f"{kind}at_risk{side}"])) for side in ("", "_stable")
    )
    moved = missing = moved_old = missing_old = 0
    for share, (got, total) in draws_of(counts).items():
        most_moved, most_missing = _too_many(got, total, share, limits["misplaced"])
        moved, missing = moved + most_moved, missing + most_missing
        most_moved, most_missing = _too_many(total - got, total, 1 - share, limits["misplaced"])
        moved_old, missing_old = moved_old + most_moved, missing_old + most_missing
    # Draws that the new version has too many were bad, those that the old one has were good.
    sure, shifted = max(0.0, bad - moved), moved - moved_old
    if not sure:
        yield 1.0, 0.0, 0.0
        return
    by_draw, by_any_draw = at_risk / draws, (at_risk + at_risk_other) / (draws + draws_other)
    for requests, hits, of, hits_other, total_other in (
        (by_any_draw, sure, draws - shifted, bad_other + bad - sure, draws_other + shifted),
        (by_draw, bad, draws + missing_old, bad_other + missing, draws_other + missing),
    ):
        of_other = max(hits_other, total_other)  # a kind may be told of fewer than were drawn
        # Of n requests of a user the chance of a bad one is at most n times that of a request.
        if "limit" in limits:
            (value,) = rate_test([(hits, of * requests)], limits["limit"])
            yield value, hits, hits / of / requests - limits["limit"]
            continue
        beside = Beside(hits, of, of, hits_other, of_other, of_other)
        (value,) = rise_test([beside], tolerated, allowed * requests)
        yield value, hits, hits / of - (hits_other / of_other if of_other else 1.0)


def first_windows(counts: Mapping[str, Any], last: int) -> dict[str, Any]:
    """Return the counts of the first windows of a stage; units come at the pace of the draws."""
    cut = {name: n[:last] if isinstance(n, Sequence) else n for name, n in counts.items()}
    for kind, side in product(("", "alarm_"), ("", "_stable")):
        if (units := f"{kind}units{side}") in counts:
            draws, seen = (sum(of[f"split{side}"]) for of in (counts, cut))
            by_pace = counts[units] * (seen / draws if draws else 1.0)
            cut[units] = max(sum(cut[f"{kind}people{side}"]), by_pace)
    return cut


def _too_many(got: float, total: float, share: float, chance: float) -> tuple[int, int]:
    """Return the most draws that a side can have too many: if moved, and if others are missing."""
    if not 0 < share < 1 or got <= share * total:
        return 0, 0

    def is_beyond(mine: float, both: float) -> bool:
        return e_value(mine, both, share) * chance >= 1

    lost, least, fewest = range(MOST_MISSING), int(got - share * total), int(got / share - total)
    return (
        bisect_left(range(int(got)), True, lo=least, key=lambda n: is_beyond(got - n, total)),
        bisect_left(lost, True, lo=fewest, key=lambda n: is_beyond(got, total + n)),
    )
