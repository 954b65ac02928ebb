"""Folds the entries about rollouts: evidence, marks, claims.

Folded beside routes and steps; all of it stays when a route does not change.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from fleet.gates import Finding, Verdict
from fleet.history.apply_events import Document
from fleet.history.events import Entry
from fleet.history.fold_upgrades import UpgradesFold
from fleet.history.rollout_events import (
    GateJudged,
    RetrainClaimed,
    RetrainReleased,
    RolloutMarked,
)
from fleet.history.values import (
    MARK_KINDS,
    Block,
    Claim,
    GateEvidence,
    RolloutMark,
    RolloutStage,
    by_server,
    other_engine,
)

_OF_A_STAGE = ("approve", "advance", "extend")
"""Marks that hold for a single stage."""


@dataclass(slots=True)
class RolloutsFold(UpgradesFold):
    """Evidence and marks while entries are being added; the fields are those of `History`."""

    evidence: dict[str, tuple[GateEvidence, ...]] = field(default_factory=dict)
    rejected: dict[str, dict[str, GateEvidence]] = field(default_factory=dict)
    marks: dict[str, tuple[RolloutMark, ...]] = field(default_factory=dict)
    """By alias: the latest mark of every kind and version stands last."""
    claims: dict[str, Claim] = field(default_factory=dict)
    released: dict[str, frozenset[str]] = field(default_factory=dict)
    fell: dict[str, dict[str, Block]] = field(default_factory=dict)
    served: dict[str, str] = field(default_factory=dict)
    cost_terms: Mapping[str, Document] = field(default_factory=dict)
    entry_ids: set[str] = field(default_factory=set)

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
            entry.signature,
        )
        before = {item.gate: item for item in self.evidence.get(alias, ())}
        same = {gate: item for gate, item in before.items() if item.adapter == made.adapter}
        kept = {gate: item for gate, item in same.items() if not _outdates(made, item)}
        # Findings on traffic of the version before tell the usual rates until the next findings.
        usual = {gate: item for gate, item in before.items() if item.percent and gate not in same}
        made = _with_servers(made, kept.values())
        now = {**usual, **kept, made.gate: made}
        self.evidence[alias] = tuple(now[gate] for gate in sorted(now))
        self.superseded(alias, made.adapter)
        digest = made.digests.get("adapter")
        if made.finding.verdict is Verdict.FAIL and digest:
            self.rejected[alias] = {**self.rejected.get(alias, {}), digest: made}
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
        ended = ("hold", "pause") if event.mark == "resume" else (event.mark,)
        self.marks[event.alias] = tuple(
            mark
            for mark in self.marks.get(event.alias, ())
            if mark.adapter != event.adapter or mark.mark not in ended
        )
        if event.mark != "resume":
            made = RolloutMark(
                event.mark,
                event.adapter,
                stage.entered if stage else None,
                event.reason,
                entry.by,
                entry.time,
                stage.percent if stage else None,
                event.until,
                event.digest or "",
                seq=entry.seq,
                signature=entry.signature,
            )
            self.marks[event.alias] += (made,)

    def superseded(self, alias: str, adapter: str) -> None:
        """Forget the marks on stages of all versions but the version that is rolled out now."""
        self.marks[alias] = tuple(
            mark
            for mark in self.marks.get(alias, ())
            if mark.adapter == adapter or mark.mark not in _OF_A_STAGE
        )

    def release(self, alias: str, adapter: str, held: Iterable[str]) -> None:
        """Forget the blocks of a version (empty: of every version), which is judged anew.

        The release is remembered until the version serves. `held`: versions that were rolled back.
        """
        rejected, marks = self.rejected.get(alias, {}), self.marks.get(alias, ())
        failed = {item.adapter for item in rejected.values()}
        aborted = {mark.adapter for mark in marks if mark.mark == "abort"}
        fallen = self.fell.get(alias, {})
        freed = {name for name in {*held, *failed, *aborted, *fallen} if adapter in ("", name)}
        self.released[alias] = self.released.get(alias, frozenset()) | freed
        self.fell[alias] = {name: block for name, block in fallen.items() if name not in freed}
        self.rejected[alias] = {
            key: item for key, item in rejected.items() if adapter not in ("", item.adapter)
        }
        self.evidence[alias] = tuple(
            item
            for item in self.evidence.get(alias, ())
            if item.finding.verdict is not Verdict.FAIL or adapter not in ("", item.adapter)
        )
        self.marks[alias] = tuple(mark for mark in marks if adapter not in ("", mark.adapter))

    def serves(self, alias: str, adapter: str, digest: str) -> None:
        """Note that a version has traffic: whatever it, or its bytes, were released from is over.

        `digest`: of its bytes as they are loaded; empty: not known.
        """
        if digest:
            self.served[adapter] = digest
        self.released[alias] = self.released.get(alias, frozenset()) - {adapter}
        self.fell[alias] = {
            name: block
            for name, block in self.fell.get(alias, {}).items()
            if name != adapter and not (digest and block.digest == digest)
        }

    def _began_anew(self, alias: str, adapter: str, when: datetime) -> None:
        """Note that the marks on a version's stage are of another engine or golden set."""
        self.marks[alias] = tuple(
            replace(mark, void=mark.void or when)
            if mark.adapter == adapter and mark.mark in _OF_A_STAGE
            else mark
            for mark in self.marks.get(alias, ())
        )

    def claimed(self, event: RetrainClaimed | RetrainReleased, entry: Entry) -> None:
        """Take a claim, unless another author's claim runs, or the end of a claim.

        A claim without an end is over.
        """
        if isinstance(event, RetrainReleased):
            self.claims.pop(event.alias, None)
            return
        by, until = event.by or entry.by, event.until or entry.time
        known = self.claims.get(event.alias)
        if known is None or known.by == by or known.until <= entry.time:
            self.claims[event.alias] = Claim(by, until, event.reason, entry.time)


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
