"""Retraining: claims an alias, runs the training command, adds the result to the library.

Interrupted at any point it is run again: the training begins anew for the same version, and a
version that is in the library already is not trained twice.
"""

import asyncio
import shutil
import string
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from fleet.errors import FleetError
from fleet.history import (
    Claim,
    Entry,
    RetrainClaimed,
    RetrainFinished,
    RetrainReleased,
    RetrainStarted,
    fold_entries,
)
from fleet.maintenance import standing_claim
from fleet.names import AdapterName
from runtime.ledger.protocol import Ledger
from runtime.library.add import AddedVersion, KnownBase, add
from runtime.library.layout import SERVED_FILES
from runtime.training_process import run_trainer

PLACES = ("alias", "client", "task", "base", "version", "current", "golden", "folder")


def claim(
    ledger: Ledger, alias: str, *, by: str, reason: str, lasts: timedelta, now: datetime
) -> Claim:
    """Take an alias on for retraining; one's own claim is prolonged.

    Two people who claim at the same moment both write; the first line in the ledger counts.

    Raises:
        FleetError: FC6710, another person holds the claim; the error names the person and the end.
    """
    _refuse_others(standing_claim(fold_entries(ledger.read()).claims, alias, now), alias, by)
    until = (now + lasts).replace(microsecond=0)
    ledger.append([RetrainClaimed(alias, by, until, reason)])
    found = fold_entries(ledger.read()).claims[alias]
    _refuse_others(found, alias, by)
    return found


async def prolonged(take: Callable[[], Claim], every: float) -> None:
    """Claim again every so many seconds, until cancelled.

    What stands against it (a ledger that is away, another person's claim) ends no training.
    """
    while True:
        await asyncio.sleep(every)
        with suppress(FleetError, OSError):
            await asyncio.to_thread(take)


def release(
    ledger: Ledger, alias: str, *, by: str, reason: str, now: datetime, force: bool = False
) -> Claim | None:
    """Give a claim back; None: there was none.

    Raises:
        FleetError: FC6710, the claim is another person's, and `force` is not given.
    """
    found = standing_claim(fold_entries(ledger.read()).claims, alias, now)
    if found is None:
        return None
    if not force:
        _refuse_others(found, alias, by)
    ledger.append([RetrainReleased(alias, by, found.until, reason)])
    return found


def _refuse_others(found: Claim | None, alias: str, by: str) -> None:
    if found is None or found.by == by:
        return
    why = f": {found.reason}" if found.reason else ""
    raise FleetError.of(
        "FC6710",
        "Somebody else is retraining it",
        f"`{alias}` is claimed by {found.by} until {found.until:%Y-%m-%d %H:%M} UTC{why}.",
        hint="Talk to them; two trainings of one adapter waste one. The claim ends by itself.",
        command=f"fleetctl retrain release {alias} --force --reason TEXT",
    )


def unfinished(entries: Sequence[Entry], alias: str) -> str | None:
    """Return the version whose training was begun and not ended, if there is one."""
    found: str | None = None
    for entry in entries:
        match entry.event:
            case RetrainStarted(alias=its, adapter=adapter) if its == alias:
                found = adapter
            case RetrainFinished(alias=its) if its == alias:
                found = None
            case _:
                pass
    return found


def went_on(ledger: Ledger, name: AdapterName, digest: str) -> None:
    """Write down that a training had ended when the run that began it was interrupted."""
    ledger.append([RetrainFinished(name.alias, str(name), digest)])


@dataclass(frozen=True, slots=True)
class Training:
    """What is trained by what, and where everything lies."""

    name: AdapterName
    current: AdapterName
    command: tuple[str, ...]
    golden: str
    root: Path
    folder: Path
    """Where the command leaves the adapter; emptied before it starts."""
    lock: int
    """Of `one_training`, which the trainer holds as well."""

    def filled(self) -> list[str]:
        """Return the command with its placeholders filled in.

        Raises:
            FleetError: FC6711, it has a placeholder that there is not.
        """
        values = {
            "alias": self.name.alias, "client": self.name.client, "task": self.name.task,
            "base": self.name.base, "version": str(self.name.version),
            "current": str(self.current.version), "golden": self.golden,
            "folder": str(self.folder.absolute()),
        }  # fmt: skip
        try:
            parts = [field for part in self.command for field in string.Formatter().parse(part)]
            unknown = sorted({name for _, name, _, _ in parts if name is not None} - set(values))
        except ValueError as error:
            unknown = [str(error)]
        if unknown:
            raise FleetError.of(
                "FC6711",
                "The training command cannot be filled in",
                f"`{{{unknown[0]}}}` is no placeholder of `retrain`.",
                hint=f"It may name {', '.join(f'{{{place}}}' for place in PLACES)}.",
            )
        return [part.format(**values) for part in self.command]


async def train(
    training: Training,
    ledger: Ledger,
    base: KnownBase,
    library: Path,
    tell: Callable[[str], None],
    seconds: Callable[[], float] = time.monotonic,
) -> AddedVersion:
    """Run the training command and add what it made to the library and the lock.

    Raises:
        FleetError: FC6712 the command failed or left no adapter.
        LibraryError: what it left must not be served.
    """
    name = str(training.name)
    began = seconds()
    ledger.append([RetrainStarted(training.name.alias, name, tuple(training.command))])
    shutil.rmtree(training.folder, ignore_errors=True)
    training.folder.mkdir(parents=True)
    await _run(training, tell, seconds)
    missing = [file for file in SERVED_FILES if not (training.folder / file).is_file()]
    if missing:
        raise _failed(training, f"left no `{missing[0]}` in {training.folder}")
    added = await asyncio.to_thread(
        add, training.folder, training.name, base, library, training.root
    )
    took = round(seconds() - began, 1)
    ledger.append([RetrainFinished(training.name.alias, name, added.facts.digest, took)])
    shutil.rmtree(training.folder, ignore_errors=True)
    return added


async def _run(
    training: Training, tell: Callable[[str], None], seconds: Callable[[], float]
) -> None:
    try:
        code = await run_trainer(training.filled(), training.root, training.lock, tell, seconds)
    except OSError as error:
        raise _failed(training, f"cannot be started: {error.strerror}") from None
    if code:
        raise _failed(training, f"ended with exit code {code}")


def _failed(training: Training, why: str) -> FleetError:
    return FleetError.of(
        "FC6712",
        "The training gave no adapter",
        f"`{training.command[0]}` for `{training.name}` {why}.",
        hint="Nothing was added. See what it printed above, then run the command again.",
        command=f"fleetctl retrain run {training.name.alias}",
    )
