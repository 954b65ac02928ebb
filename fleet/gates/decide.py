"""Decides the verdict of live counts: FAIL at the first moment that shows harm, else now."""

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fleet.gates.sample_ratio import mismatch, unchecked
from fleet.gates.sequential import rate_test, share_test
from fleet.gates.verdict import Finding, Verdict, percent_text

MISSING = "nothing passes while a gateway is missing"
LEAST_BAD = 5
"""Bad events of the new version below which nothing fails."""
LEAST_DIFFERENCE = 0.005
"""Difference of rates below which nothing fails."""
RISE, RATIO, RATE, ALONE = "share_of_bad", "share_of_slow_or_late", "rate_of_bad", "no_neighbours"
Series = Mapping[str, Any]
"""Counts by window, and a few of the whole stage; `recheck` answers for others."""
Limits = Mapping[str, float]
BOTH = ("bad", "requests", "bad_stable", "requests_stable")
BOTH_BY_USER = ("first", "at_risk", "first_stable", "at_risk_stable")
Moment = tuple[float, float, float]
"""After a window: the e-value, users with a bad request, by how much the rate is too high."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """The figures of the counts so far."""

    rule: str
    estimate: float | None
    lower: float
    upper: float
    passes: bool
    about: str
    limit: str
    independent: float
    """Requests of the new version, as many as they are worth where users ask again and again."""
    collapsed: bool = False
    """Whether nearly all requests of nearly all users are bad, and the old version's are not."""
    worse: str = ""
    """First words of the reason where the new version is worse, of counts that decide only then."""


def by_user(counts: Series) -> bool:
    """Say whether requests are counted by user; without users there is nothing to count by."""
    return "first" in counts


def conclude(
    gate: str,
    metric: str,
    made: Estimate,
    moments: Iterator[Moment],
    counts: Series,
    limits: Limits,
) -> Finding:
    """Return the finding: FAIL at the first moment that shows it, else what the counts say."""
    value, failed = _first_failure(moments, limits["alpha"])
    about = made.about
    worse = f"worse, with an e-value of {value:.3g}"
    if failed and made.worse:
        about = f"{made.worse}; {about}"
    if made.collapsed and not failed:
        failed, worse = True, "bad for each of its users, nearly always"
    requests, least = sum(counts["requests"]), f"{limits['least_requests']:g}"
    split = mismatch(counts, limits)
    if split:
        verdict, why = Verdict.INCONCLUSIVE, split
    elif failed:
        verdict, why = Verdict.FAIL, worse
    elif counts.get("missing"):
        verdict, why = Verdict.INCONCLUSIVE, MISSING
    elif requests < limits["least_requests"]:
        verdict, why = Verdict.INCONCLUSIVE, f"nothing passes on fewer than {least} requests"
    elif made.independent < limits["least_requests"]:
        verdict = Verdict.INCONCLUSIVE
        why = f"its users ask often, and nothing passes on fewer than {least} independent requests"
    elif made.passes:
        verdict, why = Verdict.PASS, f"within {made.limit}"
    else:
        verdict, why = Verdict.INCONCLUSIVE, f"neither worse nor surely within {made.limit}"
    return Finding(
        gate,
        metric,
        verdict,
        made.rule,
        made.estimate,
        made.lower if requests else None,
        made.upper if requests else None,
        value,
        counts,
        limits,
        f"{about}{_users(counts)}{unchecked(counts)}: {why}",
        _power(made.rule, counts, limits),
    )


def _first_failure(moments: Iterator[Moment], alpha: float) -> tuple[float, bool]:
    """Return the e-value at the first moment that shows harm and True; else the last and False."""
    value = 1.0
    for value, bad, difference in moments:
        if value * alpha >= 1 and bad >= LEAST_BAD and difference >= LEAST_DIFFERENCE:
            return value, True
    return value, False


def _power(rule: str, counts: Series, limits: Limits) -> str:
    """Say how many bad requests would have failed the version, had they come all at once."""
    names = ("at_risk", "first_stable", "at_risk_stable") if by_user(counts) else BOTH[1:]
    requests, bad, others = (float(sum(counts.get(name, ()))) for name in names)
    compared = rule in (RISE, RATIO)
    if not requests or (compared and not others):
        return ""
    usual = bad / others if compared else limits["limit"]

    def fails(hits: int) -> bool:
        test = (
            share_test([(hits, requests, bad, others)], limits["tolerate"])
            if compared
            else rate_test([(hits, requests)], usual)
        )
        enough = hits >= LEAST_BAD and hits / requests - usual >= LEAST_DIFFERENCE
        value = next(test) / (2 if rule == RATIO else 1)  # were none of them late as well
        return enough and value * limits["alpha"] >= 1

    possible = range(LEAST_BAD, int(requests) + 1)
    low = LEAST_BAD + bisect_left(possible, True, key=fails)
    if low > requests:
        return "so few requests could not have failed it"
    return (
        f"{low} of {requests:g} bad at once would have failed it ({percent_text(low / requests)})"
    )


def _users(counts: Series) -> str:
    """Return the number of users behind the requests, and of requests without a user, as text."""
    unnamed = counts.get("unnamed", 0)
    without = f"{unnamed:g} requests name no user and count one by one" if unnamed else ""
    if not by_user(counts):
        return f", {without}" if without else ""
    other = f" and {counts['units_stable']:g}" if "units_stable" in counts else ""
    users = f", of {counts['units']:g}{other} users"
    return f"{users} ({without})" if without else users
