"""Lists the metrics, which score an answer from 0 to 1 without any model."""

from collections.abc import Mapping
from types import MappingProxyType

from fleet.evals.answer import Metric
from fleet.evals.metrics.numbers import GROUNDED_NUMBERS, NUMERIC
from fleet.evals.metrics.structure import DECLARED_FORMAT, JSON_FIELDS, JSON_SCHEMA, LABEL
from fleet.evals.metrics.texts import CONTAINS, EXACT, FINISH, LENGTH_RATIO, REFUSAL, REGEX

METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        "exact": EXACT,
        "contains": CONTAINS,
        "regex": REGEX,
        "numeric": NUMERIC,
        "label": LABEL,
        "json_schema": JSON_SCHEMA,
        "json_fields": JSON_FIELDS,
        "finish": FINISH,
        "length_ratio": LENGTH_RATIO,
        "refusal": REFUSAL,
        "grounded_numbers": GROUNDED_NUMBERS,
        "declared_format": DECLARED_FORMAT,
    }
)

JUDGE = "judge"
"""Name of the metric that a model at another endpoint scores; options: `question`."""
