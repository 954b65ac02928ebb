"""Retraining in a project, wired up."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from fleet.config import parse_duration, set_value
from fleet.errors import FleetError, problem
from fleet.evals import eval_records
from fleet.history import fold_entries
from fleet.maintenance import due_retrainings, next_version
from fleet.names import AdapterName, Version
from fleetctl.session import Session

if TYPE_CHECKING:
    from fleet.history import Claim

URGENT = frozenset({"overdue", "due", "ad hoc"})
"""Turns that somebody should see to."""


def duration(text: str) -> timedelta:
    """Read `3d`.

    Raises:
        click.UsageError: another form.
    """
    try:
        return parse_duration(text)
    except Exception as error:
        raise click.UsageError(f"--for takes a duration such as 3d: {text!r}.") from error


def turns(session: Session) -> list[dict[str, Any]]:
    """Return every adapter's turn as documents, the most urgent first."""
    entries = session.ledger().read()
    found = due_retrainings(
        session.fleet(), entries, eval_records(entries), fold_entries(entries).claims, session.now()
    )
    return [
        {
            "alias": each.alias,
            "adapter": each.adapter,
            "turn": each.turn.value,
            "reason": each.reason,
            "trained": each.trained.isoformat(timespec="seconds") if each.trained else None,
            "next": each.next.isoformat(timespec="seconds") if each.next else None,
            "claim": {
                "by": each.claim.by,
                "until": each.claim.until.isoformat(timespec="seconds"),
                "reason": each.claim.reason,
            }
            if each.claim
            else None,
        }
        for each in found
    ]


async def trained(
    session: Session,
    alias: str,
    version: str | None,
    *,
    reason: str,
    lasts: str,
    declare: bool,
    tell: Callable[[str], None],
) -> dict[str, Any]:
    """Claim, train, add and declare the next version of an alias.

    Raises:
        FleetError: somebody else has claimed it, no command is declared, or it failed.
    """
    from runtime.training_process import one_training  # noqa: PLC0415 (keeps small commands fast)

    adapter = session.fleet().adapters[alias]
    if not adapter.retrain:
        raise FleetError(
            problem(
                "FC6713",
                "No training command",
                f"`{alias}` declares none, and neither do the defaults.",
                hint='Declare it as a list: retrain: [python, train.py, "{alias}", "{version}", '
                '--out, "{folder}"].',
            )
        )
    with one_training(session.state_dir / "retrain", alias) as held:
        return await _trained(
            session, alias, version, held, reason=reason, lasts=duration(lasts), declare=declare,
            tell=tell,
        )  # fmt: skip


async def _trained(
    session: Session,
    alias: str,
    version: str | None,
    held: int,
    *,
    reason: str,
    lasts: timedelta,
    declare: bool,
    tell: Callable[[str], None],
) -> dict[str, Any]:
    """Do it, while this machine's training of the alias is ours."""
    from fleetctl.known_base import known_base  # noqa: PLC0415
    from runtime.project.facts import read_lock  # noqa: PLC0415 (keeps small commands fast)
    from runtime.training import (  # noqa: PLC0415
        Training,
        claim,
        prolonged,
        release,
        train,
        unfinished,
        went_on,
    )

    adapter = session.fleet().adapters[alias]
    ledger, by = session.ledger(), session.by
    lock = read_lock(session.root)
    begun = unfinished(ledger.read(), alias)
    name = _name(adapter.name, version, list(lock.adapters), begun)
    locked = lock.adapters.get(str(name))
    if locked is not None and str(name) != begun:
        raise FleetError(
            problem(
                "FC6714",
                "The version exists already",
                f"`{name}` is in fleet.lock; a version is trained once.",
                hint="Leave --version out for the next one.",
            )
        )
    folder = session.state_dir / "retrain" / str(name)
    training = Training(
        name, adapter.name, adapter.retrain, adapter.golden or "", session.root, folder, held
    )
    shown = " ".join(training.filled())

    def take() -> "Claim":
        return claim(session.ledger(), alias, by=by, reason=reason, lasts=lasts, now=session.now())

    take()
    if locked is not None:
        digest = locked.digest
        went_on(ledger, name, digest)
    else:
        tell(f"training {name}: {shown}")
        base = known_base(session, name.base)
        longer = asyncio.create_task(prolonged(take, lasts.total_seconds() / 3))
        try:
            added = await train(training, ledger, base, session.library, tell)
        finally:
            longer.cancel()
            await asyncio.wait([longer])
        digest = added.facts.digest
    where = declare_version(session, name) if declare else ""
    try:
        release(ledger, alias, by=by, reason=f"trained {name}", now=session.now())
    except FleetError as error:  # what was trained is there all the same
        tell(f"Warning: {name} was added; {error.diagnostics[0].detail}")
    return {"alias": alias, "adapter": str(name), "digest": digest, "declared_in": where}


def _name(
    current: AdapterName, version: str | None, locked: list[str], begun: str | None
) -> AdapterName:
    if version is not None:
        try:
            number = Version.parse(version.removeprefix("v"))
        except ValueError as error:
            raise click.UsageError(str(error)) from None
        return AdapterName(current.client, current.task, current.base, number)
    if begun is not None:
        return AdapterName.parse(begun)
    return next_version(current.alias, current.base, locked)


def declare_version(session: Session, name: AdapterName) -> str:
    """Ask for a version where the declarations name the present one.

    Returns:
        The file that was changed; empty where there is no plain scalar to change.
    """
    from runtime.files import read_text, write_text  # noqa: PLC0415

    path = ("clients", name.client, "adapters", name.task, "version")
    file = session.fleet().origin(*path).rpartition(":")[0].rpartition(":")[0]
    if not file:
        return ""
    target = session.root / file
    made = set_value(read_text(target), file, path, str(name.version))
    if made is None:
        return ""
    write_text(target, made)
    return file
