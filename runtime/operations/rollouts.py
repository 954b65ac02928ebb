"""Show the rollouts of aliases, and write down a person's marks on rollouts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from fleet.errors import FleetError, did_you_mean
from fleet.history import Entry, History, RolloutMarked, data_of, settled, tried_versions
from fleet.names import version_of
from fleet.resources import FULL
from fleet.rollouts import AliasTarget, decide_rollouts
from fleet.spec import FleetSpec
from runtime.workspace import Workspace

ONWARD: Final = ("approve", "advance", "extend")
"""Marks that wait for the end of a hold or a pause."""
Describe = Callable[
    [FleetSpec, Mapping[str, AliasTarget], History, Mapping[str, Any]], list[dict[str, Any]]
]
"""Makes the documents of rollouts from fleet, decisions, history and live routes."""


@dataclass(frozen=True, slots=True)
class MarkedRollout:
    """A mark that was written down."""

    rollout: Mapping[str, Any]
    """Document of the rollout before the mark."""
    record: Mapping[str, Any]
    """Data of the ledger's entry."""
    lines: tuple[str, ...]
    """Consequences of the mark, a sentence a line."""


def rollout_documents(workspace: Workspace, describe: Describe) -> list[dict[str, Any]]:
    """Return the state of every alias's rollout; the servers are asked."""
    fleet, live = workspace.fleet(), workspace.observe()
    history = settled(workspace.history(), live)
    decided = decide_rollouts(fleet, live, history, workspace.now())
    return describe(fleet, decided.wanted, history, live.routes())


def rollout_document(workspace: Workspace, describe: Describe, alias: str) -> Mapping[str, Any]:
    """Return the state of an alias's rollout.

    Raises:
        FleetError: FC5132, the alias is not declared.
    """
    found = {rollout["alias"]: rollout for rollout in rollout_documents(workspace, describe)}
    if alias not in found:
        near = did_you_mean(alias, sorted(found))
        raise FleetError.of(
            "FC5132",
            "No such rollout",
            f"`{alias}` is not declared.",
            hint=near,
            command="fleetctl rollout list --all",
        )
    return found[alias]


def pause_rollout(
    workspace: Workspace,
    describe: Describe,
    alias: str,
    length: timedelta | None,
    end: datetime | None,
    reason: str,
) -> MarkedRollout:
    """Pause a rollout: no stage goes up for a `length` of time, or until an `end`.

    Raises:
        FleetError: FC5136, the pause would be over already.
    """
    now = workspace.now()
    until = now + length if length is not None else end
    if until is None or until <= now:
        raise FleetError.of(
            "FC5136",
            "The pause would be over already",
            f"It is {now:%Y-%m-%d %H:%M} UTC, and the pause of `{alias}` would end before.",
            hint="Give a time ahead; one without a zone is UTC.",
            command=f"fleetctl rollout pause {alias} --for 4h",
        )
    then = (
        f"stays where it is until {until.astimezone(UTC):%Y-%m-%d %H:%M} UTC and then goes on by "
        f"itself; before that: fleetctl rollout resume {alias}"
    )
    return mark_rollout(workspace, describe, alias, "pause", reason, then, until)


def mark_rollout(
    workspace: Workspace,
    describe: Describe,
    alias: str,
    word: str,
    reason: str,
    then: str,
    until: datetime | None = None,
) -> MarkedRollout:
    """Write down a person's mark on the declared version; return the mark and its consequences.

    An abort is of the version that is half-way, also where the file asks for another by now.

    `word`: the mark, such as `hold`. `then`: the consequence for the version, as a sentence without
    its subject. `until`: end of a pause.

    Raises:
        FleetError: FC5133, the rollout is complete; FC5135, the version is kept out; FC5152, no
            server holds the version.
    """
    found = rollout_document(workspace, describe, alias)
    if word == "abort" and found["half_way"]:
        version = version_of(found["half_way"])
        found = {**found, "adapter": found["half_way"], "version": version, "released": True}
        found |= {"percent": found["shares"][version], "phase": "waiting"}
    soaks = word == "abort" and found["phase"] == "soaking"
    if found["percent"] == FULL and not soaks:
        raise FleetError.of(
            "FC5133",
            "The rollout is complete",
            f"{found['version']} answers all requests of `{alias}`; there is no stage to {word}.",
            hint="To go back to the version before:",
            command=f"fleetctl rollback {alias}",
        )
    if not found["released"]:
        raise FleetError.of(
            "FC5135",
            "The version is kept out",
            f"{found['waits_for'] or found['next']}.",
            command=f"fleetctl release {alias}",
        )
    if word in ONWARD:
        _require_loaded(workspace, alias, found)
    facts = workspace.fleet().versions.get(found["adapter"])
    digest = facts.digest if facts else None
    event = RolloutMarked(alias, found["adapter"], word, reason, until, digest)
    workspace.ledger().append([event])
    lines = [f"{alias}: {found['version']} {then}."]
    if found["phase"] == "doubted" and word in ONWARD:
        lines.append(f"Not while it is doubted: {found['waits_for']}.")
    if found["phase"] == "paused" and word in ONWARD:
        resume = f"before that: fleetctl rollout resume {alias}"
        lines.append(f"Not while it stands still: {found['waits_for']}; {resume}")
    if word == "pause" and any(mark["mark"] == "hold" for mark in found["marks"]):
        lines.append(f"{alias}: it is held as well, which lasts until it is resumed.")
    return MarkedRollout(found, data_of(event), tuple(lines))


def _require_loaded(workspace: Workspace, alias: str, found: Mapping[str, Any]) -> None:
    """Refuse to promote a version that no server holds: its answers cannot have been read.

    Raises:
        FleetError: FC5152. A server that does not answer may hold it.
    """
    live = workspace.observe()
    loaded = {adapter.adapter for adapter in live.adapters().values()}
    if found["adapter"] in loaded or live.unknown_servers:
        return
    raise FleetError.of(
        "FC5152",
        "The version of the rollout is not loaded",
        f"No server holds {found['version']} of `{alias}`, so no answer of it has been read.",
        hint="Load it first, which gives it no traffic that its gates do not allow; then say "
        "it again.",
        command="fleetctl apply",
    )


def last_tried(entries: Sequence[Entry], alias: str, version: str | None) -> str:
    """Return the full name of the version tried last, or of the given version."""
    tried = tried_versions(entries, alias)
    fitting = [name for name in tried if version in (None, version_of(name))]
    if not fitting:
        which = f"{version} of `{alias}`" if version else f"`{alias}`"
        raise FleetError.of(
            "FC5134",
            "Nothing to report",
            f"The ledger knows of no rollout of {which}.",
            command="fleetctl evidence list",
        )
    return fitting[-1]
