"""History: what the ledger says happened, folded into what decisions need."""

from fleet.history.folding import Entry, fold, settled
from fleet.history.past import History, Hold, Stage, Unfinished, latest
from fleet.history.quarantine import (
    accepted,
    fallen,
    is_out,
    is_way_back,
    kept_out,
    rejection,
    same_bytes,
    taken_out,
)
from fleet.history.records import LIMITS, Claim, EvalRun, Evidence, Mark, Word, other_engine

__all__ = [
    "LIMITS",
    "Claim",
    "Entry",
    "EvalRun",
    "Evidence",
    "History",
    "Hold",
    "Mark",
    "Stage",
    "Unfinished",
    "Word",
    "accepted",
    "fallen",
    "fold",
    "is_out",
    "is_way_back",
    "kept_out",
    "latest",
    "other_engine",
    "rejection",
    "same_bytes",
    "settled",
    "taken_out",
]
