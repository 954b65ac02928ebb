"""Defines the values of the past: evidence, marks, stages, holds, claims, and `History` itself."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Final, Literal, get_args

from fleet.gates import Finding
from fleet.history.apply_events import Adopted, Document
from fleet.history.entry import Entry
from fleet.history.rollout_events import Released
from fleet.names import Address
from fleet.resources import FULL, Resource
from fleet.rollout_policy import GateSpec

MarkKind = Literal["hold", "pause", "resume", "approve", "advance", "extend", "abort"]
MARK_KINDS: tuple[MarkKind, ...] = get_args(MarkKind)
LIMITS = ("margin", "tolerate", "alpha", "least_requests", "floor")
"""Parameters of a finding that are declared with its gate; others are measured."""


def other_engine(known: str, now: str) -> bool:
    """Say whether a server is another now than when evidence was found.

    Both are texts of `fleet.rollouts.trials.engine_of`: each server and its digest. A server
    that has gone, or is back as it was, makes no difference; where no server is left, the
    digests are compared.
    """
    before, after = by_server(known), by_server(now)
    both = before.keys() & after.keys()
    if both or not before or not after:
        return any(before[server] != after[server] for server in both)
    return not {*after.values()} <= {*before.values()}


def by_server(engine: str) -> dict[str, str]:
    """Return the digest of each server of `fleet.rollouts.trials.engine_of`."""
    parted = (part.rpartition("=") for part in engine.split())
    return {server: digest for server, _, digest in parted}


@dataclass(frozen=True, slots=True)
class GateEvidence:
    """One judged gate, and what exactly was judged."""

    alias: str
    adapter: str
    """Full name of the new version."""
    stable: str
    """Full name of the version it was compared with."""
    percent: int
    """The new version's share at the time; 0: before it got traffic."""
    gate: str
    finding: Finding
    digests: Mapping[str, str]
    """Of `adapter`, `stable`, `base`, `golden`, as far as they played a part; `terms` as text."""
    fingerprint: str
    """Of the engine that answered; empty where none did."""
    since: datetime
    """From when on requests were counted; the stage's entry."""
    at: datetime
    seq: int
    """Number of the ledger entry."""

    def answers(self, gate: GateSpec) -> bool:
        """Say whether the gate is declared as it was when this was found: its metric and limits."""
        least, floor = float(gate.min_requests), gate.floor or 0.0
        now = (gate.margin, gate.tolerate, gate.false_alarm, least, floor)
        then = self.finding.parameters
        same = all(then.get(name, each) == each for name, each in zip(LIMITS, now, strict=True))
        return same and self.finding.metric == gate.metric


@dataclass(frozen=True, slots=True)
class RolloutMark:
    """What a person said of a rollout: it holds for the stage in which it was said.

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
    """Since when it counts no more, for its stage began anew: engine, base, golden set or bytes
    had changed; None: it counts.
    """
    seq: int = 0
    """Number of the ledger entry."""

    def lasts(self, now: datetime) -> bool:
        """Say whether it has not ended by itself."""
        return self.until is None or now < self.until


@dataclass(frozen=True, slots=True)
class Claim:
    """Somebody retrains an alias, and nobody else should."""

    by: str
    until: datetime
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True)
class EvalRunRecord:
    """A finished evaluation; its answers lie in a file."""

    run: str
    adapter: str
    purpose: str
    """`gate`, `anchor`, `rolling`, `smoke` or `aa`."""
    summary: Document
    samples_sha256: str
    path: str
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
        """From when on evidence counts, and from when on it bakes."""
        return self.restarted or self.entered

    def is_half_way(self, shares: Mapping[str, int]) -> bool:
        """Say whether the version still has this stage's share, and it is neither none nor all."""
        return 0 < self.percent < FULL and shares.get(self.adapter) == self.percent


@dataclass(frozen=True, slots=True)
class RollbackHold:
    """A version kept out of an alias's traffic after a rollback, until released."""

    adapter: str
    at: datetime
    by: str
    reason: str
    gate: str = ""
    """The gate whose verdict did it; empty: a person."""
    digest: str = ""
    """Of its bytes, as they were loaded then; empty: the lock says which they are."""


@dataclass(frozen=True, slots=True)
class UnfinishedStep:
    """A step that was started and of which nobody wrote down how it ended."""

    step: str
    address: Address
    operation: Document
    started: datetime


@dataclass(frozen=True, slots=True)
class History:
    """The past of a fleet, as far as planning needs it; empty for a new fleet."""

    seq: int = 0
    """Number of ledger entries read."""
    stages: Mapping[str, RolloutStage] = field(default_factory=lambda: MappingProxyType({}))
    """By alias: the newest version's latest stage."""
    holds: Mapping[str, Mapping[str, RollbackHold]] = field(
        default_factory=lambda: MappingProxyType({})
    )
    """By alias, then by full adapter name."""
    cutovers: Mapping[str, datetime] = field(default_factory=lambda: MappingProxyType({}))
    """By full adapter name: since when it has had no share after being replaced."""
    answered_all: frozenset[str] = frozenset()
    """Full adapter names that once had all of an alias's traffic, or stood behind the newest one
    when the ledger first saw its route: a rollout given up half-way is nothing to fall back on.
    """
    boots: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """By server: the boot id seen by the last apply."""
    owned: frozenset[str] = frozenset()
    """Addresses that fleetctl created or adopted; others on a server are never removed."""
    unfinished: Mapping[str, UnfinishedStep] = field(default_factory=lambda: MappingProxyType({}))
    """By step id: steps that a run began before it died."""
    established: Mapping[Address, Resource] = field(default_factory=lambda: MappingProxyType({}))
    """What applies and rollbacks left behind, by address."""
    evidence: Mapping[str, tuple[GateEvidence, ...]] = field(
        default_factory=lambda: MappingProxyType({})
    )
    """By alias: each gate's latest evidence on the version judged last, by gate."""
    rejected: Mapping[str, Mapping[str, GateEvidence]] = field(
        default_factory=lambda: MappingProxyType({})
    )
    """By alias, then by digest: bytes that a gate has failed, until released or overridden."""
    marks: Mapping[str, tuple[RolloutMark, ...]] = field(
        default_factory=lambda: MappingProxyType({})
    )
    """By alias: what people said of its rollout, oldest first."""
    claims: Mapping[str, Claim] = field(default_factory=lambda: MappingProxyType({}))
    """By alias: who is retraining it."""
    evals: Mapping[str, tuple[EvalRunRecord, ...]] = field(
        default_factory=lambda: MappingProxyType({})
    )
    """By alias: the latest evaluation of each version and purpose, oldest first."""
    released: Mapping[str, frozenset[str]] = field(default_factory=lambda: MappingProxyType({}))
    """By alias: versions that were kept out, were released, and have had no traffic since."""
    fell: Mapping[str, Mapping[str, str]] = field(default_factory=lambda: MappingProxyType({}))
    """By alias: versions that lost all of their traffic while they were the newest, until they are
    released or their bytes serve again, whatever is declared in between; with the digest of those
    bytes, empty where the lock says which they are.
    """
    as_of: datetime | None = None
    """The latest time that an entry bears, by the clock of whoever wrote it, since a person last
    released or adopted something, who answers for the clock; None: there is no entry.
    """


def latest_time(before: datetime | None, entry: Entry) -> datetime:
    """Return the latest time so far, see `History.as_of`, with an entry.

    What is written by a clock that is behind does not set it right, so a later entry alone is no
    proof that an earlier one was ahead of its time.
    """
    vouched = isinstance(entry.event, Released | Adopted)
    return entry.time if before is None or vouched else max(before, entry.time)


SKEW: Final = timedelta(minutes=1)
"""How far the clocks of two machines may differ."""
