"""Checks that recorded verdicts follow from the counts recorded with them."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from fleet.gates import Finding, recheck_verdict
from fleet.history.events import Entry
from fleet.history.rollout_events import GateJudged

CLOSE = 1e-9
"""Relative difference below which two computed figures are the same."""
FIGURES = ("estimate", "lower", "upper", "value")


@dataclass(frozen=True, slots=True)
class EvidenceCheck:
    """A recorded verdict, judged again."""

    seq: int
    alias: str
    adapter: str
    gate: str
    recorded: str
    """The verdict in the ledger."""
    computed: str
    """The verdict that follows from the counts; empty where none does."""
    differs: str
    """The difference, as a sentence without its full stop; empty: the verdict follows."""


def check_evidence(entries: Iterable[Entry]) -> Iterator[EvidenceCheck]:
    """Judge every verdict of the ledger again from its own counts and limits."""
    for entry in entries:
        if isinstance(entry.event, GateJudged):
            yield check_one(entry.seq, entry.event)


def check_one(seq: int, event: GateJudged) -> EvidenceCheck:
    """Judge a verdict again."""
    document, alias, adapter, gate = event.finding, event.alias, event.adapter, event.gate
    recorded = str(document.get("verdict", ""))
    try:
        claimed, again = Finding.of(document), recheck_verdict(document)
    except ValueError as error:
        return EvidenceCheck(seq, alias, adapter, gate, recorded, "", _impossible(error))
    differs = _difference(claimed, again, gate)
    return EvidenceCheck(seq, alias, adapter, gate, recorded, again.verdict, differs)


def judge_again(claimed: Finding, gate: str) -> str:
    """Return the part of a gate's finding that its counts do not give; empty: no part."""
    try:
        return _difference(claimed, recheck_verdict(claimed.plain()), gate)
    except ValueError as error:
        return _impossible(error)


def _impossible(error: ValueError) -> str:
    return f"it cannot be judged again: {error}"


def _difference(claimed: Finding, again: Finding, gate: str) -> str:
    if claimed.verdict is not again.verdict:
        return f"its counts give {again.verdict}, not {claimed.verdict}"
    if claimed.gate != gate:
        return f"it is a finding of gate {claimed.gate}"
    # Where nothing was counted there is nothing but the reason, in words.
    for name in FIGURES:
        one, other = getattr(claimed, name), getattr(again, name)
        if (one is None) != (other is None) or (one is not None and not _close(one, other)):
            return f"its counts give {name} {_shown(other)}, not {_shown(one)}"
    return ""


def _close(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=CLOSE, abs_tol=CLOSE)


def _shown(figure: float | None) -> str:
    return "none" if figure is None else f"{figure:.6g}"
