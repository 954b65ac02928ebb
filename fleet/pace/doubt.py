"""Doubt: what must not raise a version's share, for it is not to be believed.

Whatever makes a plan comes by here: by a clock that is behind a bake, a pause or an override
would end when it should not, and a verdict that does not follow from its counts is no verdict.
Taking traffic back needs neither.
"""

from collections.abc import Iterable
from datetime import datetime

from fleet.history import Evidence, History
from fleet.pace import words
from fleet.timing import SKEW
from fleet.verification import judge_again


def doubt(history: History, evidence: Iterable[Evidence], now: datetime) -> str:
    """Return why nothing may rise now, as a sentence without its full stop; empty: it may.

    Args:
        history: The ledger, folded.
        evidence: What the rise would rest on; only that is judged again, so that a long ledger
            and many gates cost a plan nothing.
        now: The time here.
    """
    last = history.as_of
    if last is not None and last - now > SKEW:
        return (
            f"the clock is behind the ledger (FC5108): it is {words.time(now)} here, and the "
            f"ledger has an entry of {words.time(last)}"
        )
    for each in evidence:
        differs = judge_again(each.finding, each.gate)
        if differs:
            return (
                f"evidence #{each.seq}, gate {each.gate}, does not follow from its counts "
                f"(FC5130): {differs}. To judge it anew: fleetctl release {each.alias}"
            )
    return ""
