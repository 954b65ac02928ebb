"""Splits the leases of devices among clients: by work, idle time by rule; months, shares of fees.

Takes capacity and weights from `placement`'s accounts: no law of its own. Pure.
"""

from fleet.costing.hours import (
    COUNTED,
    HOUR,
    PLATFORM,
    CostLine,
    HourSplitter,
    LineKind,
    ServerHour,
    WorkCell,
    WorkNames,
    apportion,
    hourly_terms,
    lines_of,
    split_server,
)
from fleet.costing.months import (
    ClientMonth,
    Corrections,
    MonthCost,
    PromisedSpan,
    PromiseHours,
    bill_cents,
    due_corrections,
    month_cost,
    promise_hours,
    promised_spans,
    rollback_seconds,
    to_cents,
)
from fleet.costing.shares import (
    ALARM,
    CLEAR,
    WARN,
    Bill,
    CostMove,
    Projection,
    ShareState,
    change_since,
    cheaper_moves,
    cost_changes,
    fee_needed,
    monthly_costs,
    projection,
    share_state,
)
from fleet.costing.terms import (
    ClientTerms,
    DeviceTerms,
    FleetTerms,
    ResidentTerms,
    Role,
    ServerTerms,
    Terms,
    terms_of,
)
