"""Decides whether a version answers as well as after its training.

The **anchor** set is frozen: its answers change only when serving does (another engine, a
quantisation, a wrong load). The **rolling** set is fresh: its scores fall when the world moves away
from the training data.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import NormalDist

from fleet.gates import mcnemar, newcombe, upper_tail

MARGIN = 0.03
"""The drop under the baseline that matters, as a share."""
FLOOR_TIMES = 3.0
"""Multiple of the noise floor up to which a share of changed answers is no finding."""
SIGNIFICANT = 0.01
"""Level of the binomial test on changed answers, and of McNemar's test on worse answers."""
WEEKS = 4
"""Fresh sets that are pooled."""
RETRAIN_CONFIDENCE = 0.9975
"""Confidence of the lower bound of the pooled drop, at every weekly look.

A bound of 95 % at each of 52 looks asks for a needless retraining in up to half of all healthy
years, most with small weekly sets; this bound does so in at most 8 %.
`tests/fleet/evals/test_quality_drift.py` simulates both and prints the table of `docs/evals.md`.
"""


class DriftStatus(StrEnum):
    """The verdict of a drift rule. Too little data is UNKNOWN, never STEADY."""

    STEADY = "steady"
    WATCH = "watch"
    SERVING = "serving"
    """The answers to the frozen set changed: look at the server, not at the training."""
    RETRAIN = "retrain"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class QualityLevel:
    """The quality of answers: the sum of the scores of `n` items."""

    good: float
    n: int

    @property
    def share(self) -> float:
        """The mean score, 0 to 1."""
        return self.good / self.n if self.n else 0.0


@dataclass(frozen=True, slots=True)
class QualityDrift:
    """The verdict of a rule, with the counts that the verdict is computed from."""

    rule: str
    """`library`, `anchor`, `rolling` or `ratchet`."""
    measure: str
    """`accuracy`, `format` or `grounded`; the hallucination rate is 1 less the grounded share."""
    standing: DriftStatus
    reason: str
    counts: Mapping[str, float]


def judge_anchor(
    changed: int, worse: int, n: int, floor: QualityLevel | None, *, measure: str = "accuracy"
) -> QualityDrift:
    """Judge the answers to the frozen set that are scored otherwise than after training.

    `serving`: more answers changed than noise explains, or more than `MARGIN` of them are worse, on
    balance, and surely so: changes both ways are noise, changes in a single direction are not.
    `floor` has the changed items when the same version was asked twice; None: never measured.
    """
    base = max(floor.share, 1 / (floor.n + 2)) if floor else 1 / (n + 2)
    counts = {"changed": changed, "worse": worse, "n": n, "floor": base}
    outcome = f"{changed} of {n} answers changed, {worse} for the worse"
    usual = f"{FLOOR_TIMES:g} x the noise floor of {base:.1%}"
    standing, reason = DriftStatus.STEADY, f"{outcome}: within {usual}"
    if not n:
        standing, reason = DriftStatus.UNKNOWN, "nothing to compare with"
    elif upper_tail(changed, n, min(1.0, FLOOR_TIMES * base)) < SIGNIFICANT:
        standing, reason = DriftStatus.SERVING, f"{outcome}: more than {usual}"
    elif mcnemar(worse, changed - worse) < SIGNIFICANT and 2 * worse - changed > MARGIN * n:
        standing = DriftStatus.SERVING
        reason = f"{outcome}: surely worse, and by more than {100 * MARGIN:g} points"
    return QualityDrift("anchor", measure, standing, reason, counts)


def judge_rolling(
    baseline: QualityLevel | None,
    weeks: Sequence[QualityLevel],
    *,
    measure: str = "accuracy",
    confidence: float = RETRAIN_CONFIDENCE,
) -> QualityDrift:
    """Judge the fresh sets, oldest first, against the result after training.

    `retrain`: the pooled drop of the last four sets is above 3 points, and surely above 0; or the
    drop of fewer sets is surely above 3 points, which needs no waiting. `watch`: both of the last
    two sets are more than 3 points under the baseline; advisory, with many false alarms.
    """
    recent = weeks[-WEEKS:]
    pooled = QualityLevel(sum(run.good for run in recent), sum(run.n for run in recent))
    if baseline is None or not baseline.n or not pooled.n:
        lacks = "fresh set" if baseline else "result after training on its own golden set"
        reason = f"no {lacks} was evaluated"
        return QualityDrift("rolling", measure, DriftStatus.UNKNOWN, reason, {})
    drop, z = baseline.share - pooled.share, NormalDist().inv_cdf(confidence)
    lower = newcombe(baseline.good, baseline.n, pooled.good, pooled.n, z)[0]
    counts = {
        "baseline_good": baseline.good, "baseline_n": baseline.n, "good": pooled.good,
        "n": pooled.n, "sets": len(recent), "drop": drop, "lower": lower,
    }  # fmt: skip
    outcome = (
        f"{pooled.share:.1%} on {len(recent)} fresh sets ({pooled.n} items), "
        f"{baseline.share:.1%} after training"
    )
    standing, reason = DriftStatus.STEADY, outcome
    if len(recent) >= WEEKS and drop > MARGIN and lower > 0:
        standing = DriftStatus.RETRAIN
        reason = f"{outcome}: surely worse, and by more than {100 * MARGIN:g} points"
    elif lower > MARGIN:
        standing = DriftStatus.RETRAIN
        reason = f"{outcome}: surely worse by more than {100 * MARGIN:g} points"
    elif len(recent) > 1 and all(baseline.share - run.share > MARGIN for run in recent[-2:]):
        standing, reason = DriftStatus.WATCH, f"{outcome}: two low sets in a row"
    return QualityDrift("rolling", measure, standing, reason, counts)


def judge_against_library(library: QualityLevel, now: QualityLevel) -> QualityDrift:
    """Judge a result on a set against the library's own evaluation on the same set.

    `serving`: surely worse by more than `MARGIN`, as few fresh sets have to be. Training and
    serving differ a little; bytes of another version, or of a base, differ by far.
    """
    z = NormalDist().inv_cdf(RETRAIN_CONFIDENCE)
    lower = newcombe(library.good, library.n, now.good, now.n, z)[0]
    counts = {"library_good": library.good, "library_n": library.n, "good": now.good, "n": now.n}
    standing = DriftStatus.STEADY
    reason = f"{now.share:.1%}, and the library's own evaluation on this set says "
    reason += f"{library.share:.1%}"
    if lower > MARGIN:
        standing = DriftStatus.SERVING
        reason += (
            ": far below, so it is no result after training. The likely cause is wrong bytes: the "
            "server answers with those of another version, of a damaged copy, or of the base"
        )
    return QualityDrift("library", "accuracy", standing, reason, {**counts, "lower": lower})


def ratchet(
    mark: QualityLevel | None, new: QualityLevel, *, measure: str = "accuracy"
) -> QualityDrift:
    """Judge a new version's result after training against the best result of earlier versions.

    Against the best and not the last: 3 points a release would be a slide that no rule sees.
    """
    counts = {"good": new.good, "n": new.n}
    if mark is None or not mark.n or not new.n:
        reason = "no earlier version was evaluated"
        return QualityDrift("ratchet", measure, DriftStatus.UNKNOWN, reason, counts)
    counts |= {"mark_good": mark.good, "mark_n": mark.n}
    reason = f"{new.share:.1%} after training, and the best version so far had {mark.share:.1%}"
    standing = DriftStatus.STEADY
    if mark.share - new.share > MARGIN:
        standing, reason = DriftStatus.WATCH, f"{reason}: a slide"
    return QualityDrift("ratchet", measure, standing, reason, counts)
