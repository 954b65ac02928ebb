"""Folds the entries about rollouts: evidence, marks, claims, evaluations.

Folded beside routes and steps; all of it stays when a route does not change.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime

from fleet.gates import Finding, Verdict
from fleet.history.entry import Entry
from fleet.history.rollout_events import EvalFinished, GateJudged, RetrainClaimed, RolloutMarked
from fleet.history.values import (
    MARK_KINDS,
    Block,
    Claim,
    EvalRunRecord,
    GateEvidence,
    History,
    RolloutMark,
    RolloutStage,
    by_server,
    other_engine,
)

_OF_A_STAGE = ("approve", "advance", "extend")
"""Marks that hold for a single stage."""


@dataclass(slots=True)
class RolloutsFold:
    """Evidence and marks while entries are being added."""

    evidence: dict[str, dict[str, GateEvidence]] = field(default_factory=dict)
    """By alias, then by gate."""
    rejected: dict[str, dict[str, GateEvidence]] = field(default_factory=dict)
    marks: dict[str, dict[tuple[str, str], RolloutMark]] = field(default_factory=dict)
    """By alias, then by word and adapter: what is said of one version unsays nothing of another."""
    claims: dict[str, Claim] = field(default_factory=dict)
    evals: dict[str, dict[tuple[str, str], EvalRunRecord]] = field(default_factory=dict)
    """By alias, then by adapter and purpose."""
    freed: dict[str, frozenset[str]] = field(default_factory=dict)
    fallen: dict[str, dict[str, Block]] = field(default_factory=dict)
    """By alias, then by adapter."""

    @classmethod
    def of(cls, history: History) -> "RolloutsFold":
        """Return the fold that goes on from a history."""
        return cls(
            {a: {item.gate: item for item in found} for a, found in history.evidence.items()},
            {alias: dict(found) for alias, found in history.rejected.items()},
            {
                alias: {(mark.mark, mark.adapter): mark for mark in marks}
                for alias, marks in history.marks.items()
            },
            dict(history.claims),
            {
                alias: {(run.adapter, run.purpose): run for run in runs}
                for alias, runs in history.evals.items()
            },
            dict(history.released),
            {alias: dict(found) for alias, found in history.fell.items()},
        )

    def completed(self, history: History) -> History:
        """Return a history with the evidence, marks, claims and evaluations of this fold."""
        return replace(
            history,
            evidence={
                alias: tuple(item for _, item in sorted(found.items()))
                for alias, found in self.evidence.items()
                if found
            },
            rejected={alias: found for alias, found in self.rejected.items() if found},
            marks={alias: tuple(found.values()) for alias, found in self.marks.items() if found},
            claims=self.claims,
            evals={alias: tuple(found.values()) for alias, found in self.evals.items()},
            released={alias: found for alias, found in self.freed.items() if found},
            fell={alias: found for alias, found in self.fallen.items() if found},
        )

    def judged(self, event: GateJudged, entry: Entry) -> bool:
        """Take a judged gate; say whether it shows that what serves has changed meanwhile."""
        alias = event.alias
        made = GateEvidence(
            alias,
            event.adapter,
            event.stable,
            event.percent,
            event.gate,
            Finding.of(event.finding),
            {key: digest for key, digest in event.digests.items() if digest},
            event.fingerprint,
            event.since or entry.time,
            entry.time,
            entry.seq,
        )
        before = self.evidence.get(alias, {})
        same = {gate: item for gate, item in before.items() if item.adapter == made.adapter}
        kept = {gate: item for gate, item in same.items() if not _outdates(made, item)}
        # What traffic showed of the version before says what is usual, until it is asked again.
        usual = {gate: item for gate, item in before.items() if item.percent and gate not in same}
        made = _with_servers(made, kept.values())
        self.evidence[alias] = {**usual, **kept, made.gate: made}
        digest = made.digests.get("adapter")
        if made.finding.verdict is Verdict.FAIL and digest:
            self.rejected.setdefault(alias, {})[digest] = made
        if len(kept) == len(same):
            return False
        self._began_anew(alias, made.adapter, entry.time)
        return True

    def marked(self, event: RolloutMarked, entry: Entry, stage: RolloutStage | None) -> None:
        """Take a person's mark in the version's stage; None: the version has no stage yet.

        Marks that are not known are passed over, like kinds of entries.
        """
        if event.mark not in MARK_KINDS:
            return
        marks, adapter = self.marks.setdefault(event.alias, {}), event.adapter
        if event.mark == "resume":
            for kind in ("hold", "pause"):
                marks.pop((kind, adapter), None)
            return
        marks.pop((event.mark, adapter), None)  # the latest stands last
        marks[event.mark, adapter] = RolloutMark(
            event.mark,
            adapter,
            stage.entered if stage else None,
            event.reason,
            entry.by,
            entry.time,
            stage.percent if stage else None,
            event.until,
            event.digest or "",
            seq=entry.seq,
        )

    def superseded(self, alias: str, adapter: str) -> None:
        """Forget the marks on stages of all versions but the version that is rolled out now."""
        for word, owner in tuple(self.marks.get(alias, ())):
            if word in _OF_A_STAGE and owner != adapter:
                del self.marks[alias][word, owner]

    def released(self, alias: str, adapter: str, held: Iterable[str]) -> None:
        """Forget the blocks of a version (empty: of every version), which is judged anew.

        The release is remembered until the version serves. `held`: versions that were rolled back.
        """
        failed = {item.adapter for item in self.rejected.get(alias, {}).values()}
        aborted = {mark.adapter for mark in self.marks.get(alias, {}).values()
                   if mark.mark == "abort"}  # fmt: skip
        fallen = self.fallen.get(alias, {})
        freed = {name for name in {*held, *failed, *aborted, *fallen} if adapter in ("", name)}
        self.freed[alias] = self.freed.get(alias, frozenset()) | freed
        self.fallen[alias] = {name: block for name, block in fallen.items() if name not in freed}
        bad = self.rejected.get(alias, {}).items()
        self.rejected[alias] = {key: e for key, e in bad if adapter not in ("", e.adapter)}
        self.evidence[alias] = {
            gate: item
            for gate, item in self.evidence.get(alias, {}).items()
            if item.finding.verdict is not Verdict.FAIL or adapter not in ("", item.adapter)
        }
        marks = self.marks.get(alias, {}).items()
        self.marks[alias] = {key: e for key, e in marks if adapter not in ("", e.adapter)}

    def serves(self, alias: str, adapter: str, digest: str) -> None:
        """Note that a version has traffic: whatever it, or its bytes, were released from is over.

        `digest`: of its bytes as they are loaded; empty: not known.
        """
        self.freed[alias] = self.freed.get(alias, frozenset()) - {adapter}
        self.fallen[alias] = {
            name: block
            for name, block in self.fallen.get(alias, {}).items()
            if name != adapter and not (digest and block.digest == digest)
        }

    def _began_anew(self, alias: str, adapter: str, when: datetime) -> None:
        """Note that the marks on a version's stage are of another engine or golden set."""
        self.marks[alias] = {
            key: replace(mark, void=mark.void or when)
            if mark.adapter == adapter and mark.mark in _OF_A_STAGE
            else mark
            for key, mark in self.marks.get(alias, {}).items()
        }

    def claimed(self, event: RetrainClaimed, entry: Entry) -> None:
        """Take a claim, unless another author's claim runs; without an end it is over."""
        by, until = event.by or entry.by, event.until or entry.time
        known = self.claims.get(event.alias)
        if known is None or known.by == by or known.until <= entry.time:
            self.claims[event.alias] = Claim(by, until, event.reason, entry.time)

    def evaluated(self, event: EvalFinished, time: datetime) -> None:
        """Take a finished evaluation; the latest of a version and purpose stays."""
        runs = self.evals.setdefault(event.alias, {})
        runs.pop((event.adapter, event.purpose), None)
        runs[event.adapter, event.purpose] = EvalRunRecord(
            event.run,
            event.adapter,
            event.purpose,
            event.summary,
            event.samples_sha256,
            event.path,
            time,
        )


def _outdates(new: GateEvidence, old: GateEvidence) -> bool:
    """Say whether `new` was found on another engine, base, golden set or other bytes than `old`."""
    if old.fingerprint and new.fingerprint and old.fingerprint != new.fingerprint:
        return True
    if other_engine(old.digests.get("base", ""), new.digests.get("base", "")):
        return True
    names = ["adapter"]
    names += ["golden"] if old.gate == new.gate else []
    names += ["stable"] if old.stable == new.stable else []
    return any(
        name in old.digests and name in new.digests and old.digests[name] != new.digests[name]
        for name in names
    )


def _with_servers(new: GateEvidence, kept: Iterable[GateEvidence]) -> GateEvidence:
    """Return evidence with the servers that are away, so that they are known when they return."""
    known: dict[str, str] = {}
    for record in (*kept, new):
        known |= by_server(record.digests.get("base", ""))
    base = " ".join(f"{server}={digest}" for server, digest in sorted(known.items()) if server)
    return replace(new, digests={**new.digests, "base": base}) if base else new
