"""History: what the ledger says happened, folded into what decisions need."""

from fleet.history.folding import Entry, fold, settled
from fleet.history.past import History, Hold, Stage, Unfinished
from fleet.history.quarantine import accepted, kept_out, rejection, same_bytes, twins
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
    "accepted",
    "fold",
    "kept_out",
    "rejection",
    "same_bytes",
    "settled",
    "twins",
]
