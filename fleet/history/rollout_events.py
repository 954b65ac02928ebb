"""Defines the events of rollouts and upgrades.

Verdicts, marks, rollbacks, drills, notices, retrainings.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar, Literal, TypeAlias

from fleet.codec import optional
from fleet.gates import CountedRows
from fleet.history.apply_events import Document, EventFields, PassiveEvent

UpgradeMark = Literal["approve", "advance", "stop", "release"]
"""A decision about the settings of an upgrade.

`approve`: servers are replaced; `advance`: the same before all golden sets were judged; `stop`:
none is, and clients go back; `release`: judged anew.
"""


@dataclass(frozen=True, slots=True)
class SmokeCounts:
    """The figures of a smoke test; no text of a client is in them."""

    passed: int = 0
    total: int = 0
    telling: int | None = None
    """Answers that differ from the base's; None: not compared."""


@dataclass(frozen=True, slots=True)
class RolledBack(EventFields):
    """A rollback, or a rollback undone (`forward`); an entry for every version held by it."""

    kind: ClassVar[str] = "rolled_back"
    alias: str = ""
    to: str = ""
    """Full name of the version with all traffic from then on."""
    before: Mapping[str, int] = field(default_factory=dict)
    """Percentage by version."""
    reason: str = ""
    revision: int | None = None
    """Revision of the routing table."""
    decided: str = ""
    """Time of the decision, ISO 8601; `RollbackChecked` repeats the time."""
    seconds: float = 0.0
    acknowledged: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()
    adapter: str | None = optional()
    """Full name of the version that is held; None: no version is."""
    forward: bool = optional(default=False)
    cause: str | None = optional()
    """Decider; None: the author of the entry."""
    gate: str | None = optional()
    """The gate whose verdict decided; None: a person decided."""
    digest: str | None = optional()


@dataclass(frozen=True, slots=True)
class RollbackChecked(PassiveEvent):
    """The smoke test after a rollback."""

    kind: ClassVar[str] = "rollback_checked"
    alias: str = ""
    to: str = ""
    decided: str = ""
    all_gateways_s: float | None = None
    """Seconds from the decision to the last acknowledgement."""
    smoke_ok_s: float | None = None
    """Seconds from the decision to the end of the smoke test; None: the test did not pass."""
    smoke: SmokeCounts = SmokeCounts()
    failures: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Notified(PassiveEvent):
    """A notice to a recipient, delivered or not."""

    kind: ClassVar[str] = "notified"
    alias: str = ""
    event: str = ""
    to: str = ""
    """`operators`, or `client NAME`."""
    delivered: bool = False
    detail: str = ""
    key: str | None = optional()
    """Key of the notification; None: the notice of a rollback that `decided` names."""
    decided: str | None = optional()


@dataclass(frozen=True, slots=True)
class DrillStarted(PassiveEvent):
    """The begin of a live drill."""

    kind: ClassVar[str] = "drill_started"
    alias: str = ""
    target: str = ""
    shares: tuple[Document, ...] = ()
    """The shares to restore, as in the routing table."""


@dataclass(frozen=True, slots=True)
class Drilled(PassiveEvent):
    """The end of a drill."""

    kind: ClassVar[str] = "drilled"
    alias: str = ""
    target: str = ""
    live: bool = False
    complete: bool = False
    """Whether a rollback would have succeeded."""
    seconds: float = 0.0
    back_s: float | None = None
    """Seconds of the way back; None: no traffic moved."""
    acknowledged: tuple[str, ...] = ()
    smoke: SmokeCounts = SmokeCounts()


@dataclass(frozen=True, slots=True)
class DrillRefused(PassiveEvent):
    """A drill that could not begin; its entry is of the kind `drilled`, with a `reason`."""

    kind: ClassVar[str] = "drilled"
    alias: str = ""
    reason: str = ""
    target: str = ""
    live: bool = False
    complete: bool = False


@dataclass(frozen=True, slots=True)
class DrillUndone(PassiveEvent):
    """The end of a killed live drill: the route is as before."""

    kind: ClassVar[str] = "drill_undone"
    alias: str = ""
    target: str = ""


@dataclass(frozen=True, slots=True)
class Released(EventFields):
    """A release of versions that were kept out."""

    kind: ClassVar[str] = "released"
    alias: str = ""
    reason: str = ""
    route: Document | None = None
    """The live route, from which the rollout goes on; None: no route."""
    adapter: str | None = None
    """Full name of the version; None: every version."""


@dataclass(frozen=True, slots=True)
class GateVerdict(EventFields):
    """A verdict of a gate, about a rollout of a version or about an upgrade of servers."""

    alias: str = ""
    adapter: str = ""
    """Full name of the version; in an upgrade it answers on both servers."""
    gate: str = ""
    finding: Document = field(default_factory=dict)
    """`fleet.gates.Finding` as written, which `check_evidence` judges again."""
    digests: Mapping[str, str] = field(default_factory=dict)
    """Of `adapter`, `stable`, `base` and `golden`; `terms` as text."""
    runs: tuple[str, ...] = ()
    """Ids of the evaluations behind the verdict: of the old version or server, then of the new."""


@dataclass(frozen=True, slots=True)
class GateJudged(GateVerdict):
    """A verdict about a version, beside the version before."""

    kind: ClassVar[str] = "gate_judged"
    stable: str = ""
    percent: int = 0
    fingerprint: str = ""
    since: datetime | None = None
    """Entry of the stage; None: the time of the ledger's entry."""
    rows: CountedRows | None = optional()  # noqa: RUF009 (a field)
    """The usage rows behind a verdict on traffic; None: none, or of an earlier release."""


@dataclass(frozen=True, slots=True)
class RolloutMarked(EventFields):
    """A mark of a person on a rollout."""

    kind: ClassVar[str] = "rollout_marked"
    alias: str = ""
    adapter: str = ""
    mark: str = ""
    """A `MarkKind`, or a mark of a later release."""
    reason: str = ""
    until: datetime | None = optional()  # noqa: RUF009 (a field)
    """End of a pause."""
    digest: str | None = optional()


@dataclass(frozen=True, slots=True)
class EvalFinished(PassiveEvent):
    """An evaluation; its answers are in a file."""

    kind: ClassVar[str] = "eval_finished"
    run: str = ""
    alias: str = ""
    adapter: str = ""
    purpose: str = ""
    """`gate`, `anchor`, `rolling`, `smoke` or `aa`."""
    summary: Document = field(default_factory=dict)
    samples_sha256: str = ""
    path: str = ""


@dataclass(frozen=True, slots=True)
class JudgeCompared(PassiveEvent):
    """A comparison of a judge with the labels of people."""

    kind: ClassVar[str] = "judge_compared"
    client: str = ""
    url: str = ""
    model: str = ""
    labels: str = ""
    labels_sha256: str = ""
    n: int = 0
    agreed: int = 0
    unparsable: int = 0
    kappa: float | None = None
    objection: str = ""
    """Why the judge decides no gate; empty: the judge may decide."""


@dataclass(frozen=True, slots=True)
class RetrainClaim(EventFields):
    """The fields of a claim on the retraining of an alias, at its begin and at its end."""

    alias: str = ""
    by: str = ""
    until: datetime | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RetrainClaimed(RetrainClaim):
    """The begin of a claim."""

    kind: ClassVar[str] = "retrain_claimed"


@dataclass(frozen=True, slots=True)
class RetrainReleased(RetrainClaim):
    """The end of a claim."""

    kind: ClassVar[str] = "retrain_released"


@dataclass(frozen=True, slots=True)
class RetrainStarted(PassiveEvent):
    """The begin of a training."""

    kind: ClassVar[str] = "retrain_started"
    alias: str = ""
    adapter: str = ""
    command: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RetrainFinished(PassiveEvent):
    """A trained version in the library."""

    kind: ClassVar[str] = "retrain_finished"
    alias: str = ""
    adapter: str = ""
    digest: str = ""
    seconds: float | None = None
    """Duration of the training; None: its run was interrupted."""


@dataclass(frozen=True, slots=True)
class CaptureForgotten(PassiveEvent):
    """The deletion of captured text by a person; holds nothing of the text."""

    kind: ClassVar[str] = "capture_forgotten"
    client: str = ""
    items: int = 0
    of_user: bool = False
    """Whether the items of a single user or session were deleted; the entry names neither."""


@dataclass(frozen=True, slots=True)
class DashboardRevoked(PassiveEvent):
    """The end of all links, sessions and tokens that a client has for the dashboard."""

    kind: ClassVar[str] = "dashboard_revoked"
    client: str = ""
    """Empty: those of operators."""


@dataclass(frozen=True, slots=True)
class UpgradeJudged(GateVerdict):
    """A verdict of a client's golden set on a canary server, beside the old server."""

    kind: ClassVar[str] = "upgrade_judged"
    base: str = ""
    settings: str = ""
    """Text that stands for the new settings, as `fleet.rollouts.Upgrade`."""
    old: str = ""
    """Settings of the server that was compared with."""
    canary: str = ""
    """Name of the canary server."""


@dataclass(frozen=True, slots=True)
class UpgradeDecided(EventFields):
    """A decision about an upgrade, by its golden sets or by a person."""

    kind: ClassVar[str] = "upgrade_decided"
    base: str = ""
    settings: str = ""
    """As `UpgradeJudged.settings`."""
    mark: str = ""
    """An `UpgradeMark`, or a mark of a later release."""
    reason: str = ""
    old: str = ""
    """Settings before; empty: not known."""


RolloutEvent: TypeAlias = (
    RolledBack
    | RollbackChecked
    | Notified
    | DrillStarted
    | Drilled
    | DrillRefused
    | DrillUndone
    | Released
    | GateJudged
    | RolloutMarked
    | EvalFinished
    | JudgeCompared
    | RetrainClaimed
    | RetrainReleased
    | RetrainStarted
    | RetrainFinished
    | CaptureForgotten
    | DashboardRevoked
    | UpgradeJudged
    | UpgradeDecided
)
