"""Decides the versions that an alias should have now, and their shares of its traffic.

Layer 4, beside `config` and `evals`, above `history` and `gates`; the only decision that knows the
time. A version is loaded and judged on golden sets, starts at the rollout's first weight, moves to
the next when it has baked at this one and every gate has passed, and never skips one. A gate that
fails takes all its traffic back, from any stage. A rollback, recorded or not, is left as it is and
named; any other change of the live route is not what was applied, and a plan takes the change back.

The same declarations, history, live state and time give the same answer, however often and at
whatever intervals they are asked; a clock that goes back delays a rollout and does nothing else.
"""

from fleet.rollouts.decide import applied_route, decide_rollouts, is_diverted, may_be_rollback
from fleet.rollouts.evidence import (
    GateTrial,
    due_gates,
    engine_digest,
    gates_of,
    golden_of,
    grouped,
    loaded_on,
)
from fleet.rollouts.forecast import forecast_rollouts, outlook, rollout_ahead
from fleet.rollouts.guards import closed_until, closed_windows_until
from fleet.rollouts.stage_traffic import StageTraffic, stage_traffic
from fleet.rollouts.status import ONWARD, MarkRefusal, RolloutStatus, rollout_statuses
from fleet.rollouts.targets import (
    AliasTarget,
    CanaryResult,
    Phase,
    RolloutTargets,
    Upgrade,
    UpgradeStage,
)
from fleet.rollouts.upgrades import MOVES, decide_upgrades, upgrade_trials
