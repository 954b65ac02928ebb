"""Placement: which server holds which adapter version, and with what flags servers start.

A loaded version stays on its server as long as that is valid; the rest is packed. `place` is the
entry of the search, `verify_placement` and `verify_steps` check its results.
"""

from fleet.placement.alternatives import Alternative, Weighed, weigh
from fleet.placement.losses import Loss, loss_outlook, losses_of, steady_state
from fleet.placement.model.accounts import (
    AdapterAccount,
    ServerAccount,
    placement_accounts,
    state_accounts,
)
from fleet.placement.model.causes import Attempt, Limit, PlacementCause, TotalNeed
from fleet.placement.model.latency_slo import LatencyAnswer, answer_of, late, late_aliases, slowest
from fleet.placement.model.servers import DeviceId
from fleet.placement.model.state import PlacementResult, PlacementState, SearchLimits
from fleet.placement.phases.consolidate import cost
from fleet.placement.search import attempt, place, substitutes
from fleet.placement.unplaced import beyond_all_places, causes_of, totals_of, trials_of
from fleet.placement.verify import Violation, verify_placement, verify_steps
