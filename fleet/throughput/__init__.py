"""How fast a server decodes for many adapters at once: the law, and where its constants are from.

`law` is the arithmetic, `estimate` its constants from data sheets, `fit` what turns measured
steps into constants, `choice` which of them holds for a server. All pure.
"""

from fleet.throughput.choice import WORST_RESIDUAL, measured, speed_of
from fleet.throughput.estimate import estimate
from fleet.throughput.fit import Point, error_of, fit
from fleet.throughput.law import (
    MAX_NUM_SEQS,
    batch_of_step,
    capacity,
    crowding,
    expected_active,
    expected_busy,
    largest_batch,
    prompt_seconds,
    step_seconds,
    step_under_load,
    step_within,
    tokens_per_second,
)

__all__ = [
    "MAX_NUM_SEQS",
    "WORST_RESIDUAL",
    "Point",
    "batch_of_step",
    "capacity",
    "crowding",
    "error_of",
    "estimate",
    "expected_active",
    "expected_busy",
    "fit",
    "largest_batch",
    "measured",
    "prompt_seconds",
    "speed_of",
    "step_seconds",
    "step_under_load",
    "step_within",
    "tokens_per_second",
]
