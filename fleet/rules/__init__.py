"""Judges plans by the declared rules, and decides retrainings, drills and deletions that are due.

Pure: the time is an argument.
"""

from fleet.rules.due import (
    DrillRecord,
    Retraining,
    RetrainingDue,
    due_drills,
    due_retrainings,
    last_drills,
    next_version,
    standing_claim,
)
from fleet.rules.judge import judge_rules
from fleet.rules.requests import DAYS, refused_requests, skipped_stages
from fleet.rules.retention import UNRECORDED, RetentionDecision, kept_answers, retained
