"""Planning: from the declared, live and past state to a plan, and to drift. Pure."""

from fleet.planning.desired import desired_state_of
from fleet.planning.drift import DriftAction, DriftCause, classify_drift, without_ignored
from fleet.planning.gateway_limits import lost
from fleet.planning.modes import BestEffort, advances, best_effort, repair
from fleet.planning.pipeline import USUAL, desired_state, make_plan
from fleet.planning.target import TargetPattern, parse_criteria, require_known_targets, select

__all__ = [
    "USUAL",
    "BestEffort",
    "DriftAction",
    "DriftCause",
    "TargetPattern",
    "advances",
    "best_effort",
    "classify_drift",
    "desired_state",
    "desired_state_of",
    "lost",
    "make_plan",
    "parse_criteria",
    "repair",
    "require_known_targets",
    "select",
    "without_ignored",
]
