"""Decides which events people are notified of, and which changes may have made an alias slower.

Layer 8, above `maintenance`. Callers hand in ledger entries, verdicts and the time. Pure.
"""

from fleet.alerting.changes import (
    AliasChange,
    ChangeKind,
    RouteChange,
    ledger_changes,
    route_changes,
)
from fleet.alerting.notifications import (
    OF_A_CLIENT,
    Notification,
    drifted,
    failed_drill,
    failed_gates,
    is_due,
    ledger_away,
    overdue_retrainings,
    planned_retrainings,
    rollbacks,
    rollout_turns,
    undecided_rollouts,
)
