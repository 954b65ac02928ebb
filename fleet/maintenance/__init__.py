"""Decides retrainings, drills, deletions and notifications that are due beside a plan.

Layer 7, beside `what_if`, above planning. Callers hand in entries, live state and time. Pure.
"""

from fleet.maintenance.drills import DrillRecord, due_drills, last_drills
from fleet.maintenance.notifications import (
    OF_A_CLIENT,
    Notification,
    drifted,
    failed_drill,
    failed_gates,
    is_due,
    ledger_away,
    overdue_retrainings,
    rollbacks,
    undecided_rollouts,
)
from fleet.maintenance.retention import (
    RetainedVersions,
    RetentionDecision,
    kept_answers,
    retained,
)
from fleet.maintenance.retraining import due_retrainings, next_version, standing_claim

__all__ = [
    "OF_A_CLIENT",
    "DrillRecord",
    "Notification",
    "RetainedVersions",
    "RetentionDecision",
    "drifted",
    "due_drills",
    "due_retrainings",
    "failed_drill",
    "failed_gates",
    "is_due",
    "kept_answers",
    "last_drills",
    "ledger_away",
    "next_version",
    "overdue_retrainings",
    "retained",
    "rollbacks",
    "standing_claim",
    "undecided_rollouts",
]
