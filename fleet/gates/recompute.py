"""Judging again: from a finding's own counts and limits to the same verdict."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from fleet.gates import conclusion, live, offline, soak
from fleet.gates.verdict import Finding

RULES: Mapping[str, Callable[..., Finding]] = MappingProxyType(
    {
        offline.BINARY: offline.judge_binary,
        offline.GRADED: offline.judge_graded,
        conclusion.RISE: live.judge_rise,
        conclusion.RATIO: live.judge_ratio,
        conclusion.RATE: live.judge_rate,
        conclusion.ALONE: live.judge_alone,
        soak.SINCE: soak.judge_since,
    }
)
"""By name of the rule: (gate, metric, counts, limits) to a finding."""


def recompute(document: Mapping[str, Any]) -> Finding:
    """Return what the rule says of the counts in a finding's plain form, whatever it claims.

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
