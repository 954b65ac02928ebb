"""Reads the evaluations of the ledger: baselines, series of results, drift."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from statistics import NormalDist
from typing import Any

from fleet.evals.golden_item import ACCURACY, MEASURES
from fleet.gates import mcnemar, newcombe, upper_tail
from fleet.history import Entry, EvalFinished

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


@dataclass(frozen=True, slots=True)
class EvalRecord:
    """An evaluation as kept in the ledger."""

    run: str
    alias: str
    adapter: str
    purpose: str
    summary: Mapping[str, Any]
    at: datetime
    samples_sha256: str = ""
    """Digest of the file with the answers."""

    @property
    def valid(self) -> bool:
        """Whether the evaluation counts."""
        return bool(self.summary.get("valid"))

    @property
    def made_up(self) -> bool:
        """Whether the fake engine answered."""
        return bool(self.summary.get("made_up"))

    def level(self, measure: str = ACCURACY) -> QualityLevel | None:
        """Return the level of the answers on a measure; None: the measure was not scored."""
        level = self.summary.get("levels", {}).get(measure)
        return QualityLevel(float(level["good"]), int(level["n"])) if level and level["n"] else None

    def compared(self, measure: str) -> Mapping[str, int] | None:
        """Return how the answers differ from those after training; None: not compared."""
        compared: Mapping[str, int] | None = self.summary.get("compared", {}).get(measure)
        return compared

    @property
    def library(self) -> QualityLevel | None:
        """The accuracy in the library's own evaluation on the set; None: it has none."""
        level = self.summary.get("library")
        return QualityLevel(float(level["good"]), int(level["n"])) if level else None

    @property
    def golden(self) -> str:
        """Path of the golden set; of an old entry without a path, the digest."""
        return str(self.summary.get("golden") or self.golden_digest)

    @property
    def golden_digest(self) -> str:
        """Digest of the golden set."""
        return str(self.summary.get("golden_digest", ""))


def eval_records(entries: Iterable[Entry]) -> dict[str, list[EvalRecord]]:
    """Return every evaluation by alias, oldest first.

    Answers of the fake engine count for as long as no real engine has answered for the alias.
    """
    by_alias: dict[str, list[EvalRecord]] = defaultdict(list)
    for entry in entries:
        event = entry.event
        if isinstance(event, EvalFinished):
            record = EvalRecord(
                event.run, event.alias, event.adapter, event.purpose, event.summary, entry.time,
                event.samples_sha256,
            )  # fmt: skip
            by_alias[event.alias].append(record)
    return {alias: [record for record in runs if not record.made_up] or runs
            for alias, runs in by_alias.items()}  # fmt: skip


AFTER_TRAINING = frozenset({"anchor", "gate"})
"""Purposes of runs that may be a version's result after training: the first such run is."""


def baseline(
    past: Sequence[EvalRecord], adapter: str, golden_digest: str, decoding: Mapping[str, Any]
) -> EvalRecord | None:
    """Return a version's result after training: the first valid run on the set.

    That is the run which let the version into traffic, or the first scheduled run. A run with the
    same decoding goes before the others, which cannot be compared.
    """
    results = [run for run in _results(past, adapter) if run.golden_digest == golden_digest]
    alike = [run for run in results if run.summary.get("decoding") == decoding]
    return next(iter(alike or results), None)


def first_result(past: Sequence[EvalRecord], adapter: str, golden: str) -> EvalRecord | None:
    """Return a version's first result on the set at a path, equal content or not."""
    return next((run for run in _results(past, adapter) if run.golden == golden), None)


def _results(past: Sequence[EvalRecord], adapter: str) -> Iterator[EvalRecord]:
    """Yield the runs that may be a result after training: none far below the library's own."""
    runs = [record for record in _valid(past, adapter) if record.purpose in AFTER_TRAINING]
    known = {record.golden_digest: record.library for record in runs if record.library}
    for record in runs:
        library, level = known.get(record.golden_digest), record.level()
        if not (library and level and far_below(library, level)):
            yield record


def _own_set(past: Sequence[EvalRecord], adapter: str) -> str | None:
    """Return the path of the alias' own set, which anchor runs ask: a gate may ask another.

    Before the first anchor run: the only set that the version was asked. None: not known.
    """
    anchors = [record.golden for record in past if record.valid and record.purpose == "anchor"]
    asked = {result.golden for result in _results(past, adapter)}
    return anchors[-1] if anchors else asked.pop() if len(asked) == 1 else None


def latest_anchor(
    past: Sequence[EvalRecord], adapter: str, golden_digest: str
) -> EvalRecord | None:
    """Return a version's last valid anchor run on the set."""
    anchors = [record for record in _valid(past, adapter) if record.purpose == "anchor"]
    return anchors[-1] if anchors and anchors[-1].golden_digest == golden_digest else None


def floor(past: Sequence[EvalRecord], adapter: str, measure: str = ACCURACY) -> QualityLevel | None:
    """Return the noise floor: changed answers when a version was asked the same again."""
    runs = (record for record in _valid(past, adapter) if record.purpose == "aa")
    counts = [compared for run in runs if (compared := run.compared(measure))]
    changed, n = (sum(compared[key] for compared in counts) for key in ("changed", "n"))
    return QualityLevel(changed, n) if counts else None


def _valid(past: Sequence[EvalRecord], adapter: str) -> list[EvalRecord]:
    return [record for record in past if record.valid and record.adapter == adapter]


def far_below(library: QualityLevel, level: QualityLevel) -> bool:
    """Say whether a result is far below the library's own evaluation on the same set."""
    return judge_against_library(library, level).standing is DriftStatus.SERVING


def drifts(past: Sequence[EvalRecord], adapter: str) -> tuple[QualityDrift, ...]:
    """Judge a version's evaluations by every rule that has a result."""
    return tuple(drift for measure in MEASURES for drift in _drifts(past, adapter, measure))


def drift_since(past: Sequence[EvalRecord], adapter: str, drift: QualityDrift) -> str:
    """Return the id of the evaluation since which a rule has had this verdict without a break."""
    alike, first = (drift.rule, drift.measure, drift.standing), ""
    for end in range(len(past), 0, -1):
        last = past[end - 1]
        if not last.valid or last.adapter != adapter:
            continue
        verdicts = drifts(past[:end], adapter)
        if alike not in {(other.rule, other.measure, other.standing) for other in verdicts}:
            break
        first = last.run
    return first


def _drifts(past: Sequence[EvalRecord], adapter: str, measure: str) -> Iterator[QualityDrift]:
    mine = _valid(past, adapter)
    anchors = [record for record in mine if record.purpose == "anchor"]
    asked = [record for record in mine if record.purpose in AFTER_TRAINING and record.library]
    if measure == ACCURACY and asked and (level := asked[-1].level()) and asked[-1].library:
        yield judge_against_library(asked[-1].library, level)
    own = _own_set(past, adapter)
    first = first_result(mine, adapter, own) if own is not None else None
    now = first.level(measure) if first else None
    compared = anchors[-1].compared(measure) if anchors else None
    if compared:
        noise = floor(past, adapter, measure)
        yield judge_anchor(
            compared["changed"], compared["worse"], compared["n"], noise, measure=measure
        )
    elif anchors and measure == ACCURACY and anchors[-1].summary.get("not_compared"):
        reason = str(anchors[-1].summary["not_compared"])
        yield QualityDrift("anchor", measure, DriftStatus.UNKNOWN, reason, {})
    if weeks := _fresh(mine, measure):
        yield judge_rolling(now, weeks, measure=measure)
    if first is not None and now is not None:
        earlier = [
            record for record in past
            if record.valid and record.purpose in AFTER_TRAINING and record.golden == own
            and record.adapter != adapter and record.at < first.at
        ]  # fmt: skip
        alike = [record for record in earlier if record.golden_digest == first.golden_digest]
        firsts: dict[str, EvalRecord] = {}
        for record in alike:
            firsts.setdefault(record.adapter, record)
        marks = [level for record in firsts.values() if (level := record.level(measure))]
        best = max(marks, key=lambda mark: mark.share, default=None)
        if best is not None:
            yield ratchet(best, now, measure=measure)
        elif earlier and measure == ACCURACY:
            reason = (
                f"{own} was changed since {earlier[-1].adapter} was evaluated on it: "
                "the two do not compare"
            )
            yield QualityDrift("ratchet", measure, DriftStatus.UNKNOWN, reason, {})


def _fresh(mine: Sequence[EvalRecord], measure: str) -> list[QualityLevel]:
    """Return the rolling results, the last of every set: a set asked again counts once."""
    latest: dict[str, QualityLevel] = {}
    for record in mine:
        level = record.level(measure)
        if record.purpose == "rolling" and level is not None:
            latest.pop(record.golden_digest, None)
            latest[record.golden_digest] = level
    return list(latest.values())
