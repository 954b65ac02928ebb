"""What is known of the past, as values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any

from fleet.history.records import Claim, EvalRun, Evidence, Mark
from fleet.names import Address
from fleet.resources import FULL, Resource


@dataclass(frozen=True, slots=True)
class Stage:
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
class Hold:
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
class Unfinished:
    """A step that was started and of which nobody wrote down how it ended."""

    step: str
    address: Address
    operation: Mapping[str, Any]
    """In plain form."""
    started: datetime


@dataclass(frozen=True, slots=True)
class History:
    """The past of a fleet, as far as planning needs it; empty for a new fleet."""

    seq: int = 0
    """Number of ledger entries read."""
    stages: Mapping[str, Stage] = field(default_factory=lambda: MappingProxyType({}))
    """By alias: the newest version's latest stage."""
    holds: Mapping[str, Mapping[str, Hold]] = field(default_factory=lambda: MappingProxyType({}))
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
    unfinished: Mapping[str, Unfinished] = field(default_factory=lambda: MappingProxyType({}))
    """By step id: steps that a run began before it died."""
    established: Mapping[Address, Resource] = field(default_factory=lambda: MappingProxyType({}))
    """What applies and rollbacks left behind, by address."""
    evidence: Mapping[str, tuple[Evidence, ...]] = field(
        default_factory=lambda: MappingProxyType({})
    )
    """By alias: each gate's latest evidence on the version judged last, by gate."""
    rejected: Mapping[str, Mapping[str, Evidence]] = field(
        default_factory=lambda: MappingProxyType({})
    )
    """By alias, then by digest: bytes that a gate has failed, until released or overridden."""
    marks: Mapping[str, tuple[Mark, ...]] = field(default_factory=lambda: MappingProxyType({}))
    """By alias: what people said of its rollout, oldest first."""
    claims: Mapping[str, Claim] = field(default_factory=lambda: MappingProxyType({}))
    """By alias: who is retraining it."""
    evals: Mapping[str, tuple[EvalRun, ...]] = field(default_factory=lambda: MappingProxyType({}))
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


def latest(before: datetime | None, time: datetime, kind: str) -> datetime:
    """Return the latest time so far, see `History.as_of`, with an entry of that time and kind.

    What is written by a clock that is behind does not set it right, so a later entry alone is no
    proof that an earlier one was ahead of its time.
    """
    vouched = kind in ("released", "adopted")
    return time if before is None or vouched else max(before, time)
