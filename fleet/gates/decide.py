"""Decides the verdict of live counts: FAIL at the first moment that shows harm, else now."""

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, Self

from fleet.codec import plain
from fleet.gates.own_control import names_users
from fleet.gates.sample_ratio import best_cases, first_windows, mismatch, sound_windows, unchecked
from fleet.gates.sequential import Beside, rate_test, rise_test

Counts = Mapping[str, float | Sequence[float]]
"""Whole counts, sums and lists of them, by name: all that a verdict is computed from."""


class Verdict(StrEnum):
    """The conclusion of a gate. Missing data is never a PASS and never a FAIL."""

    PASS = "PASS"  # noqa: S105 (not a password)
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"


@dataclass(frozen=True, slots=True)
class Finding:
    """A judged gate, with everything needed to judge the gate again.

    Rates and scores are fractions from 0 to 1, times seconds.
    """

    gate: str
    metric: str
    verdict: Verdict
    rule: str
    """Name of the method, a key of `fleet.gates.soak.RULES`."""
    estimate: float | None
    """How much worse the new version is, or its rate; None: no data."""
    lower: float | None
    upper: float | None
    """The 95 % bounds of the estimate; one-sided."""
    value: float | None
    """The p-value of an offline gate, the e-value of a live gate."""
    counts: Counts
    parameters: Mapping[str, float] = field(default_factory=dict)
    """The limits and constants that the rule used."""
    reason: str = ""
    """A sentence for people."""
    power: str = ""
    """Smallest harm that these counts could have shown; empty where that is not known."""

    def plain(self) -> dict[str, Any]:
        """Return the finding in plain form; `of` reads the form back."""
        document: dict[str, Any] = plain(self)
        return document

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Self:
        """Return the finding in plain form; later additions are ignored.

        Raises:
            ValueError: a field is missing or of the wrong kind.
        """
        try:
            known = {attribute.name: document[attribute.name] for attribute in fields(cls)}
            counts = {
                str(name): tuple(map(float, value)) if isinstance(value, list) else float(value)
                for name, value in known["counts"].items()
            }
            parameters = {str(name): float(value) for name, value in known["parameters"].items()}
            verdict = Verdict(known["verdict"])
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a finding: {error}") from error
        return cls(**{**known, "verdict": verdict, "counts": counts, "parameters": parameters})


def points_text(fraction: float) -> str:
    """Return a difference of rates for people: `3.2 pp`; bounds of approximations end at 100."""
    return f"{max(-1.0, min(1.0, fraction)) * 100:.1f} pp"


def percent_text(fraction: float) -> str:
    """Return a rate or a chance for people: `3 %`, `0.25 %`, `under 0.01 %`."""
    if 0 < fraction < 1e-4:  # noqa: PLR2004 (below it, digits say nothing)
        return "under 0.01 %"
    return f"{fraction * 100:.2g} %" if 0 < fraction < 0.1 else f"{fraction * 100:.0f} %"  # noqa: PLR2004 (a digit more of small ones)


MISSING = "nothing passes while a gateway is missing"
LEAST_BAD = 5
"""Bad events of the new version below which nothing fails."""
LEAST_DIFFERENCE = 0.005
"""Difference of rates below which nothing fails."""
LEAST_USERS, MOSTLY = 2, 0.5
"""Users with a bad request below which nothing fails, unless so much of all is bad."""
RISE, RATE, ALONE = "rise_by_own_control", "rate_by_own_control", "no_neighbours"
Series = Mapping[str, Any]
"""Counts by window, and a few of the whole stage; `recheck` answers for others."""
Limits = Mapping[str, float]
Moment = tuple[float, float, float]
"""After a window: the e-value, bad requests that count, by how much the rate is too high."""


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
    """Whether most requests are bad, and the old version's are not."""
    tolerated: float = 1.0
    """Factor on the expected bad requests that is no finding yet."""
    allowed: float = 0.0
    """Rise of the rate that is no finding yet."""


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
    if made.collapsed and not failed:
        failed = len(counts["requests"])
        worse = "most of its requests are bad, and of the old version hardly any"
    requests, least = sum(counts["requests"]), f"{limits['least_requests']:g}"
    split = mismatch(counts, limits)
    if split and failed and (despite := _despite_split(made, counts, limits, failed)):
        verdict, why = Verdict.FAIL, f"{worse}, {despite}: {split}"
    elif split:
        verdict, why = Verdict.INCONCLUSIVE, f"void, for {split}"
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
        _power(made, counts, limits),
    )


def _first_failure(moments: Iterator[Moment], alpha: float) -> tuple[float, int]:
    """Return the e-value at the first moment that shows harm, and its number, or 0."""
    value = 1.0
    for number, (value, bad, difference) in enumerate(moments, 1):
        if value * alpha >= 1 and bad >= LEAST_BAD and difference >= LEAST_DIFFERENCE:
            return value, number
    return value, 0


def _despite_split(made: Estimate, counts: Series, limits: Limits, failed: int) -> str:
    """Say why FAIL of window `failed` holds although the split is wrong now; empty: it does not."""
    if "misplaced" not in limits:  # a finding of an earlier release, which is judged as it was
        return ""
    first = last = len(counts["requests"])
    if "each_window" in limits:
        if failed <= sound_windows(counts, limits["alpha"]):
            return "before the split went wrong"
        # With a fixed limit the draws may be of both versions, and are not known by window.
        first = last if "limit" in limits else failed
    for seen in (first_windows(counts, number) for number in range(first, last + 1)):
        cases = best_cases(seen, limits, made.tolerated, made.allowed)
        fails = all(_first_failure(iter([moment]), limits["alpha"])[1] for moment in cases)
        if fails and mismatch(seen, limits):
            return "whatever is wrong with the split"
    return ""


def enough_people(people: float, bad: float, requests: float) -> bool:
    """Say whether the bad requests are of several users, or nearly all there are."""
    return people >= LEAST_USERS or bad >= MOSTLY * requests > 0


def _power(made: Estimate, counts: Series, limits: Limits) -> str:
    """Say how many bad requests would have failed the version, had they come all at once."""
    compared, dispersion = made.rule == RISE, counts.get("dispersion", 1.0)
    names = ("at_risk", "exposure", "hits_stable", "at_risk_stable", "exposure_stable")
    seen = [float(sum(counts.get(name, ()))) for name in names]
    requests, _, bad, of_other, other = seen
    if not requests or (compared and not other):
        return ""
    usual = bad / of_other if compared else limits["limit"]

    def fails(hits: int) -> bool:
        scaled = [number / dispersion for number in (hits, *seen)]
        test = (
            rise_test([Beside(*scaled)], made.tolerated, made.allowed)
            if compared
            else rate_test([(scaled[0], scaled[1])], usual)
        )
        enough = hits >= LEAST_BAD and hits / requests - usual >= LEAST_DIFFERENCE
        return enough and next(test) * limits["alpha"] >= 1

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
    if not names_users(counts):
        return f", {without}" if without else ""
    other = f" and {counts['units_stable']:g}" if "units_stable" in counts else ""
    users = f", of {counts['units']:g}{other} users"
    return f"{users} ({without})" if without else users
