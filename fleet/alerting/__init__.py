"""Decides alerts, events to notify people of, and the likely causes of a change for the worse.

Layer 8, above `maintenance`. Callers hand in figures of usage, ledger entries, verdicts and the
time. Pure.
"""

from fleet.alerting.alert import (
    LEAST_REQUESTS,
    OF_TRAFFIC,
    Alert,
    AlertPhase,
    AlertRule,
    LatencyBaseline,
    RuleFinding,
    Signal,
    advance,
    latency_baseline,
    same_class,
)
from fleet.alerting.changes import (
    AliasChange,
    ChangeKind,
    RouteChange,
    ledger_changes,
    route_changes,
)
from fleet.alerting.notifications import (
    OF_A_CLIENT,
    alert_notices,
    as_told,
    drifted,
    failed_drill,
    failed_gates,
    ledger_away,
    overdue_retrainings,
    planned_retrainings,
    rollbacks,
    rollout_turns,
    undecided_rollouts,
)
from fleet.alerting.rules import (
    ERROR_SHARE,
    HOURS_FOR,
    QUARTERS_FOR,
    SLOW_SHARE,
    AliasFacts,
    BaseForecast,
    BudgetUse,
    DataFault,
    Holder,
    Month,
    ProjectedCost,
    ahead,
    alias_findings,
    budget_findings,
    budget_uses,
    budgets_of,
    counted,
    fleet_findings,
)
from fleet.alerting.timeline import Measure, RankedChange, WhyWorse, explain_worse
