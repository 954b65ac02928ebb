"""Decides retrainings, drills, deletions and notifications that are due beside a plan.

Layer 7, beside `what_if`, above planning. Callers hand in entries, live state and time. Pure.
"""

from fleet.maintenance.due import (
    DrillRecord,
    due_drills,
    due_retrainings,
    last_drills,
    next_version,
    standing_claim,
)
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
from fleet.maintenance.retention import RetentionDecision, kept_answers, retained
