"""Counts recorded findings again, from answers of evaluations, and from rows while they exist.

A recount reads what stands beside the ledger, so that it finds counts that were made up and rows
and answers that were changed since.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TypeAlias

from fleet.errors import EvalError
from fleet.gates import CountedRows, Finding, TimedRow, digest_of_rows, in_order
from fleet.history import Entry, GateJudged, GateVerdict, UpgradeJudged
from fleet.policies import OFFLINE, UNITS, GateSpec
from fleet.resources import FULL
from runtime.evals.store import EvalStore
from runtime.gates.live import count_again
from runtime.gates.offline import judge_runs
from runtime.usage.log import GATEWAYS
from runtime.usage.parquet import KEEP_LOGS, kept_rows
from runtime.usage.read import UsageReader


class RecountState(StrEnum):
    """The result of a recount."""

    SAME = "as recorded"
    CHANGED = "changed"
    FORGOTTEN = "forgotten"
    """Rows or answers were removed when their time was over."""
    UNCHECKED = "not checked"


_Made: TypeAlias = tuple[RecountState, str]


@dataclass(frozen=True, slots=True)
class Recount:
    """A recorded finding, counted again."""

    seq: int
    adapter: str
    gate: str
    state: RecountState
    why: str = ""
    """The difference, or why nothing was counted, as a sentence without its full stop."""


def recounted(entries: Sequence[Entry], state_dir: Path, now: datetime) -> Iterator[Recount]:
    """Yield a recount of the newest finding of every gate in every stage.

    A finding has counted the requests of all findings before in its stage.
    """
    newest: dict[tuple[object, ...], tuple[int, GateVerdict]] = {}
    for entry in entries:
        match entry.event:
            case GateJudged() as event:
                stage = event.stable, event.percent, event.since
                newest[event.alias, event.adapter, event.gate, *stage] = entry.seq, event
            case UpgradeJudged() as event:
                canary = event.settings, event.canary
                newest[event.alias, event.adapter, event.gate, *canary] = entry.seq, event
            case _:
                pass
    store, rows = EvalStore(state_dir / "evals"), _KeptRows(state_dir, now)
    for seq, verdict in sorted(newest.values(), key=_subject):
        try:
            finding = Finding.of(verdict.finding)
        except ValueError:  # which `check_evidence` says
            continue
        made = _evaluated(verdict, finding, store) if finding.metric in OFFLINE else None
        if made is None and isinstance(verdict, GateJudged) and verdict.rows is not None:
            made = rows.recount(verdict, verdict.rows, finding)
        live = finding.metric not in OFFLINE
        if made is None and live and any(map(_any, finding.counts.values())):
            made = RecountState.UNCHECKED, "it does not name the usage rows that it counted"
        if made is not None:
            yield Recount(seq, verdict.adapter, verdict.gate, *made)


def _subject(found: tuple[int, GateVerdict]) -> tuple[str, str, int]:
    """Return the order of findings, by which rows are read once an attempt."""
    return found[1].alias, found[1].adapter, found[0]


def _any(count: float | Sequence[float]) -> bool:
    return any(count) if isinstance(count, Sequence) else bool(count)


def _evaluated(event: GateVerdict, finding: Finding, store: EvalStore) -> _Made | None:
    """Judge the stored answers again; None: no evaluation stands behind the finding."""
    if not event.runs:
        return None
    try:
        stable, canary = map(store.read, event.runs)
    except (EvalError, OSError) as error:
        gone = not all(store.path(run).exists() for run in event.runs)
        if gone:
            return RecountState.FORGOTTEN, "its answers are no longer kept"
        return RecountState.CHANGED, f"its answers cannot be read: {error}"
    again = judge_runs(_gate_of(finding), stable, canary)
    return _compared(finding, again)


@dataclass(slots=True)
class _KeptRows:
    """The usage rows of an alias that are still kept."""

    state_dir: Path
    now: datetime
    _about: tuple[str, datetime] | None = None
    _rows: Sequence[TimedRow] = ()

    def recount(self, event: GateJudged, counted: CountedRows, finding: Finding) -> _Made:
        """Count the rows of a finding again."""
        first, end = counted.first, counted.end
        if first is None or end is None:
            return RecountState.UNCHECKED, "it does not say of which time its rows are"
        kept = [its for its in self._since(event.alias, first) if first <= its.time < end]
        found = kept[: counted.rows]
        if digest_of_rows(its.digest for its in found) != counted.sha256:
            lacking = counted.rows - len(kept)
            if lacking > 0 and self.now - first > KEEP_LOGS:
                return RecountState.FORGOTTEN, f"{lacking} of its usage rows are no longer kept"
            how = f"{lacking} of them are gone" if lacking > 0 else "they are others now"
            return RecountState.CHANGED, f"it counted {counted.rows} usage rows, and {how}"
        if event.percent == FULL and not counted.alone:
            return RecountState.SAME, ""  # hours may be left out for what other aliases did then
        rows = [its.row for its in found]
        return _compared(finding, count_again(_gate_of(finding), event, counted, rows))

    def _since(self, alias: str, first: datetime) -> Sequence[TimedRow]:
        if self._about != (alias, first):
            self._about = alias, first
            logs = UsageReader(self.state_dir / GATEWAYS).rows(first, alias)
            self._rows = in_order([*logs, *kept_rows(self.state_dir, first, alias)])
        return self._rows


def _gate_of(finding: Finding) -> GateSpec:
    """Return the gate that a finding was judged by, from its own limits."""
    limits = finding.parameters
    unit = "x" if UNITS.get(finding.metric) == ("x",) else ""  # a fraction or seconds otherwise
    made = GateSpec(finding.gate, finding.metric, limits.get("margin", 0.0), unit)
    samples = finding.counts.get("samples")
    return replace(
        made,
        floor=limits.get("floor"),
        samples=int(samples) if isinstance(samples, float | int) else 1,
        tolerate=limits.get("tolerate", made.tolerate),
        min_requests=int(limits.get("least_requests", made.min_requests)),
        false_alarm=limits.get("alpha", made.false_alarm),
        alarm_at=limits.get("alarm"),
    )


def _compared(finding: Finding, again: Finding) -> _Made:
    shared = [name for name in again.counts if name in finding.counts]  # a release may count more
    if again.rule != finding.rule or not shared:
        return RecountState.UNCHECKED, "this release judges it by other counts"
    for name in shared:
        if finding.counts[name] != again.counts[name]:
            said, found = _total(finding.counts[name]), _total(again.counts[name])
            return RecountState.CHANGED, f"it says {name} {said}, and a recount gives {found}"
    return RecountState.SAME, ""


def _total(count: float | Sequence[float]) -> str:
    return f"{sum(count) if isinstance(count, Sequence) else count:g}"
