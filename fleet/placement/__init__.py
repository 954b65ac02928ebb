"""Placement: which server holds which adapter version, and with what flags servers start.

A loaded version stays on its server as long as that is valid; the rest is packed. `place` is the
entry of the search, `verify_placement` and `verify_steps` check its results.
"""

from fleet.placement.accounting import placement_accounts, state_accounts
from fleet.placement.accounts import AdapterAccount, ServerAccount
from fleet.placement.alternatives import Alternative, Weighed, weigh
from fleet.placement.attempts import attempt
from fleet.placement.causes import Attempt, Limit, PlacementCause, TotalNeed
from fleet.placement.consolidate import cost
from fleet.placement.latency_slo import LatencyAnswer, answer_of, late, late_aliases, slowest
from fleet.placement.losses import Loss, losses_of, steady_state
from fleet.placement.result import PlacementResult
from fleet.placement.search import place, substitutes
from fleet.placement.servers import DeviceId
from fleet.placement.state import PlacementState, SearchLimits
from fleet.placement.survival import loss_outlook
from fleet.placement.unplaced import beyond_all_places, causes_of, totals_of, trials_of
from fleet.placement.verify import Violation, verify_placement, verify_steps
