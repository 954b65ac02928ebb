"""Retrain adapters of a project: list the due ones; claim, train, add and declare a version."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from fleet.errors import FleetError
from fleet.evals import eval_records
from fleet.history import Claim, Entry, RetrainFinished
from fleet.names import AdapterName, Version
from fleet.rules import due_retrainings, next_version, standing_claim
from fleet.spec import AdapterSpec
from runtime.files import write_text
from runtime.operations.change.deploy import version_change
from runtime.project.facts import read_lock
from runtime.project.known_base import known_base
from runtime.project.load import library_folder
from runtime.training import Training, claim, one_training, prolonged, release, train, unfinished
from runtime.workspace import Workspace

URGENT: Final = frozenset({"overdue", "due", "ad hoc"})
"""Turns that are work for people."""


def retraining_documents(workspace: Workspace) -> list[dict[str, Any]]:
    """Return the retraining state of every adapter, the most urgent first."""
    entries, now = workspace.ledger.open().standing(), workspace.now()
    fleet, claims = workspace.project.fleet(), workspace.ledger.history().claims
    return [
        {
            "alias": due.alias,
            "adapter": due.adapter,
            "turn": due.urgency.value,
            "reason": due.reason,
            "trained": due.trained.isoformat(timespec="seconds") if due.trained else None,
            "next": due.next.isoformat(timespec="seconds") if due.next else None,
            "claim": {
                "by": due.claim.by,
                "until": due.claim.until.isoformat(timespec="seconds"),
                "reason": due.claim.reason,
            }
            if due.claim
            else None,
        }
        for due in due_retrainings(fleet, entries, eval_records(entries), claims, now)
    ]


async def retrain(
    workspace: Workspace,
    alias: str,
    version: Version | None,
    *,
    reason: str,
    lasts: timedelta,
    declare: bool,
    report: Callable[[str], None],
) -> dict[str, Any]:
    """Claim, train, add and declare the next version of an alias.

    Raises:
        FleetError: another person claimed it, no command is declared, or the command failed.
    """
    adapter = workspace.project.fleet().adapters[alias]
    if not adapter.retrain:
        detail = f"`{alias}` declares none, and neither do the defaults."
        hint = (
            'Declare it as a list: retrain: [python, train.py, "{alias}", "{version}", '
            '--out, "{folder}"].'
        )
        raise FleetError.of("FC6713", "No training command", detail, hint=hint)

    ledger, by = workspace.ledger.open(), workspace.by

    def take() -> Claim:
        return claim(ledger, alias, by=by, reason=reason, lasts=lasts, now=workspace.now())

    with one_training(workspace.state_dir / "retrain", alias) as lock:
        name, digest = await _train(workspace, adapter, version, lock, lasts, take, report)
        where = declare_version(workspace, name) if declare else ""
        try:
            release(ledger, alias, by=by, reason=f"trained {name}", now=workspace.now())
        except FleetError as error:  # the trained version is there all the same
            report(f"Warning: {name} was added; {error.diagnostics[0].detail}")
    return {"alias": alias, "adapter": str(name), "digest": digest, "declared_in": where}


async def _train(
    workspace: Workspace,
    adapter: AdapterSpec,
    version: Version | None,
    lock: int,
    lasts: timedelta,
    take: Callable[[], Claim],
    report: Callable[[str], None],
) -> tuple[AdapterName, str]:
    """Train a version, unless a run before did; return its name and the digest of its bytes."""
    ledger, adapters = workspace.ledger.open(), read_lock(workspace.root).adapters
    entries = ledger.read()
    begun = unfinished(entries, adapter.alias)
    if version is not None:
        name = replace(adapter.name, version=version)
    elif begun is not None:
        name = AdapterName.parse(begun)
    else:
        name = next_version(adapter.alias, adapter.name.base, list(adapters))
    locked = adapters.get(str(name))
    if locked is not None and str(name) != begun:
        detail = f"`{name}` is in fleet.lock; a version is trained once."
        hint = "Leave --version out for the next one."
        raise FleetError.of("FC6714", "The version exists already", detail, hint=hint)
    folder = workspace.state_dir / "retrain" / str(name)
    if version is None and locked is None:
        _require_here(workspace, entries, name, folder)
    training = Training(name, adapter, workspace.root, folder, lock)
    command = " ".join(training.filled())
    take()
    if locked is not None:
        # The run before was interrupted once the version was in the library.
        ledger.append([RetrainFinished(name.alias, str(name), locked.digest)])
        return name, locked.digest
    report(f"training {name}: {command}")
    base = known_base(workspace.root, workspace.environment, workspace.variables, name.base)
    longer = asyncio.create_task(prolonged(take, lasts.total_seconds() / 3))
    try:
        added = await train(training, ledger, base, library_folder(workspace.root), report)
    finally:
        longer.cancel()
        await asyncio.wait([longer])
    return name, added.facts.digest


def _require_here(
    workspace: Workspace, entries: Sequence[Entry], name: AdapterName, folder: Path
) -> None:
    """Refuse a version that another checkout trains, or has trained.

    Raises:
        FleetError: FC6710, it trains the version while its claim stands; FC6714, it has trained it.
    """
    ended = (entry.event for entry in entries if isinstance(entry.event, RetrainFinished))
    if any(event.adapter == str(name) for event in ended):
        detail = f"`{name}` was trained in another checkout, and `fleet.lock` here lacks it."
        hint = "Bring its files and fleet.lock here, or name another version by --version."
        raise FleetError.of("FC6714", "The version exists already", detail, hint=hint)
    found = standing_claim(workspace.ledger.history().claims, name.alias, workspace.now())
    if found and unfinished(entries, name.alias) == str(name) and not folder.exists():
        detail = (
            f"`{name}` is being trained by {found.by} in another checkout, by a claim until "
            f"{found.until:%Y-%m-%d %H:%M} UTC."
        )
        hint = "Wait for it. If it was killed, the claim ends by itself, or now by this:"
        command = f"fleetctl retrain release {name.alias} --force --reason TEXT"
        raise FleetError.of(
            "FC6710", "Another person is retraining it", detail, hint=hint, command=command
        )


def declare_version(workspace: Workspace, name: AdapterName) -> str:
    """Declare a version in place of the present version; return the file that was changed.

    Empty where there is no plain scalar to change.
    """
    change = version_change(workspace.root, workspace.project.fleet(), name)
    if change is None:
        return ""
    write_text(workspace.root / change.file, change.after)
    return change.file
