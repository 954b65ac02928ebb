"""Gates: whether a new version is good enough, said with PASS, FAIL or INCONCLUSIVE.

Statistics in plain Python on counts alone, so that anyone can compute a verdict again.
"""

from fleet.gates.live import judge_live
from fleet.gates.offline import judge_paired
from fleet.gates.recompute import recompute
from fleet.gates.soak import judge_soaking, soaking
from fleet.gates.tally import Tally, Window
from fleet.gates.verdict import Finding, Verdict

__all__ = [
    "Finding",
    "Tally",
    "Verdict",
    "Window",
    "judge_live",
    "judge_paired",
    "judge_soaking",
    "recompute",
    "soaking",
]
