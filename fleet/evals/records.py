"""Reads the evaluations of the ledger: baselines, series of results, drift."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fleet.evals.golden_item import ACCURACY, MEASURES
from fleet.evals.quality_drift import (
    DriftStatus,
    QualityDrift,
    QualityLevel,
    judge_anchor,
    judge_rolling,
    ratchet,
)
from fleet.history import Entry, EvalFinished


@dataclass(frozen=True, slots=True)
class EvalRecord:
    """One evaluation as the ledger keeps it."""

    run: str
    alias: str
    adapter: str
    purpose: str
    summary: Mapping[str, Any]
    at: datetime
    samples_sha256: str = ""
    """Of the file with its answers."""

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
        found = self.summary.get("levels", {}).get(measure)
        return QualityLevel(float(found["good"]), int(found["n"])) if found and found["n"] else None

    def compared(self, measure: str) -> Mapping[str, int] | None:
        """Return how the answers differ from those after training; None: not compared."""
        found: Mapping[str, int] | None = self.summary.get("compared", {}).get(measure)
        return found

    @property
    def golden(self) -> str:
        """Path of the set that was asked; of an old entry without a path, the digest."""
        return str(self.summary.get("golden") or self.golden_digest)

    @property
    def golden_digest(self) -> str:
        """Of the set that was asked."""
        return str(self.summary.get("golden_digest", ""))


def eval_records(entries: Iterable[Entry]) -> dict[str, list[EvalRecord]]:
    """Return every evaluation by alias, oldest first.

    What the fake engine answered counts for as long as no real engine has answered for the alias.
    """
    found: dict[str, list[EvalRecord]] = defaultdict(list)
    for entry in entries:
        match entry.event:
            case EvalFinished(run=run, alias=alias, adapter=adapter, purpose=purpose) as event:
                summary, sha = event.summary, event.samples_sha256
                found[alias].append(
                    EvalRecord(run, alias, adapter, purpose, summary, entry.time, sha)
                )
            case _:
                pass
    return {alias: [record for record in runs if not record.made_up] or runs
            for alias, runs in found.items()}  # fmt: skip


AFTER_TRAINING = frozenset({"anchor", "gate"})
"""Purposes of runs that may be a version's result after training: the first one is."""


def baseline(
    past: Sequence[EvalRecord], adapter: str, golden_digest: str, decoding: Mapping[str, Any]
) -> EvalRecord | None:
    """Return a version's result after training: its first valid run on the set.

    That is the one which let it into traffic, or the first scheduled one. One that was asked in
    the same way goes before the others, with which nothing compares.
    """
    found = [
        result for result in _results(past, adapter) if result.golden_digest == golden_digest
    ]  # fmt: skip
    alike = [record for record in found if record.summary.get("decoding") == decoding]
    return next(iter(alike or found), None)


def first_result(past: Sequence[EvalRecord], adapter: str, golden: str) -> EvalRecord | None:
    """Return a version's first result on the set at a path, whatever the set held then."""
    return next((result for result in _results(past, adapter) if result.golden == golden), None)


def _results(past: Sequence[EvalRecord], adapter: str) -> Iterator[EvalRecord]:
    for record in past:
        if record.valid and record.purpose in AFTER_TRAINING and record.adapter == adapter:
            yield record


def _own_set(past: Sequence[EvalRecord], adapter: str) -> str | None:
    """Return the path of the alias' own set, which anchor runs ask: a gate may ask another.

    Before the first of them it is the only one that the version was asked; None: not known.
    """
    anchors = [record.golden for record in past if record.valid and record.purpose == "anchor"]
    asked = {result.golden for result in _results(past, adapter)}
    return anchors[-1] if anchors else asked.pop() if len(asked) == 1 else None


def latest_anchor(
    past: Sequence[EvalRecord], adapter: str, golden_digest: str
) -> EvalRecord | None:
    """Return a version's last valid anchor run on the set."""
    for record in reversed(past):
        if record.valid and (record.purpose, record.adapter) == ("anchor", adapter):
            return record if record.golden_digest == golden_digest else None
    return None


def floor(past: Sequence[EvalRecord], adapter: str, measure: str = ACCURACY) -> QualityLevel | None:
    """Return the noise floor: changed answers when a version was asked the same again."""
    runs = [
        record
        for record in past
        if record.valid and (record.purpose, record.adapter) == ("aa", adapter)
    ]
    counts = [found for run in runs if (found := run.compared(measure))]
    if not counts:
        return None
    return QualityLevel(sum(each["changed"] for each in counts), sum(each["n"] for each in counts))


def drifts(past: Sequence[EvalRecord], adapter: str) -> tuple[QualityDrift, ...]:
    """Judge a version's evaluations by every rule that has a result."""
    return tuple(found for measure in MEASURES for found in _drifts(past, adapter, measure))


def drift_since(past: Sequence[EvalRecord], adapter: str, drift: QualityDrift) -> str:
    """Return the evaluation from which on a rule has said this without a break, by its id."""
    alike, first = (drift.rule, drift.measure, drift.standing), ""
    for end in range(len(past), 0, -1):
        last = past[end - 1]
        if not last.valid or last.adapter != adapter:
            continue
        said = drifts(past[:end], adapter)
        if not any(alike == (record.rule, record.measure, record.standing) for record in said):
            break
        first = last.run
    return first


def _drifts(past: Sequence[EvalRecord], adapter: str, measure: str) -> Iterator[QualityDrift]:
    mine = [record for record in past if record.valid and record.adapter == adapter]
    anchors = [record for record in mine if record.purpose == "anchor"]
    own = _own_set(past, adapter)
    first = first_result(mine, adapter, own) if own is not None else None
    compared = anchors[-1].compared(measure) if anchors else None
    if compared:
        noise = floor(past, adapter, measure)
        yield judge_anchor(
            compared["changed"], compared["worse"], compared["n"], noise, measure=measure
        )
    elif anchors and measure == ACCURACY and anchors[-1].summary.get("not_compared"):
        reason = str(anchors[-1].summary["not_compared"])
        yield QualityDrift("anchor", measure, DriftStatus.UNKNOWN, reason, {})
    weeks = _fresh(mine, measure)
    if weeks:
        yield judge_rolling(first.level(measure) if first else None, weeks, measure=measure)
    now = first.level(measure) if first else None
    if first is not None and now is not None:
        earlier = [
            record for record in past
            if record.valid and record.purpose in AFTER_TRAINING and record.golden == own
            and record.adapter != adapter and record.at < first.at
        ]  # fmt: skip
        marks = [
            level
            for record in _firsts(earlier, first.golden_digest)
            if (level := record.level(measure))
        ]
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
    """Return the rolling results, the first of every set: a set asked again is not fresh."""
    latest: dict[str, QualityLevel] = {}
    for record in mine:
        level = record.level(measure)
        if record.purpose == "rolling" and level is not None:
            latest.pop(record.golden_digest, None)
            latest[record.golden_digest] = level
    return list(latest.values())


def _firsts(earlier: Sequence[EvalRecord], golden_digest: str) -> Iterator[EvalRecord]:
    seen = set()
    for record in earlier:
        if record.golden_digest == golden_digest and record.adapter not in seen:
            seen.add(record.adapter)
            yield record
