"""Judges again: computes the verdict of a finding from its own counts and limits."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from fleet.gates import decide, live, offline, soak
from fleet.gates.verdict import Counts, Finding

RULES: Mapping[str, Callable[..., Finding]] = MappingProxyType(
    {
        offline.BINARY: offline.judge_binary,
        offline.GRADED: offline.judge_graded,
        decide.RISE: live.judge_rise,
        decide.RATE: live.judge_rate,
        decide.ALONE: live.judge_alone,
        soak.SINCE: soak.judge_since,
    }
)
"""By name of the rule: (gate, metric, counts, limits) to a finding."""
EARLIER = frozenset(
    {
        "share_by_own_control",
        "share_of_bad",
        "share_of_slow",
        "share_of_slow_or_late",
        "rate_of_bad",
        "rate_of_bad_since",
    }
)
"""Rules of earlier releases, which took no user as their own control. Their findings are void: no
share grows by them, and they are not computed again."""


def recheck_verdict(document: Mapping[str, Any]) -> Finding:
    """Judge the counts of a plain finding again, whatever verdict the finding claims.

    A finding by a rule of an earlier release is returned as it is.

    Raises:
        ValueError: it is not a finding, its rule is not known, or its counts do not fit it.
    """
    claimed = Finding.of(document)
    if claimed.rule in EARLIER:
        return claimed
    rule = RULES.get(claimed.rule)
    if rule is None:
        raise ValueError(f"no rule is called {claimed.rule!r}")
    if any(_more(claimed.counts, side) for side in ("", "_stable")):
        raise ValueError("it counts more bad requests than requests")
    try:
        return rule(claimed.gate, claimed.metric, claimed.counts, claimed.parameters)
    except (KeyError, TypeError, ZeroDivisionError, OverflowError) as error:
        raise ValueError(f"the counts do not fit the rule {claimed.rule!r}: {error}") from error


def _more(counts: Counts, side: str) -> bool:
    bad, requests = (counts.get(f"{name}{side}", ()) for name in ("bad", "requests"))
    if not isinstance(bad, Sequence) or not isinstance(requests, Sequence):
        return False
    return any(more > of for more, of in zip(bad, requests, strict=False))
