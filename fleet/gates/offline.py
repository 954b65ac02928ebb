"""Judges offline gates: the new version against the old one on the same golden items."""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from fleet.gates.decide import Finding, Verdict, percent_text, points_text
from fleet.gates.intervals import CONFIDENCE, Z, bonett_price, mcnemar, t_cdf, t_quantile, wilson
from fleet.policies import GateSpec

SIGNIFICANT = 0.05
"""Upper bound of the p-value of a drop that counts."""
LEAST_ITEMS = 20
"""Independent items below which nothing passes."""
Z_FOUND = 0.8416212335729143
"""Normal quantile of 0.8, the chance that the power sentence speaks of."""
PSEUDO_ITEMS = 1.5
"""Items that are taken to be wholly worse, and as many wholly better, beside the graded ones.

Where few answers differ, the spread that was seen says nothing of the item in thirty that is
broken and happens not to be in the set. `make bench-gates` prints what so many are good for.
"""
EARLY = 0.9995
"""Confidence of bounds and tests before all items were asked.

Four looks add at most 0.2 points to the 5 % of wrong verdicts that the whole set allows.

Source: Haybittle 1971, British Journal of Radiology 44:793-797.
"""
BINARY = "paired_binary"
GRADED = "paired_graded"


def judge_paired(
    gate: GateSpec,
    stable: Sequence[float],
    canary: Sequence[float],
    *,
    must_pass_failed: Sequence[str] = (),
    clusters: Sequence[str] | None = None,
    alike: float = 1.0,
    early: bool = False,
    by_chance: float = 0.0,
) -> Finding:
    """Judge the scores of both versions on the same items, in the same order.

    Args:
        gate: Metric and limit; the limit is in percentage points.
        stable: Score of the old version on each item, 0 (bad) to 1 (good); with several samples
            of an item their mean. Where a rise is judged, 1 means that the defect is absent.
        canary: The same of the new version.
        must_pass_failed: Ids of items that the new version may not fail and failed.
        clusters: For each item the group it shares with others (a document, a customer); items
            of one group do not count as independent. None: all are.
        alike: How alike items of a group are taken to be beyond what the scores show, from 0 to 1:
            all items of a group may break together.
        early: More items may be asked, so that the verdict must be surer.
        by_chance: Variance of the difference of single answers by chance, summed over items; not
            known of items that were asked once.

    Raises:
        ValueError: the sequences differ in length, or a score is not between 0 and 1.
    """
    names = [str(number) for number in range(len(stable))] if clusters is None else list(clusters)
    if not len(stable) == len(canary) == len(names):
        raise ValueError("both versions must be scored on the same items")
    if not all(0 <= score <= 1 for score in (*stable, *canary)):
        raise ValueError("a score lies between 0 and 1")
    limits = {"margin": gate.margin, "floor": gate.floor or 0.0}
    limits |= {"confidence": EARLY} if early else {}
    failed = {"must_pass_failed": float(len(must_pass_failed))}
    graded = any(score not in (0, 1) for score in (*stable, *canary))
    if not graded and len({*names}) == len(names):
        return judge_binary(gate.name, gate.metric, _pairs(stable, canary) | failed, limits)
    limits |= {"pseudo_items": PSEUDO_ITEMS}
    sums = _sums(stable, canary, names, alike) | failed
    if gate.samples > 1:
        sums |= {"samples": float(gate.samples), "by_chance": by_chance}
    return judge_graded(gate.name, gate.metric, sums, limits)


def _pairs(stable: Sequence[float], canary: Sequence[float]) -> dict[str, float]:
    both = list(zip(stable, canary, strict=True))
    return {
        "items": float(len(both)),
        "worse": float(sum(old > new for old, new in both)),
        "better": float(sum(old < new for old, new in both)),
        "good": float(sum(canary)),
    }


def _sums(
    stable: Sequence[float], canary: Sequence[float], names: Sequence[str], alike: float = 1.0
) -> dict[str, float]:
    """Return the sums behind the cluster-robust variance of a mean."""
    items = len(stable)
    drops = [old - new for old, new in zip(stable, canary, strict=True)]
    return {
        "items": float(items),
        "clusters": float(len({*names})),
        "cluster_size": 1 + alike * (sum(n * n for n in Counter(names).values()) / items - 1),
        "drop": math.fsum(drops),
        "drop_squares": _squares(drops, names),
        "good": math.fsum(canary),
        "good_squares": _squares(canary, names),
    }


def _squares(values: Sequence[float], names: Sequence[str]) -> float:
    mean = math.fsum(values) / len(values)
    sums: dict[str, float] = defaultdict(float)
    for name, value in zip(names, values, strict=True):
        sums[name] += value - mean
    return math.fsum(total * total for total in sums.values())


@dataclass(frozen=True, slots=True)
class _Estimate:
    rule: str
    drop: float
    lower: float
    upper: float
    seen: float
    """Upper bound of the drop by the seen items alone; nothing fails that is within the margin."""
    error: float
    """Standard error of the drop."""
    p_value: float
    independent: float
    best: float
    """Upper bound of the new version's mean score."""
    by_chance: float = 0.0
    """Part of the squared error that is of sampling, where items were asked several times."""


def judge_binary(
    gate: str, metric: str, counts: Mapping[str, float], limits: Mapping[str, float]
) -> Finding:
    """Judge counts of pairs: Bonett-Price for PASS, exact McNemar for FAIL."""
    items, worse, better = (counts[key] for key in ("items", "worse", "better"))
    confidence = limits.get("confidence", CONFIDENCE)
    z = Z if confidence == CONFIDENCE else NormalDist().inv_cdf(confidence)
    lower, upper = bonett_price(worse, better, items, z)
    best = wilson(counts["good"], items, z)[1]
    p_value = mcnemar(round(worse), round(better))
    drop = (worse - better) / max(1.0, items)
    error = (upper - lower) / (2 * z)
    made = _Estimate(BINARY, drop, lower, upper, upper, error, p_value, items, best)
    return _judge(gate, metric, made, counts, limits)


def judge_graded(
    gate: str, metric: str, counts: Mapping[str, float], limits: Mapping[str, float]
) -> Finding:
    """Judge differences of graded scores: a t interval, robust where items share a cluster.

    Its bounds allow for a few items more, `pseudo_items` wholly worse and as many wholly better, as
    Bonett and Price add them to yes-or-no scores. Findings from before there were any are judged
    without, so that they can be judged again.

    Source:
        Miller 2024, arXiv:2411.00640, section 2.2: clustered standard errors.
    """
    items, clusters = counts["items"], round(counts["clusters"])
    drop, squares = counts["drop"] / items, counts["drop_squares"]
    plain = _clustered(squares, clusters) / items
    above = drop / plain if plain else math.inf * drop if drop else 0.0
    p_value = 1 - t_cdf(above, max(1, clusters - 1))
    added, size = limits.get("pseudo_items", 0.0), counts.get("cluster_size", 1.0)
    both = items + 2 * added * size
    middle = counts["drop"] / both
    squares += 2 * added * size * size * (1 + middle * middle)
    more = clusters + round(2 * added)
    error = _clustered(squares, more) / both
    confidence = limits.get("confidence", CONFIDENCE)
    seen, half = _quantile(clusters, confidence) * plain, _quantile(more, confidence) * error
    spread = _clustered(counts["good_squares"], clusters) / items
    best = min(1.0, counts["good"] / items + _quantile(clusters, confidence) * spread)
    lower, upper = min(drop - seen, middle - half), max(drop + seen, middle + half)
    by_chance = counts.get("by_chance", 0.0) / counts.get("samples", 1.0) / both**2
    made = _Estimate(
        GRADED, drop, lower, upper, drop + seen, error, p_value, clusters, best, by_chance
    )
    return _judge(gate, metric, made, counts, limits)


def _clustered(squares: float, clusters: int) -> float:
    """Return the standard error of a sum from the squares of its clusters' parts."""
    return math.sqrt(squares * clusters / max(1, clusters - 1))


def _quantile(clusters: int, confidence: float) -> float:
    return t_quantile(max(1, clusters - 1), confidence)


def _judge(
    gate: str,
    metric: str,
    made: _Estimate,
    counts: Mapping[str, float],
    limits: Mapping[str, float],
) -> Finding:
    verdict, reason = _verdict(made, counts, limits)
    return Finding(
        gate,
        metric,
        verdict,
        made.rule,
        made.drop if counts["items"] else None,
        made.lower if counts["items"] else None,
        made.upper if counts["items"] else None,
        made.p_value,
        dict(counts),
        dict(limits),
        reason,
        _power(made, samples=counts.get("samples", 1) > 1) if counts["items"] else "",
    )


def _power(made: _Estimate, *, samples: bool) -> str:
    """Say which drop is found, and which ones more samples and more items would find."""
    detectable = (Z + Z_FOUND) * made.error
    found = f"a drop of {points_text(detectable)}" if detectable <= 1 else "no drop"
    text = f"finds {found} 4 times in 5"
    if not samples:
        return text
    twice = detectable * math.sqrt(max(0.0, 1 - made.by_chance / made.error**2 / 2))
    items = points_text(detectable / math.sqrt(2))
    return f"{text}; with twice the samples {points_text(twice)}, with twice the items {items}"


def _verdict(
    made: _Estimate, counts: Mapping[str, float], limits: Mapping[str, float]
) -> tuple[Verdict, str]:
    margin, floor = limits["margin"], limits["floor"]
    confidence = limits.get("confidence", CONFIDENCE)
    significant = SIGNIFICANT if confidence == CONFIDENCE else 1 - confidence
    if not counts["items"]:
        return Verdict.INCONCLUSIVE, "no item was scored"
    if counts["must_pass_failed"]:
        return Verdict.FAIL, f"items that must pass and failed: {counts['must_pass_failed']:g}"
    if made.best < floor:
        return (
            Verdict.FAIL,
            f"at most {percent_text(made.best)} are good, and {percent_text(floor)} must be",
        )
    if not (counts["good"] or made.drop):
        return Verdict.INCONCLUSIVE, "neither version is right once: the golden set tells nothing"
    about = (
        f"drop of {points_text(made.drop)} on {counts['items']:g} items "
        f"({100 * confidence:g} % sure: at most {points_text(made.upper)})"
    )
    if made.independent < LEAST_ITEMS:
        few = f"nothing passes on fewer than {LEAST_ITEMS} independent items"
        verdict, why = Verdict.INCONCLUSIVE, few
    elif made.upper <= margin:
        verdict, why = Verdict.PASS, f"within {points_text(margin)}"
    elif made.p_value < significant and made.seen > margin:
        verdict, why = Verdict.FAIL, f"worse, and not within {points_text(margin)}"
    else:
        verdict, why = (
            Verdict.INCONCLUSIVE,
            f"neither worse nor surely within {points_text(margin)}",
        )
    return verdict, f"{about}: {why}"
