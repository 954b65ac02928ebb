"""Folds the entries about upgrades: verdicts on canary servers, and decisions by settings."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from fleet.encoding import optional
from fleet.gates import Finding, Verdict
from fleet.history.events import Entry
from fleet.history.fold_approvals import ApprovalsFold
from fleet.history.signatures import Signature
from fleet.history.upgrade_events import UpgradeDecided, UpgradeFields, UpgradeJudged


@dataclass(frozen=True, slots=True)
class UpgradeVerdict:
    """A judged golden set of a client, and the canary server that was judged."""

    alias: str
    adapter: str
    """Full name of the version."""
    gate: str
    finding: Finding
    digests: Mapping[str, str]
    """As `UpgradeJudged.digests`."""
    at: datetime
    seq: int
    """Number of the ledger entry."""
    signature: Signature | None = optional()  # noqa: RUF009 (a field)


@dataclass(frozen=True, slots=True)
class UpgradeDecision:
    """The latest decision about some settings."""

    mark: str
    """`approve`, `advance` or `stop`."""
    reason: str
    by: str
    at: datetime
    seq: int = 0
    """Number of the ledger entry; 0: of a plan of an earlier release."""
    signature: Signature | None = optional()  # noqa: RUF009 (a field)


@dataclass(frozen=True, slots=True)
class UpgradeRecord:
    """The past of the upgrades of a base, by settings."""

    verdicts: Mapping[str, tuple[UpgradeVerdict, ...]] = field(default_factory=dict)
    """The latest verdict of every alias and gate; sorted so."""
    decisions: Mapping[str, UpgradeDecision] = field(default_factory=dict)
    proven: frozenset[str] = frozenset()
    """Settings that were compared with: clients were served with them, and may be again."""


@dataclass(slots=True)
class UpgradesFold(ApprovalsFold):
    """Records of upgrades while entries are being added; the field is that of `History`."""

    upgrades: dict[str, UpgradeRecord] = field(default_factory=dict)

    def upgraded(self, event: UpgradeFields, entry: Entry) -> None:
        """Take an event of an upgrade; a mark that is not known is passed over."""
        record, settings = self.upgrades.get(event.base, UpgradeRecord()), event.settings
        match event:
            case UpgradeJudged():
                made = UpgradeVerdict(
                    event.alias, event.adapter, event.gate, Finding.of(event.finding),
                    event.digests, entry.time, entry.seq, entry.signature,
                )  # fmt: skip
                known = {(v.alias, v.gate): v for v in record.verdicts.get(settings, ())}
                known[made.alias, made.gate] = made
                listed = tuple(known[key] for key in sorted(known))
                record = replace(record, verdicts={**record.verdicts, settings: listed})
                if made.finding.verdict is Verdict.FAIL:
                    reason = f"{made.alias}, {made.gate}: {made.finding.reason}"
                    decision = _decision("stop", reason, entry)
                    record = replace(record, decisions={**record.decisions, settings: decision})
            case UpgradeDecided(mark="release"):
                record = replace(
                    record,
                    verdicts={k: v for k, v in record.verdicts.items() if k != settings},
                    decisions={k: v for k, v in record.decisions.items() if k != settings},
                )
            case UpgradeDecided(mark="approve" | "advance" | "stop"):
                decision = _decision(event.mark, event.reason, entry)
                record = replace(record, decisions={**record.decisions, settings: decision})
            case _:
                return
        if event.old:
            record = replace(record, proven=record.proven | {event.old})
        self.upgrades[event.base] = record


def _decision(mark: str, reason: str, entry: Entry) -> UpgradeDecision:
    return UpgradeDecision(mark, reason, entry.by, entry.time, entry.seq, entry.signature)
