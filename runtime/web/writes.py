"""Carry out a write by click: the same operations as the command line, after a confirmation."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from fleet.names import version_of
from runtime.gateway.control.control import LocalGateways
from runtime.messages import FailureMessage, Message
from runtime.operations.rollouts.rollback import check_fallbacks, notify_rollback, roll_back
from runtime.operations.rollouts.rollouts import CONSEQUENCES, mark_rollout
from runtime.rollback.publish import choose_target, entry_of
from runtime.rollback.rollback import RollbackRequest
from runtime.workspace import Workspace

ROLLBACK: Final = "rollback"
ACTIONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        ROLLBACK: "Roll back",
        "hold": "Hold at this share",
        "resume": "Resume",
        "approve": "Approve this stage",
        "extend": "Extend this stage",
    }
)
"""Label by action; all but the rollback are marks of a person on a rollout."""


@dataclass(frozen=True, slots=True)
class Confirmation:
    """The consequences of a write, shown before the write."""

    action: str
    label: str
    alias: str
    lines: tuple[str, ...]
    to: str = ""
    """Version that gets all requests; empty: no traffic moves at once."""
    command: str = ""
    """The same by command line."""


@dataclass(frozen=True, slots=True)
class WriteOutcome:
    """The outcome of a write."""

    complete: bool
    lines: tuple[str, ...]


def confirm(workspace: Workspace, action: str, alias: str) -> Confirmation:
    """Return the consequences of a write.

    Raises:
        FleetError: there is no such alias, or no version to go back to.
    """
    label = ACTIONS[action]
    if action != ROLLBACK:
        then = CONSEQUENCES[action].format(alias=alias)
        command = f"fleetctl rollout {action} {alias}"
        return Confirmation(action, label, alias, (f"The declared version {then}.",), "", command)
    return asyncio.run(_confirm_rollback(workspace, alias, label))


async def _confirm_rollback(workspace: Workspace, alias: str, label: str) -> Confirmation:
    outbox = workspace.ledger.outbox()
    async with LocalGateways(workspace.state_dir, envoys=workspace.machines.envoys()) as gateways:
        table, _ = await gateways.read_table()
    entry = entry_of(table, alias)

    target = choose_target(
        alias, entry, None, lambda names: check_fallbacks(workspace, outbox, alias, names)
    )
    to = version_of(target.adapter)
    now = ", ".join(
        f"{version_of(share.adapter)} {share.percent} %" for share in entry.shares if share.percent
    )
    moved = 100 - target.percent
    lines = (
        f"Now {now} of the requests of {alias}.",
        f"{to} gets all requests: {moved} % of them move, within a second.",
        f"Newer versions stay loaded and get no traffic until: fleetctl release {alias}",
    )
    return Confirmation(ROLLBACK, label, alias, lines, to, f"fleetctl rollback {alias} --to {to}")


def write(
    workspace: Workspace, by: str, action: str, alias: str, to: str, reason: str
) -> WriteOutcome:
    """Carry out a write as a person; the ledger names the person.

    Raises:
        FleetError: the write was refused; nothing was changed.
    """
    said: list[str] = []

    def note(message: Message | FailureMessage) -> None:
        if isinstance(message, Message):
            said.append(message.text)
        else:
            said.extend(f"{problem.summary}: {problem.detail}" for problem in message.diagnostics)

    its = replace(workspace, emit=note, author=by)
    if action == ROLLBACK:
        written = asyncio.run(_roll_back(its, alias, to, reason))
    else:
        written = WriteOutcome(complete=True, lines=mark_rollout(its, alias, action, reason).lines)
    return replace(written, lines=(*written.lines, *said))


async def _roll_back(workspace: Workspace, alias: str, to: str, reason: str) -> WriteOutcome:
    result = await roll_back(workspace, RollbackRequest(alias, to, reason))
    told = await notify_rollback(workspace, result)
    next_line = (f"Next: {result.next}",) if result.next else ()
    lines = (result.sentence, *result.failures, *result.warnings, *told, *next_line)
    return WriteOutcome(result.complete, lines)
