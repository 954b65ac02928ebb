"""Words the messages of a plan about a version that does not move on."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from fleet.history import Block, BlockKind, GateEvidence, RolloutMark
from fleet.names import version_of
from fleet.plan import NO_EVIDENCE
from fleet.rollouts.evidence import GateResult


def time(moment: datetime) -> str:
    """Return a moment for people, UTC where the moment is."""
    return moment.strftime("%Y-%m-%d %H:%M UTC")


def decided(decision: Block | RolloutMark) -> str:
    """Return author, time and reason of a decision, as text."""
    reason = f" ({decision.reason})" if decision.reason else ""
    return f"by {decision.by} at {time(decision.at)}{reason}"


def stays_out(alias: str, target: str, why: str) -> str:
    """Say why a version gets no traffic, and how the version may come again."""
    return (
        f"{version_of(target)} {why} and gets no traffic. To roll it out again: "
        f"fleetctl release {alias}"
    )


def begins(
    version: str, weight: int, offline: Sequence[GateResult], said: RolloutMark | None
) -> str:
    """Say how a version may begin: by golden sets, an override, or a person."""
    if accepted := [result for result in offline if result.accepted]:
        over = "; ".join(f"{result.gate.name} {result.accepted}" for result in accepted)
        return f"{version} begins at {weight} %: {over}"
    unsure = [f"{result.gate.name} {result.status}" for result in offline if not result.passed]
    if unsure:
        word = {"approve": "approved", "advance": "sent on"}[said.mark] if said else "let on"
        by = f"{word} by {said.by}" if said else word
        return f"{version} begins at {weight} %: {by}, {', '.join(unsure)}"
    return f"{version} has passed its golden sets and begins at {weight} %"


def rejected(alias: str, target: str, evidence: GateEvidence) -> str:
    """Say that a gate rejects a version's bytes."""
    return (
        f"{version_of(target)} held: {by_evidence(evidence)}. To accept it all the same, "
        f"declare an override; to judge it anew: fleetctl release {alias}"
    )


def by_evidence(evidence: GateEvidence) -> str:
    """Say by which evidence bytes are rejected, such as `digest 61636d652d73 rejected by ...`."""
    digest = evidence.digests.get("adapter", "")[:12]
    which = f"digest {digest} rejected" if digest else "rejected"
    reason = evidence.finding.reason
    return f"{which} by evidence #{evidence.seq}, gate {evidence.gate} ({reason})"


def not_served(why: str, declare: str) -> str:
    """Say that no version answers for an alias, and how that ends."""
    return f"NOT SERVED, for no other version is there: {why}. To serve it, {declare}"


def taken_out(block: Block) -> str:
    """Name the blocked version with the same bytes, and the block's author, time and reason."""
    how = "aborted" if block.kind is BlockKind.ABORTED else "rolled back"
    cause = f"{how} {decided(block)}"
    return f"has the bytes of {version_of(block.adapter)}, which was {cause}"


def given_up(alias: str, target: str) -> str:
    """Say that a rollout ended without a verdict."""
    return (
        f"{version_of(target)} gets no traffic: its gates could not tell in the time they "
        f"had. To roll it out again: fleetctl release {alias}"
    )


def void(mark: RolloutMark) -> str:
    """Say that a person's mark on a stage counts no more."""
    said = "approval" if mark.mark == "approve" else mark.mark
    since = time(mark.void) if mark.void else ""
    return (
        f" (the {said} by {mark.by} of {time(mark.at)} counts no more: since {since} the stage is "
        "judged anew, for its engine, base, golden set or bytes have changed)"
    )


def halted(at: str, mark: RolloutMark) -> str:
    """Name the author and the end of a halt; `at` begins the sentence."""
    reason = f" ({mark.reason})" if mark.reason else ""
    if mark.until is not None:
        return f"{at}: paused by {mark.by} until {time(mark.until)}{reason}, then it goes on"
    return f"{at}: held by {mark.by} since {time(mark.at)}{reason}"


def open_gates(judged: Iterable[GateResult]) -> str:
    """Say which gates do not let a version go on, and why."""
    found = [result for result in judged if not result.passed]
    bare = [
        result.gate.name for result in found if result.status == NO_EVIDENCE and not result.void
    ]
    said = [f"{NO_EVIDENCE} for gate {', '.join(bare)}"] if bare else []
    said += [f"{NO_EVIDENCE} for gate {e.gate.name}, which was {e.detail}" for e in found if e.void]
    said += [
        f"gate {result.gate.name} is {result.status} ({result.detail})"
        for result in found
        if result.status != NO_EVIDENCE
    ]
    return "; ".join(said)


def decide(alias: str, *, begun: bool = True) -> str:
    """Say how a person decides; time helps only a version that has traffic."""
    ways = "approve|advance|extend|abort" if begun else "approve|advance|abort"
    return f"Decide: fleetctl rollout {ways} {alias}"
