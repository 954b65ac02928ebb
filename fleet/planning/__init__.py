"""Planning: from the declared, live and past state to a plan, and to drift. Pure."""

from fleet.planning.client_keys import weak_new_keys, without_weak_keys
from fleet.planning.desired import desired_state_of, passed_in, raised
from fleet.planning.drift import classify_drift, folders_of, outages_of, ownerless
from fleet.planning.drift_cause import (
    DriftAction,
    DriftCause,
    failed_causes,
    fault_causes,
    quality_causes,
    without_ignored,
)
from fleet.planning.gateway_limits import lost
from fleet.planning.impact import require_kept
from fleet.planning.modes import (
    BestEffort,
    advances,
    best_effort,
    in_place,
    promoted,
    repair,
    without_routes,
    without_unready,
)
from fleet.planning.notes import changed_by_others, forgotten, recovered
from fleet.planning.pipeline import USUAL, desired_state, make_plan, require_sound
from fleet.planning.reasons import changed_bytes, with_served_bytes
from fleet.planning.upgrades import (
    TargetPattern,
    awaited_person,
    parse_criteria,
    require_known_targets,
    select,
    upgrade_part,
)
