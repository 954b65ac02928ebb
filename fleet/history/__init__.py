"""Folds ledger entries into the `History` that decisions need.

Layer 3, above `gates`. Also answers what keeps a version from serving (`blocks`), whether recorded
evidence still gives its verdict, and which deployments a version had. A rollback needs nothing
above this package. Pure.
"""

from fleet.history.blocks import (
    FallbackCheck,
    FallbackObjection,
    accepted,
    fallback_check,
    fallen,
    is_out,
    is_way_back,
    kept_out,
    loaded_digests,
    nothing_known,
    rejected_by_gates,
    rejection,
    same_bytes,
    taken_out,
)
from fleet.history.deployments import carried_out, deployments_of
from fleet.history.doubts import Doubts, clock_behind, find_doubts, tampered_evidence, tampering
from fleet.history.entry import Entry
from fleet.history.evidence_check import EvidenceCheck, check_evidence, judge_again
from fleet.history.fold import fold_entries, settled
from fleet.history.values import (
    LIMITS,
    SKEW,
    Claim,
    GateEvidence,
    History,
    MarkKind,
    RollbackHold,
    RolloutMark,
    RolloutStage,
    latest_time,
    other_engine,
)

__all__ = [
    "LIMITS",
    "SKEW",
    "Claim",
    "Doubts",
    "Entry",
    "EvidenceCheck",
    "FallbackCheck",
    "FallbackObjection",
    "GateEvidence",
    "History",
    "MarkKind",
    "RollbackHold",
    "RolloutMark",
    "RolloutStage",
    "accepted",
    "carried_out",
    "check_evidence",
    "clock_behind",
    "deployments_of",
    "fallback_check",
    "fallen",
    "find_doubts",
    "fold_entries",
    "is_out",
    "is_way_back",
    "judge_again",
    "kept_out",
    "latest_time",
    "loaded_digests",
    "nothing_known",
    "other_engine",
    "rejected_by_gates",
    "rejection",
    "same_bytes",
    "settled",
    "taken_out",
    "tampered_evidence",
    "tampering",
]
