"""Decides retrainings, drills and deletions that are due beside a plan.

Layer 7, beside `what_if`, above planning. Callers hand in entries, live state and time. Pure.
"""

from fleet.maintenance.due import (
    DrillRecord,
    Retraining,
    RetrainingDue,
    due_drills,
    due_retrainings,
    last_drills,
    next_version,
    standing_claim,
)
from fleet.maintenance.retention import UNRECORDED, RetentionDecision, kept_answers, retained
