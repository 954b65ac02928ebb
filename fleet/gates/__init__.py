"""Judges whether a new version is good enough: PASS, FAIL or INCONCLUSIVE.

Layer 2, beside `vllm` and `packing`; knows no fleet. Statistics in plain Python on counts alone, so
that anyone can compute a verdict again. Which gates are due is decided in `fleet.rollouts`.
"""

from fleet.gates.boundary import confidence
from fleet.gates.counts import BAD, Window
from fleet.gates.decide import MISSING
from fleet.gates.intervals import Z, mcnemar, newcombe, upper_tail, wilson
from fleet.gates.live import judge_live
from fleet.gates.offline import LEAST_ITEMS, judge_paired
from fleet.gates.own_control import Beliefs, believed_of
from fleet.gates.past import BEFORE, HOUR, UNKNOWN, Baseline, baseline, baselines, with_usual
from fleet.gates.power import (
    USUAL_DISCORDANCE,
    USUAL_EFFECT,
    UsualRate,
    catching,
    certifiable,
    differed,
    harm,
    healthy_rate,
    items_needed,
    least_limit,
    paired_power,
    seen,
)
from fleet.gates.recheck import EARLIER, recheck_verdict
from fleet.gates.row_digest import CountedRows, TimedRow, digest_of_rows, in_order
from fleet.gates.rows import UsageRow, end_of
from fleet.gates.soak import blameless, judge_soaking, soaking, spared
from fleet.gates.verdict import Counts, Finding, Verdict, percent_text, points_text
from fleet.gates.windows import Whose, arms, count_windows, neighbours
