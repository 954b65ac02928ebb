"""Folds ledger entries into the `History` that decisions need.

Layer 3, above `gates`. Also answers what keeps a version from serving (`blocks`), whether recorded
evidence still gives its verdict, and which deployments a version had. A rollback needs nothing
above this package. Pure.
"""

from fleet.history.apply_events import (
    Adopted,
    ApplyFinished,
    ApplyStarted,
    BackedUp,
    BackupDrilled,
    Collected,
    CopyDamaged,
    CostTermsChanged,
    Document,
    Frozen,
    MonthClosed,
    Noted,
    PlanApproved,
    Restored,
    StaffHoursImported,
    StepFailed,
    StepFinished,
    StepStarted,
    Thawed,
)
from fleet.history.blocks import (
    FallbackCheck,
    FallbackObjection,
    accepted,
    blocks_on,
    fallback_check,
    is_way_back,
    kept_out,
    loaded_digests,
    nothing_known,
    rejected_by_gates,
    rejection,
    same_bytes,
)
from fleet.history.damage import (
    MAY_ANSWER_OTHER_BYTES,
    Damage,
    found_damage,
    marked_unsure,
    with_damage,
)
from fleet.history.deployments import (
    carried_out,
    deployments_of,
    overtaken,
    tried_versions,
    undone_steps,
)
from fleet.history.doubts import (
    Doubts,
    EvidenceCheck,
    check_evidence,
    clock_behind,
    find_doubts,
    judge_again,
    tampered_evidence,
    tampering,
)
from fleet.history.events import Entry, LedgerEvent, UnknownEvent, data_of, event_of
from fleet.history.fold import fold_entries, settled
from fleet.history.freezes import freeze_after, frozen_fleet
from fleet.history.kept_entries import standing_entries
from fleet.history.notification import AGAIN, Audience, Notification, is_due
from fleet.history.rollout_events import (
    CaptureForgotten,
    DashboardRevoked,
    Drilled,
    DrillRefused,
    DrillStarted,
    DrillUndone,
    EvalFinished,
    GateJudged,
    JudgeCompared,
    Notified,
    Released,
    RetrainClaimed,
    RetrainFinished,
    RetrainReleased,
    RetrainStarted,
    RollbackChecked,
    RolledBack,
    RolloutMarked,
    SmokeCounts,
    UpgradeDecided,
    UpgradeFields,
    UpgradeJudged,
    UpgradeMark,
)
from fleet.history.settings import settings_due, settings_to_record
from fleet.history.signatures import (
    KeyAccepted,
    KeyTerm,
    Signature,
    anchored,
    distrust,
    keys_after,
    public_key,
    shown_key,
    sign,
)
from fleet.history.values import (
    DAY,
    LIMITS,
    SKEW,
    Block,
    BlockKind,
    Claim,
    GateEvidence,
    History,
    MarkKind,
    RolloutMark,
    RolloutStage,
    SmokePass,
    TrafficShift,
    UpgradeDecision,
    UpgradeRecord,
    UpgradeVerdict,
    history_document,
    history_of,
    other_engine,
)
