"""What one entry about a rollout or a training says: evidence, a mark, a claim, an evaluation."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol, get_args

from fleet.conditions import Gate
from fleet.gates import Finding

Word = Literal["hold", "pause", "resume", "approve", "advance", "extend", "abort"]
WORDS: tuple[Word, ...] = get_args(Word)
LIMITS = ("margin", "tolerate", "alpha", "least_requests", "floor")
"""Parameters of a finding that are declared with its gate; others are measured."""


def other_engine(known: str, now: str) -> bool:
    """Say whether a server is another now than when evidence was found.

    Both are `fleet.trial.engine_of`: each server and its digest. One that has gone, or is back as
    it was, makes no difference; where none of them is left, it is told by what they are.
    """
    before, after = by_server(known), by_server(now)
    both = before.keys() & after.keys()
    if both or not before or not after:
        return any(before[each] != after[each] for each in both)
    return not {*after.values()} <= {*before.values()}


def by_server(engine: str) -> dict[str, str]:
    """Return the digest of each server of `fleet.trial.engine_of`."""
    parted = (each.rpartition("=") for each in engine.split())
    return {server: digest for server, _, digest in parted}


@dataclass(frozen=True, slots=True)
class Evidence:
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

    def answers(self, gate: Gate) -> bool:
        """Say whether the gate is declared as it was when this was found: its metric and limits."""
        least, floor = float(gate.min_requests), gate.floor or 0.0
        now = (gate.margin, gate.tolerate, gate.false_alarm, least, floor)
        then = self.finding.parameters
        same = all(then.get(name, each) == each for name, each in zip(LIMITS, now, strict=True))
        return same and self.finding.metric == gate.metric


@dataclass(frozen=True, slots=True)
class Mark:
    """What a person said of a rollout: it holds for the stage in which it was said.

    A hold lasts until `resume`, a pause until its time or `resume`, an abort until `release`.
    """

    mark: Word
    adapter: str
    since: datetime | None
    """Entry of the stage; None: the version had no stage yet."""
    reason: str
    by: str
    at: datetime
    percent: int | None = None
    """The version's share in that stage."""
    until: datetime | None = None
    """Of a pause: when it ends by itself; None: when somebody ends it."""
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
class EvalRun:
    """A finished evaluation; its answers lie in a file."""

    run: str
    adapter: str
    purpose: str
    """`gate`, `anchor`, `rolling`, `smoke` or `aa`."""
    summary: Mapping[str, Any]
    samples_sha256: str
    path: str
    at: datetime


class Line(Protocol):
    """What is read of a ledger entry."""

    @property
    def seq(self) -> int: ...  # noqa: D102
    @property
    def time(self) -> datetime: ...  # noqa: D102
    @property
    def by(self) -> str: ...  # noqa: D102
    @property
    def data(self) -> Mapping[str, Any]: ...  # noqa: D102
