"""Judges again: computes the verdict of a finding from its own counts and limits."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from fleet.gates import decide, live, offline, soak
from fleet.gates.verdict import Finding

RULES: Mapping[str, Callable[..., Finding]] = MappingProxyType(
    {
        offline.BINARY: offline.judge_binary,
        offline.GRADED: offline.judge_graded,
        decide.RISE: live.judge_rise,
        decide.RATIO: live.judge_ratio,
        decide.RATE: live.judge_rate,
        decide.ALONE: live.judge_alone,
        soak.SINCE: soak.judge_since,
    }
)
"""By name of the rule: (gate, metric, counts, limits) to a finding."""


def recheck_verdict(document: Mapping[str, Any]) -> Finding:
    """Judge the counts of a plain finding again, whatever verdict the finding claims.

    Raises:
        ValueError: it is not a finding, its rule is not known, or its counts do not fit it.
    """
    claimed = Finding.of(document)
    rule = RULES.get(claimed.rule)
    if rule is None:
        raise ValueError(f"no rule is called {claimed.rule!r}")
    try:
        return rule(claimed.gate, claimed.metric, claimed.counts, claimed.parameters)
    except (KeyError, TypeError, ZeroDivisionError, OverflowError) as error:
        raise ValueError(f"the counts do not fit the rule {claimed.rule!r}: {error}") from error
