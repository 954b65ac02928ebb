"""Finds doubts about the ledger: a late clock, verdicts that do not follow from their counts."""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from fleet.errors import Diagnostic, FleetError, problem
from fleet.gates import Finding, recheck_verdict
from fleet.history.events import Entry
from fleet.history.rollout_events import GateJudged, GateVerdict, Released
from fleet.history.signatures import distrust
from fleet.history.values import SKEW, History, latest_time
from fleet.resources import FULL
from fleet.spec import FleetSpec

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
    """Judge every verdict of the ledger again from its own counts and limits, also of upgrades."""
    for entry in entries:
        if isinstance(entry.event, GateVerdict):
            yield check_one(entry.seq, entry.event)


def check_one(seq: int, event: GateVerdict) -> EvidenceCheck:
    """Judge a verdict again."""
    computed, document = "", event.finding
    try:
        claimed, again = Finding.of(document), recheck_verdict(document)
        computed, differs = again.verdict, _difference(claimed, again, event.gate)
    except ValueError as error:
        differs = _impossible(error)
    recorded = str(document.get("verdict", ""))
    return EvidenceCheck(seq, event.alias, event.adapter, event.gate, recorded, computed, differs)


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


@dataclass(frozen=True, slots=True)
class Doubts:
    """The doubts about clock and evidence that keep rollouts from going on."""

    behind: FleetError | None = None
    """FC5108; None: the clock is not behind the ledger."""
    tampered: Mapping[str, EvidenceCheck] = field(default_factory=dict)
    """By alias: the verdict that was tampered with, and not released since."""
    anew: frozenset[str] = frozenset()
    """Aliases that were released from such a verdict and are not judged anew yet."""

    def may_pass(self, alias: str) -> bool:
        """Say whether verdicts other than a failure of this alias count."""
        return self.behind is None and alias not in self.tampered

    def then(self, later: "Doubts") -> "Doubts":
        """Return these doubts with those of a later reading, whose `anew` counts."""
        return Doubts(self.behind or later.behind, {**self.tampered, **later.tampered}, later.anew)


def find_doubts(
    fleet: FleetSpec, entries: Sequence[Entry], history: History, now: datetime
) -> tuple[Doubts, History]:
    """Return the doubts, and the history without the verdicts of aliases that were tampered with.

    `fleet` tells which gates judge the declared versions.
    """
    late, found = clock_behind(entries, now), tampered_evidence(entries, history)
    if not found:
        return Doubts(late), history
    freed = {
        event.alias: entry.seq for entry in entries if isinstance(event := entry.event, Released)
    }
    anew = {
        alias
        for alias, check in found.items()
        if check.seq < freed.get(alias, 0) and _judges(fleet, alias, check)
    }
    left = {alias: check for alias, check in found.items() if check.seq > freed.get(alias, 0)}
    trusted = replace(
        history,
        evidence={key: items for key, items in history.evidence.items() if key not in found},
        rejected={key: items for key, items in history.rejected.items() if key not in found},
    )
    return Doubts(late, left, frozenset(anew)), trusted


def _judges(fleet: FleetSpec, alias: str, check: EvidenceCheck) -> bool:
    """Say whether the declared version is judged by the gate of a verdict."""
    declared = fleet.adapters.get(alias)
    if declared is None or str(declared.name) != check.adapter:
        return False
    return check.gate in fleet.rollouts[declared.rollout].gates


def tampered_evidence(
    entries: Iterable[Entry], history: History, of: Collection[str] | None = None
) -> dict[str, EvidenceCheck]:
    """Return by alias a verdict that counts now and does not follow from its own counts.

    Verdicts that are over are for `fleetctl evidence verify`: a long past must not slow a tick.
    `of`: these aliases; None: all.
    """
    aliases = {item.seq: alias for alias, found in history.evidence.items() for item in found}
    for alias, rejected in history.rejected.items():
        aliases |= {item.seq: alias for item in rejected.values()}
    aliases = {seq: alias for seq, alias in aliases.items() if of is None or alias in of}
    found: dict[str, EvidenceCheck] = {}
    for entry in entries:
        if entry.seq in aliases and isinstance(event := entry.event, GateJudged):
            check, stage = check_one(entry.seq, event), history.stages.get(event.alias)
            over = stage is not None and (stage.adapter, stage.percent) == (event.adapter, FULL)
            # A signature takes 2 ms, and of a version with all traffic nothing rises.
            differs = check.differs or (
                "" if over else distrust(history.keys, entry.seq, entry.signature)
            )
            if differs:
                found[aliases[entry.seq]] = replace(check, differs=differs)
    return found


def tampering(alias: str, check: EvidenceCheck) -> Diagnostic:
    """Return FC5130, which names the ledger's entry."""
    return problem(
        "FC5130",
        "Evidence was tampered with",
        f"Ledger entry {check.seq}, gate {check.gate} of {check.adapter}: {check.differs}. "
        f"`{alias}` does not move on while this stands. Its live gates are asked all the same "
        "and take traffic back.",
        hint="Find out who wrote it. To judge the version anew, release it.",
        command="fleetctl evidence verify",
    )


def clock_behind(entries: Sequence[Entry], now: datetime) -> FleetError | None:
    """Return FC5108 where the clock here is behind the ledger; None: the clock is not behind.

    Requests and stages would lie in the future, and bakes end when they should not.
    """
    so_far: datetime | None = None
    ahead: Entry | None = None
    for entry in entries:
        before, so_far = so_far, latest_time(so_far, entry)
        ahead = entry if so_far == entry.time != before else ahead
    if ahead is None or ahead.time - now <= SKEW:
        return None
    late = (ahead.time - now).total_seconds()
    return FleetError.of(
        "FC5108",
        "The clock is behind the ledger",
        f"It is {now:%Y-%m-%d %H:%M:%S} UTC here, and the ledger's entry {ahead.seq} by "
        f"{ahead.by} is of {ahead.time:%Y-%m-%d %H:%M:%S}, {late:,.0f} s later. Live gates "
        "take traffic back; nothing passes by this clock, and no rollout moves on.",
        hint="Set the clock of this machine. If it was the one that wrote the entry which was "
        "wrong, and this one is right, say so by releasing what is to go on.",
        command="fleetctl release ALIAS --reason TEXT",
    )
