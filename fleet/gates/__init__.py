"""Judges whether a new version is good enough: PASS, FAIL or INCONCLUSIVE.

Layer 2, beside `vllm` and `packing`; knows no fleet. Statistics in plain Python on counts alone, so
that anyone can compute a verdict again. Which gates are due is decided in `fleet.rollouts`.
"""

from fleet.gates.decide import MISSING, Counts, Finding, Verdict, percent_text, points_text
from fleet.gates.intervals import Z, mcnemar, newcombe, upper_tail, wilson
from fleet.gates.live import judge_live
from fleet.gates.offline import LEAST_ITEMS, judge_paired
from fleet.gates.own_control import Beliefs, believed_of
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
from fleet.gates.rows import (
    BAD,
    CountedRows,
    TimedRow,
    UsageRow,
    Window,
    digest_of_rows,
    end_of,
    in_order,
)
from fleet.gates.sequential import confidence
from fleet.gates.soak import EARLIER, blameless, judge_soaking, recheck_verdict, soaking, spared
from fleet.gates.windows import (
    BEFORE,
    HOUR,
    UNKNOWN,
    Baseline,
    Whose,
    arms,
    baseline,
    baselines,
    count_windows,
    neighbours,
    with_usual,
)
