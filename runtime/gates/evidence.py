"""Records judged gates in the ledger, and checks the files of evaluations against the ledger."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from fleet.gates import CountedRows, Finding, Verdict, judge_live, judge_paired
from fleet.history import (
    LIMITS,
    Entry,
    EvalFinished,
    GateEvidence,
    GateJudged,
    UpgradeJudged,
    other_engine,
)
from fleet.policies import GateSpec
from fleet.rollouts import GateTrial
from runtime.evals.store import EvalStore
from runtime.files import read_plain


@dataclass(frozen=True, slots=True)
class JudgedGate:
    """A gate, judged now."""

    trial: GateTrial
    finding: Finding
    digests: Mapping[str, str]
    fingerprint: str = ""
    """Of the engine that answered an evaluation."""
    runs: tuple[str, ...] = ()
    """Ids of the evaluations, stable's first."""
    problem: str = ""
    """Why nothing could be judged; empty where counts stand behind the finding."""
    rows: CountedRows | None = None
    """The usage rows that were counted; None: none were, or the finding is not for the ledger."""

    @property
    def failed(self) -> bool:
        """Whether the version must not go on."""
        overridden = self.finding.gate in self.trial.accepted
        return self.finding.verdict is Verdict.FAIL and not overridden

    def event(self, now: datetime) -> GateJudged | UpgradeJudged:
        """Return the event for the ledger; `now`: for a stage of which the begin is not known."""
        trial, upgrade, digests = self.trial, self.trial.upgrade, self.digests
        verdict = (
            trial.alias, trial.adapter, self.finding.gate, self.finding.plain(),
            {**trial.digests, **digests}, self.runs,
        )  # fmt: skip
        if upgrade is not None:
            return UpgradeJudged(
                *verdict, base=upgrade.base, settings=upgrade.settings,
                old=upgrade.old_settings, canary=upgrade.canary,
            )  # fmt: skip
        return GateJudged(
            *verdict, stable=trial.stable, percent=trial.percent, fingerprint=self.fingerprint,
            since=trial.since or now, rows=self.rows,
        )  # fmt: skip


def unjudged(trial: GateTrial, gate: GateSpec, why: str) -> JudgedGate:
    """Return a finding without a single count: inconclusive, for the reason given."""
    finding = judge_paired(gate, (), ()) if gate.offline else judge_live(gate, ())
    return JudgedGate(trial, replace(finding, reason=why), {}, problem=why)


def worth_recording(
    new: JudgedGate, known: GateEvidence | None, now: datetime, every: timedelta
) -> bool:
    """Say whether a finding tells more than the latest finding in the ledger.

    A new verdict always does; the same verdict on more requests does from time to time, or the
    ledger would grow with every tick of every rollout.
    """
    trial, finding = new.trial, new.finding
    if known is None:
        return True
    about = (known.adapter, known.stable, known.percent, known.finding.verdict)
    if about != (trial.adapter, trial.stable, trial.percent, finding.verdict):
        return True
    if new.problem:
        return known.finding.reason != finding.reason
    about_now = {**trial.digests, **new.digests}
    engine, found_by = about_now.pop("base", ""), known.digests.get("base", "")
    another = other_engine(found_by, engine) or bool(engine and not found_by)
    if another or any(known.digests.get(key) != digest for key, digest in about_now.items()):
        return True  # an unrecorded finding would be asked for at every tick
    if (known.since, *_terms(known.finding)) != (trial.since or known.since, *_terms(finding)):
        return True  # until then nothing is known under the declared limit
    return known.finding.counts != finding.counts and now - known.at >= every


def _terms(finding: Finding) -> tuple[str | float | None, ...]:
    return finding.metric, *(finding.parameters.get(limit) for limit in LIMITS)


def changed_runs(entries: Iterable[Entry], state_dir: Path) -> Iterator[tuple[str, str]]:
    """Yield the evaluations whose file is not as the ledger says, and the reason.

    A file that is gone is no proof of anything: the counts stand in the ledger.
    """
    for entry in entries:
        event = entry.event
        if not isinstance(event, EvalFinished):
            continue
        path = EvalStore(state_dir / "evals").path(event.run)
        try:
            found = hashlib.sha256(read_plain(path)).hexdigest()
        except OSError:
            continue
        if found != event.samples_sha256:
            yield event.run, f"`{path}` was changed after it was written"
