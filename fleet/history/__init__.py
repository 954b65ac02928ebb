"""History: what the ledger says happened, folded into what decisions need."""

from fleet.history.folding import Entry, fold, settled
from fleet.history.past import History, Hold, Stage, Unfinished, latest
from fleet.history.quarantine import (
    aborted,
    accepted,
    kept_out,
    rejection,
    same_bytes,
    twins,
    ways_back,
)
from fleet.history.trials import Claim, EvalRun, Evidence, Mark

__all__ = [
    "Claim",
    "Entry",
    "EvalRun",
    "Evidence",
    "History",
    "Hold",
    "Mark",
    "Stage",
    "Unfinished",
    "aborted",
    "accepted",
    "fold",
    "kept_out",
    "latest",
    "rejection",
    "same_bytes",
    "settled",
    "twins",
    "ways_back",
]
