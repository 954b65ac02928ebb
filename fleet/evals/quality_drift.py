"""Decides whether a version answers as well as after its training.

Two sets see two things. The **anchor** set is frozen: its answers change only when serving
does (another engine, a quantisation, a wrong load). The **rolling** set is fresh: its scores
fall when the world moves away from what the version was trained on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import NormalDist

from fleet.gates import mcnemar, newcombe, upper_tail

MARGIN = 0.03
"""The drop under the baseline that matters, as a share."""
FLOOR_TIMES = 3.0
"""How many times the noise floor a share of changed answers is no finding yet."""
SIGNIFICANT = 0.01
"""Of the binomial test on changed answers, and of McNemar's on those that are worse."""
WEEKS = 4
"""Fresh sets that are pooled."""
RETRAIN_CONFIDENCE = 0.9975
"""Of the lower bound of the pooled drop, at each weekly look.

A bound of 95 % at each of 52 looks asks for a needless retraining in up to half of all healthy
years, most with small weekly sets; this one does so in at most 8 %. `tests/fleet/evals/test_drift`
simulates both and prints the table of the README.
"""


class DriftStatus(StrEnum):
    """What a drift rule says. Too little data is UNKNOWN, never STEADY."""

    STEADY = "steady"
    WATCH = "watch"
    SERVING = "serving"
    """The answers to the frozen set changed: look at the server, not at the training."""
    RETRAIN = "retrain"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class QualityLevel:
    """How good answers were: the sum of the scores of so many items."""

    good: float
    n: int

    @property
    def share(self) -> float:
        """The mean score, 0 to 1."""
        return self.good / self.n if self.n else 0.0


@dataclass(frozen=True, slots=True)
class QualityDrift:
    """What one rule says, with the counts it is computed from."""

    rule: str
    """`anchor`, `rolling` or `ratchet`."""
    measure: str
    """`accuracy`, `format` or `grounded`; 1 less it is the hallucination rate."""
    standing: DriftStatus
    reason: str
    counts: Mapping[str, float]


def judge_anchor(
    changed: int, worse: int, n: int, floor: QualityLevel | None, *, measure: str = "accuracy"
) -> QualityDrift:
    """Judge how many answers to the frozen set are scored otherwise than after training.

    `serving`: more changed than noise explains, or more than `MARGIN` of them are worse, on
    balance, and surely so: what changes both ways is noise, what changes one way is not.

    Args:
        changed: Items whose score differs.
        worse: Those of them that are worse now.
        n: Items compared.
        floor: Changed items when the same version was asked twice; None: never measured.
        measure: What was scored.
    """
    base = max(floor.share, 1 / (floor.n + 2)) if floor else 1 / (n + 2)
    counts = {"changed": changed, "worse": worse, "n": n, "floor": base}
    if not n:
        return QualityDrift(
            "anchor", measure, DriftStatus.UNKNOWN, "nothing to compare with", counts
        )
    told = f"{changed} of {n} answers changed, {worse} for the worse"
    usual = f"{FLOOR_TIMES:g} x the noise floor of {base:.1%}"
    if upper_tail(changed, n, min(1.0, FLOOR_TIMES * base)) < SIGNIFICANT:
        return QualityDrift(
            "anchor", measure, DriftStatus.SERVING, f"{told}: more than {usual}", counts
        )
    sure = mcnemar(worse, changed - worse) < SIGNIFICANT
    if sure and 2 * worse - changed > MARGIN * n:
        reason = f"{told}: surely worse, and by more than {100 * MARGIN:g} points"
        return QualityDrift("anchor", measure, DriftStatus.SERVING, reason, counts)
    return QualityDrift("anchor", measure, DriftStatus.STEADY, f"{told}: within {usual}", counts)


def judge_rolling(
    baseline: QualityLevel | None,
    weeks: Sequence[QualityLevel],
    *,
    measure: str = "accuracy",
    confidence: float = RETRAIN_CONFIDENCE,
) -> QualityDrift:
    """Judge the fresh sets, oldest first, against the result after training.

    `retrain`: the pooled drop of the last four is above 3 points, and surely above 0; or, however
    few they are, surely above 3 points, which needs no waiting. `watch`: the last two are each
    more than 3 points under the baseline; advisory, it cries wolf.
    """
    recent = weeks[-WEEKS:]
    pooled = QualityLevel(sum(run.good for run in recent), sum(run.n for run in recent))
    if baseline is None or not baseline.n or not pooled.n:
        lacks = "fresh set" if baseline else "result after training on its own golden set"
        return QualityDrift(
            "rolling", measure, DriftStatus.UNKNOWN, f"no {lacks} was evaluated", {}
        )
    drop, z = baseline.share - pooled.share, NormalDist().inv_cdf(confidence)
    lower = newcombe(baseline.good, baseline.n, pooled.good, pooled.n, z)[0]
    counts = {
        "baseline_good": baseline.good, "baseline_n": baseline.n, "good": pooled.good,
        "n": pooled.n, "sets": len(recent), "drop": drop, "lower": lower,
    }  # fmt: skip
    told = (
        f"{pooled.share:.1%} on {len(recent)} fresh sets ({pooled.n} items), "
        f"{baseline.share:.1%} after training"
    )
    if len(recent) >= WEEKS and drop > MARGIN and lower > 0:
        reason = f"{told}: surely worse, and by more than {100 * MARGIN:g} points"
        return QualityDrift("rolling", measure, DriftStatus.RETRAIN, reason, counts)
    if lower > MARGIN:
        reason = f"{told}: surely worse by more than {100 * MARGIN:g} points"
        return QualityDrift("rolling", measure, DriftStatus.RETRAIN, reason, counts)
    low = [baseline.share - run.share > MARGIN for run in recent[-2:]]
    if len(low) > 1 and all(low):
        return QualityDrift(
            "rolling", measure, DriftStatus.WATCH, f"{told}: two low sets in a row", counts
        )
    return QualityDrift("rolling", measure, DriftStatus.STEADY, told, counts)


def ratchet(
    mark: QualityLevel | None, new: QualityLevel, *, measure: str = "accuracy"
) -> QualityDrift:
    """Judge a new version's result after training against the best result of earlier versions.

    Against the best and not the last: 3 points a release would be a slide nobody sees.
    """
    counts = {"good": new.good, "n": new.n}
    if mark is None or not mark.n or not new.n:
        return QualityDrift(
            "ratchet", measure, DriftStatus.UNKNOWN, "no earlier version was evaluated", counts
        )
    counts |= {"mark_good": mark.good, "mark_n": mark.n}
    told = f"{new.share:.1%} after training, and the best version so far had {mark.share:.1%}"
    if mark.share - new.share > MARGIN:
        return QualityDrift("ratchet", measure, DriftStatus.WATCH, f"{told}: a slide", counts)
    return QualityDrift("ratchet", measure, DriftStatus.STEADY, told, counts)
