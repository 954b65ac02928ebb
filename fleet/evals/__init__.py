"""Judges evaluations: golden sets, scores, whether a run counts, quality drift, due evaluations.

Layer 4, beside `config` and `rollouts`; records come from `history`. `runtime/evals` asks the
models; `fleet.gates` judges one version against another from the scores made here. Pure.
"""

from fleet.evals.golden_item import (
    ACCURACY,
    GROUNDED,
    JUDGE,
    MUST_PASS,
    GoldenItem,
    GoldenItemError,
)
from fleet.evals.golden_set import (
    EXPORTS,
    CapturedText,
    GoldenSet,
    read_golden_set,
    replayed,
    scored_by,
    with_format,
)
from fleet.evals.imported import (
    inspect_samples,
    inspect_version,
    lm_eval_samples,
    numbered,
    questions,
)
from fleet.evals.judging import (
    LabelledAnswer,
    agreement,
    in_pairs,
    objection,
    read_labels,
    scored,
    to_judge,
)
from fleet.evals.metrics import Scored
from fleet.evals.metrics.texts import FLAWS
from fleet.evals.records import (
    AFTER_TRAINING,
    DriftStatus,
    EvalRecord,
    QualityDrift,
    QualityLevel,
    baseline,
    drift_since,
    drifts,
    eval_records,
    far_below,
    first_result,
    floor,
    latest_anchor,
)
from fleet.evals.run import (
    NATIVE,
    EvalRun,
    EvalTarget,
    Purpose,
    Sample,
    ServedVersion,
    answering,
    cache_key,
    decoding_of,
    due_evaluations,
    is_reusable,
    lines_of,
    run_of,
    sample_of,
    served_versions,
    spelled_as_utf8,
)
from fleet.evals.summary import (
    changed_answers,
    must_pass_failed,
    pair_faults,
    paired_scores,
    run_faults,
    summarize,
)
