"""Defines the values of the past: evidence, marks, stages, holds, claims, and `History` itself.

A `History` in plain form is what a checkpoint of the ledger keeps.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final, Literal, get_args

from fleet.codec import decode, optional, plain
from fleet.consent import Approval
from fleet.gates import EARLIER, Finding
from fleet.history.apply_events import Adopted, Document
from fleet.history.events import Entry
from fleet.history.rollout_events import Released
from fleet.history.signatures import KeyTerm, Signature
from fleet.names import Address
from fleet.plan import Freeze
from fleet.policies import GateSpec
from fleet.resources import FULL, Resource

MarkKind = Literal["hold", "pause", "resume", "approve", "advance", "extend", "abort"]
MARK_KINDS: tuple[MarkKind, ...] = get_args(MarkKind)
DAY: Final = timedelta(days=1)
"""Time that shifts of traffic are kept at least."""
SKEW: Final = timedelta(minutes=1)
"""How far the clocks of two machines may differ."""
LIMITS = ("margin", "tolerate", "alpha", "least_requests", "floor", "alarm")
"""Parameters of a finding that are declared with its gate; others are measured."""


def other_engine(known: str, now: str) -> bool:
    """Say whether a server is another now than when evidence was found.

    Both are texts of `fleet.rollouts.evidence.engine_of`: each server and its digest. A server
    that has gone, or is back as it was, makes no difference; where no server is left, the
    digests are compared.
    """
    before, after = by_server(known), by_server(now)
    both = before.keys() & after.keys()
    if both or not before or not after:
        return any(before[server] != after[server] for server in both)
    return not {*after.values()} <= {*before.values()}


def by_server(engine: str) -> dict[str, str]:
    """Return the digests of `fleet.rollouts.evidence.engine_of` by server."""
    parted = (part.rpartition("=") for part in engine.split())
    return {server: digest for server, _, digest in parted}


@dataclass(frozen=True, slots=True)
class Evidence:
    """A judged gate, and the bytes and engine that were judged."""

    alias: str
    adapter: str
    """Full name of the new version; in an upgrade, of the version that answers on both servers."""
    gate: str
    finding: Finding
    digests: Mapping[str, str]
    """Of `adapter`, `stable`, `base`, `golden`, as far as they played a part; `terms` as text."""
    at: datetime
    seq: int
    """Number of the ledger entry."""
    signature: Signature | None = optional()  # noqa: RUF009 (a field)


@dataclass(frozen=True, slots=True, kw_only=True)
class GateEvidence(Evidence):
    """Evidence on a version in a stage of its rollout."""

    stable: str
    """Full name of the version to compare with."""
    percent: int
    """The new version's share at the time; 0: before it got traffic."""
    fingerprint: str
    """Of the engine that answered; empty where none did."""
    since: datetime
    """From when on requests were counted; the stage's entry."""

    def answers(self, gate: GateSpec) -> bool:
        """Say whether metric and limits of the declared gate are those of this evidence.

        Evidence by a rule of an earlier release answers no gate.
        """
        least, floor = float(gate.min_requests), gate.floor or 0.0
        now = (gate.margin, gate.tolerate, gate.false_alarm, least, floor, gate.alarm)
        then = self.finding.parameters
        same = all(then.get(name, limit) == limit for name, limit in zip(LIMITS, now, strict=True))
        same = same and (gate.offline or then.get("alarm") == gate.alarm)
        return same and self.finding.metric == gate.metric and self.finding.rule not in EARLIER


@dataclass(frozen=True, slots=True)
class RolloutMark:
    """A mark of a person on a rollout; the mark holds for the stage of that time.

    A hold lasts until `resume`, a pause until its time or `resume`, an abort until `release`.
    """

    mark: MarkKind
    adapter: str
    since: datetime | None
    """Entry of the stage; None: the version had no stage yet."""
    reason: str
    by: str
    at: datetime
    percent: int | None = None
    """The version's share in that stage."""
    until: datetime | None = None
    """End of a pause by time. None: the pause lasts until a person ends the pause."""
    digest: str = ""
    """Of the version's bytes, as the lock had them then; empty: it still says which they are."""
    void: datetime | None = None
    """Time from which the mark no longer counts: engine, base, golden set or bytes had changed, and
    the stage began anew; None: the mark counts.
    """
    seq: int = 0
    """Number of the ledger entry."""
    signature: Signature | None = optional()  # noqa: RUF009 (a field)

    def lasts(self, now: datetime) -> bool:
        """Say whether the mark has not ended by itself."""
        return self.until is None or now < self.until


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim on the retraining of an alias, which keeps other people from the same work."""

    by: str
    until: datetime
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True)
class RolloutStage:
    """A rollout's current stage: since when which version has which share."""

    adapter: str
    percent: int
    entered: datetime
    restarted: datetime | None = None
    """When its evidence became void: engine, base, a golden set or bytes had changed."""

    @property
    def since(self) -> datetime:
        """Begin of the bake, from which evidence counts."""
        return self.restarted or self.entered

    def is_half_way(self, shares: Mapping[str, int]) -> bool:
        """Say whether the version still has the share of this stage, above 0 % and below 100 %."""
        return 0 < self.percent < FULL and shares.get(self.adapter) == self.percent


class BlockKind(StrEnum):
    """The cause of a block."""

    REJECTED = "rejected"
    """A gate failed the bytes."""
    ABORTED = "aborted"
    """A person ended the rollout."""
    HELD = "held"
    """A rollback took the traffic back, by a person or by the verdict of a gate."""
    ROLLED_BACK = "rolled back"
    """The newest version lost all of its traffic: its gates did not pass in time."""


@dataclass(frozen=True, slots=True)
class Block:
    """A cause that keeps the bytes of a version from serving an alias, until released."""

    kind: BlockKind
    adapter: str
    """Full name of the version at the time; the same bytes are blocked under every name."""
    at: datetime
    by: str = ""
    reason: str = ""
    gate: str = ""
    """The gate whose verdict decided; empty: a person decided."""
    digest: str = ""
    """Digest of the bytes at the time; empty: the lock has the digest."""


@dataclass(frozen=True, slots=True)
class SmokePass:
    """A smoke test that a version passed on a server."""

    digest: str | None
    """Of the bytes that answered; None: loaded from elsewhere."""
    launch: str | None = optional()
    """Launch that answered, or boot. None: the server shows neither, or an earlier release tested;
    then the pass counts until a step starts or stops the server."""


@dataclass(frozen=True, slots=True)
class TrafficShift:
    """A change of a route by which other versions answer."""

    at: datetime
    percent: int
    """Of the alias's requests, those that another version answers than before."""


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

    verdicts: Mapping[str, tuple[Evidence, ...]] = field(default_factory=dict)
    """The latest verdict of every alias and gate; sorted so."""
    decisions: Mapping[str, UpgradeDecision] = field(default_factory=dict)
    proven: frozenset[str] = frozenset()
    """Settings that were compared with: clients were served with them, and may be again."""


@dataclass(frozen=True, slots=True)
class UnfinishedStep:
    """A started step without a recorded end."""

    step: str
    address: Address
    operation: Document
    started: datetime


@dataclass(frozen=True, slots=True)
class History:
    """The past of a fleet for planning; empty for a new fleet."""

    seq: int = 0
    """Number of ledger entries read."""
    fleet_id: str = ""
    """Id of the fleet, on its servers; empty: no apply has drawn one."""
    stages: Mapping[str, RolloutStage] = field(default_factory=dict)
    """By alias: the newest version's latest stage."""
    holds: Mapping[str, Mapping[str, Block]] = field(default_factory=dict)
    """By alias, then by full adapter name: blocks of the kind `held`."""
    cutovers: Mapping[str, datetime] = field(default_factory=dict)
    """By full adapter name: since when it has had no share after being replaced."""
    answered_all: frozenset[str] = frozenset()
    """Full names of versions that once had all of an alias's traffic, or stood behind the newest
    version on the first recorded route: a version given up half-way is no fallback.
    """
    boots: Mapping[str, str] = field(default_factory=dict)
    """By server: the boot id seen by the last apply."""
    owned: frozenset[str] = frozenset()
    """Addresses that fleetctl created or adopted; others on a server are never removed."""
    unfinished: Mapping[str, UnfinishedStep] = field(default_factory=dict)
    """By step id: steps that a run began before it died."""
    established: Mapping[Address, Resource] = field(default_factory=dict)
    """Resources as applies and rollbacks left them, by address."""
    evidence: Mapping[str, tuple[GateEvidence, ...]] = field(default_factory=dict)
    """By alias: the latest evidence of every gate on the version judged last, by gate."""
    rejected: Mapping[str, Mapping[str, GateEvidence]] = field(default_factory=dict)
    """By alias, then by digest: bytes that a gate has failed, until released or overridden."""
    marks: Mapping[str, tuple[RolloutMark, ...]] = field(default_factory=dict)
    """By alias: marks of people on its rollout, oldest first."""
    claims: Mapping[str, Claim] = field(default_factory=dict)
    """By alias: the claim on its retraining."""
    released: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """By alias: versions that were kept out, were released, and have had no traffic since."""
    fell: Mapping[str, Mapping[str, Block]] = field(default_factory=dict)
    """By alias, then by full adapter name: blocks of the kind `rolled back`, until the bytes are
    released or serve again.
    """
    served: Mapping[str, str] = field(default_factory=dict)
    """By full adapter name: digest of the bytes with which the version had traffic last."""
    damage: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """By path of a served copy that was damaged: the boot of every server that may have read it."""
    as_of: datetime | None = None
    """The latest time of an entry, by the clock of its author, since the last release or adoption,
    by which a person answers for the clock; None: there is no entry.
    """
    freeze: Freeze | None = None
    """The freeze of the fleet; None: the fleet is not frozen."""
    approvals: Mapping[str, tuple[Approval, ...]] = field(default_factory=dict)
    """By id of a plan that was not carried out since: its approvals, oldest first."""
    shifts: Mapping[str, tuple[TrafficShift, ...]] = field(default_factory=dict)
    """By alias: shifts of its traffic, oldest first; those of the day before the last one at least.
    """
    durations: Mapping[str, float] = field(default_factory=dict)
    """By `fleet.steps.duration_key`: about how many seconds starts and loads took here."""
    passes: Mapping[str, Mapping[str, SmokePass]] = field(default_factory=dict)
    """By server, then by full adapter name: the smoke test passed since the version was loaded."""
    returning: frozenset[str] = frozenset()
    """Servers that a step began to stop or to start, and that no step has started since. Those that
    are established were not stopped on purpose.
    """
    settings: Mapping[str, str] | None = None
    """Declared values of the last apply by path; None: no apply of a release that records them."""
    cost_terms: Mapping[str, Document] = field(default_factory=dict)
    """Terms of costs as last recorded, documents of `fleet.costing` by key."""
    upgrades: Mapping[str, UpgradeRecord] = field(default_factory=dict)
    """By base: verdicts and decisions about new settings of its servers."""
    keys: Mapping[str, KeyTerm] = field(default_factory=dict)
    """Public keys that may sign entries; empty: no entry is signed."""
    entry_ids: frozenset[str] = frozenset()
    """Ids of entries from the outbox: a second entry with such an id counts as a note."""


def history_document(history: History) -> dict[str, Any]:
    """Return a history in plain form; the order of its parts is that of the fold."""
    document: dict[str, Any] = plain(history)
    return document


def history_of(document: Mapping[str, Any]) -> History:
    """Return the history in plain form.

    Raises:
        MalformedError: the document is none of this release.
    """
    return decode(History, document, "history")


def latest_time(before: datetime | None, entry: Entry) -> datetime:
    """Return the latest time so far, see `History.as_of`, with an entry.

    A clock that is behind writes too early a time, so a later entry alone is no proof that an
    earlier entry was ahead of its time; a release or an adoption by a person is.
    """
    vouched = isinstance(entry.event, Released | Adopted)
    return entry.time if before is None or vouched else max(before, entry.time)
