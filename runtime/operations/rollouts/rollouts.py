"""Show the rollouts of aliases, and write down a person's marks on rollouts."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from fleet.errors import FleetError, did_you_mean
from fleet.history import (
    Entry,
    Frozen,
    RolloutMarked,
    Thawed,
    data_of,
    frozen_fleet,
    settled,
    tried_versions,
)
from fleet.names import version_of
from fleet.plan import Freeze
from fleet.rollouts import (
    ONWARD,
    AliasTarget,
    MarkRefusal,
    Phase,
    RolloutStatus,
    decide_rollouts,
    rollout_statuses,
)
from runtime.messages import FailureMessage
from runtime.workspace import Call, LedgerContext, MachinesContext, Workspace


def require_thawed(ledger: LedgerContext, stopped: str) -> None:
    """Refuse work while the fleet is frozen; `stopped` is a clause without its full stop.

    Raises:
        FrozenError: FC6067, the fleet is frozen.
    """
    if (freeze := ledger.history().freeze) is not None:
        raise frozen_fleet(freeze, stopped)


def freeze_fleet(ledger: LedgerContext, reason: str) -> Freeze:
    """Freeze the fleet, also while an apply runs, which stops before its next step.

    Raises:
        FleetError: FC6068, the fleet is frozen already, with another reason.
    """
    before = ledger.history().freeze
    if before is not None:
        raise FleetError.of(
            "FC6068",
            "The fleet is frozen already",
            f"{before.by} froze it at {before.at:%Y-%m-%d %H:%M} UTC: {before.reason}. This reason "
            "was not written down, and the first thaw would end both.",
            hint="Agree with them when to thaw. The fleet stays frozen until:",
            command="fleetctl thaw",
        )
    ledger.open().append([Frozen(reason)])
    after = ledger.history().freeze
    assert after is not None, "the entry was written"
    return after


def thaw_fleet(ledger: LedgerContext, reason: str) -> Freeze | None:
    """End the freeze; None: the fleet was not frozen, and nothing was written."""
    before = ledger.history().freeze
    if before is not None:
        ledger.open().append([Thawed(reason)])
    return before


def report_frozen(call: Call, freeze: Freeze, held: Collection[str]) -> int:
    """Report a freeze and the rollouts held by the freeze; return the exit code."""
    if not held:
        since = f"{freeze.at:%Y-%m-%d %H:%M} UTC by {freeze.by}: {freeze.reason}"
        call.inform(f"The fleet is frozen since {since}. No rollout is due.")
        return 0
    stopped = f"Rollouts that would be promoted now stay: {', '.join(sorted(held))}"
    refusal = frozen_fleet(freeze, stopped)
    call.emit(FailureMessage(refusal.diagnostics))
    return refusal.exit_code


UPWARD: Final = ("approve", "advance")
"""Marks that give a version more traffic than its gates alone."""
CONSEQUENCES: Final[Mapping[str, str]] = {
    "hold": "stays where it is; to let it go on: fleetctl rollout resume {alias}",
    "resume": "goes on when its stage allows",
    "approve": "leaves this stage when it has baked",
    "extend": "has as much time again",
    "advance": "goes on with the next apply or reconcile",
    "abort": "gets no more traffic",
}
"""Consequences for the version by mark, as a sentence without its subject."""


@dataclass(frozen=True, slots=True)
class MarkedRollout:
    """A mark that was written down."""

    status: RolloutStatus
    """The rollout before the mark, of the version that is marked."""
    record: Mapping[str, Any]
    """Data of the ledger's entry."""
    lines: tuple[str, ...]
    """Consequences of the mark, a sentence a line."""


def all_rollouts(workspace: Workspace) -> dict[str, RolloutStatus]:
    """Return the rollout of every alias; the servers are asked."""
    fleet, live = workspace.project.fleet(), workspace.machines.observe()
    history = settled(workspace.ledger.history(), live)
    decided = decide_rollouts(fleet, live, history, workspace.now())
    return rollout_statuses(fleet, decided.wanted, history, live.routes())


def rollout_of(workspace: Workspace, alias: str) -> RolloutStatus:
    """Return the rollout of an alias.

    Raises:
        FleetError: FC5132, the alias is not declared.
    """
    found = all_rollouts(workspace)
    if alias not in found:
        near = did_you_mean(alias, sorted(found))
        detail = f"`{alias}` is not declared."
        command = "fleetctl rollout list --all"
        raise FleetError.of("FC5132", "No such rollout", detail, hint=near, command=command)
    return found[alias]


def pause_rollout(
    workspace: Workspace, alias: str, length: timedelta | None, end: datetime | None, reason: str
) -> MarkedRollout:
    """Pause a rollout: no stage goes up for a `length` of time, or until an `end`.

    Raises:
        FleetError: FC5136, the pause would be over already.
    """
    now = workspace.now()
    until = now + length if length is not None else end
    if until is None or until <= now:
        detail = f"It is {now:%Y-%m-%d %H:%M} UTC, and the pause of `{alias}` would end before."
        hint = "Give a time ahead; one without a zone is UTC."
        command = f"fleetctl rollout pause {alias} --for 4h"
        raise FleetError.of(
            "FC5136", "The pause would be over already", detail, hint=hint, command=command
        )
    then = (
        f"stays where it is until {until.astimezone(UTC):%Y-%m-%d %H:%M} UTC and then goes on by "
        f"itself; before that: fleetctl rollout resume {alias}"
    )
    return mark_rollout(workspace, alias, "pause", reason, then, until)


def mark_rollout(
    workspace: Workspace,
    alias: str,
    word: str,
    reason: str,
    then: str = "",
    until: datetime | None = None,
) -> MarkedRollout:
    """Write down a person's mark on the declared version; return the mark and its consequences.

    `word`: the mark, such as `hold`. `then`: the consequence for the version, as a sentence without
    its subject; empty: that of the mark. `until`: end of a pause.

    Raises:
        FrozenError: FC6067, the fleet is frozen, and the mark would promote the rollout.
        FleetError: FC5133, the rollout is complete; FC5135, the version is kept out; FC5137, there
            is no stage to extend; FC5152, no server holds the version.
    """
    if word in UPWARD:
        require_thawed(workspace.ledger, f"The {word} of `{alias}` was not written down")
    status = rollout_of(workspace, alias).for_mark(word)
    target, version = status.target, version_of(status.target.target)
    waits = str(target.note or target.why)
    match status.refusal(word):
        case MarkRefusal.COMPLETE:
            detail = f"{version} answers all requests of `{alias}`; there is no stage to {word}."
            hint = "To go back to the version before:"
            command = f"fleetctl rollback {alias}"
            raise FleetError.of(
                "FC5133", "The rollout is complete", detail, hint=hint, command=command
            )
        case MarkRefusal.KEPT_OUT:
            command = f"fleetctl release {alias}"
            raise FleetError.of("FC5135", "The version is kept out", f"{waits}.", command=command)
        case None:
            pass
    if word == "extend" and not status.percent:
        raise FleetError.of(
            "FC5137",
            "There is no stage to extend",
            f"{version} of `{alias}` has no traffic yet, and a golden set says the same tomorrow.",
            hint="Start the rollout regardless, or abort it:",
            command=f"fleetctl rollout approve {alias}",
        )
    if word in ONWARD:
        _require_loaded(workspace.machines, target)
    facts = workspace.project.fleet().versions.get(target.target)
    digest = facts.digest if facts else None
    event = RolloutMarked(alias, target.target, word, reason, until, digest)
    workspace.ledger.open().append([event])
    then = then or CONSEQUENCES[word].format(alias=alias)
    lines = [f"{alias}: {version} {then}."]
    if target.phase is Phase.DOUBTED and word in ONWARD:
        lines.append(f"Not while it is doubted: {waits}.")
    if target.phase is Phase.PAUSED and word in ONWARD:
        resume = f"before that: fleetctl rollout resume {alias}"
        lines.append(f"Not while it stands still: {waits}; {resume}")
    if word == "pause" and "hold" in status.marks:
        lines.append(f"{alias}: it is held as well, which lasts until it is resumed.")
    return MarkedRollout(status, data_of(event), tuple(lines))


def _require_loaded(machines: MachinesContext, target: AliasTarget) -> None:
    """Refuse to promote a version that no server holds: its answers cannot have been read.

    Raises:
        FleetError: FC5152. A server that does not answer may hold it.
    """
    live = machines.observe()
    loaded = {adapter.adapter for adapter in live.adapters().values()}
    if target.target in loaded or live.unknown_servers:
        return
    raise FleetError.of(
        "FC5152",
        "The version of the rollout is not loaded",
        f"No server holds {version_of(target.target)} of `{target.alias}`, so no answer of it has "
        "been read.",
        hint="Load it first, which gives it no traffic that its gates do not allow; then say "
        "it again.",
        command="fleetctl apply --auto",
    )


def last_tried(entries: Sequence[Entry], alias: str, version: str | None) -> str:
    """Return the full name of the version tried last, or of the given version."""
    tried = tried_versions(entries, alias)
    fitting = [name for name in tried if version in (None, version_of(name))]
    if not fitting:
        which = f"{version} of `{alias}`" if version else f"`{alias}`"
        detail = f"The ledger knows of no rollout of {which}."
        raise FleetError.of("FC5134", "Nothing to report", detail, command="fleetctl evidence list")
    return fitting[-1]
