"""Retraining: claims an alias, runs the training command, adds the result to the library.

An interrupted run is repeated: the training begins anew for the same version, and a version that
is in the library already is not trained twice.
"""

import asyncio
import os
import shutil
import signal
import string
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from fleet.environment import read_command
from fleet.errors import FleetError
from fleet.history import (
    Claim,
    Entry,
    RetrainClaimed,
    RetrainFinished,
    RetrainReleased,
    RetrainStarted,
)
from fleet.names import AdapterName
from fleet.rules import standing_claim
from fleet.spec import AdapterSpec
from runtime.files import locked_file, make_private, plain_text
from runtime.ledger.protocol import Ledger
from runtime.library.add import AddedVersion, KnownBase, add
from runtime.library.layout import SERVED_FILES

CHUNK = 65536
"""Upper bound of the bytes read at once, and of the characters of a reported line."""
BETWEEN_S = 10.0
"""Lower bound of the time between two states of a line that is drawn over and over, such as a
progress bar. Seconds."""


def claim(
    ledger: Ledger, alias: str, *, by: str, reason: str, lasts: timedelta, now: datetime
) -> Claim:
    """Claim an alias for retraining; the own claim is prolonged.

    Two people who claim at the same moment both write; the first line in the ledger counts.

    Raises:
        FleetError: FC6710, another person holds the claim; the error names the person and the end.
    """
    _refuse_others(standing_claim(ledger.history().claims, alias, now), alias, by)
    until = (now + lasts).replace(microsecond=0)
    ledger.append([RetrainClaimed(alias, by, until, reason)])
    written = ledger.history().claims[alias]
    _refuse_others(written, alias, by)
    return written


async def prolonged(take: Callable[[], Claim], every: float) -> None:
    """Renew a claim at an interval in seconds, until cancelled.

    A ledger that is away, or another person's claim, ends no training.
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
    found = standing_claim(ledger.history().claims, alias, now)
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
    detail = f"`{alias}` is claimed by {found.by} until {found.until:%Y-%m-%d %H:%M} UTC{why}."
    hint = "Talk to them; two trainings of one adapter waste one. The claim ends by itself."
    command = f"fleetctl retrain release {alias} --force --reason TEXT"
    raise FleetError.of(
        "FC6710", "Another person is retraining it", detail, hint=hint, command=command
    )


def unfinished(entries: Sequence[Entry], alias: str) -> str | None:
    """Return the version whose training was begun and not ended; None: there is none."""
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


@dataclass(frozen=True, slots=True)
class Training:
    """A training of a new version, and the folders."""

    name: AdapterName
    adapter: AdapterSpec
    """As declared, with the command and the present version."""
    root: Path
    folder: Path
    """Where the command leaves the adapter; emptied before it starts."""
    lock: int
    """Of `one_training`, which the trainer holds as well."""

    def filled(self) -> list[str]:
        """Return the command with its placeholders filled in.

        Raises:
            FleetError: FC6711, a placeholder is unknown.
        """
        values = {
            "alias": self.name.alias, "client": self.name.client, "task": self.name.task,
            "base": self.name.base, "version": str(self.name.version),
            "current": str(self.adapter.name.version), "golden": self.adapter.golden or "",
            "folder": str(self.folder.absolute()),
        }  # fmt: skip
        try:
            parts = [
                field for part in self.adapter.retrain for field in string.Formatter().parse(part)
            ]
            unknown = sorted({name for _, name, _, _ in parts if name is not None} - set(values))
        except ValueError as error:
            unknown = [str(error)]
        if unknown:
            detail = f"`{{{unknown[0]}}}` is no placeholder of `retrain`."
            hint = f"It may name {', '.join(f'{{{name}}}' for name in values)}."
            raise FleetError.of(
                "FC6711", "The training command cannot be filled in", detail, hint=hint
            )
        return [part.format(**values) for part in self.adapter.retrain]


async def train(
    training: Training,
    ledger: Ledger,
    base: KnownBase,
    library: Path,
    report: Callable[[str], None],
) -> AddedVersion:
    """Run the training command and add the adapter to the library and the lock.

    Raises:
        FleetError: FC6712, the command failed or left no adapter.
        LibraryError: the adapter must not be served.
    """
    name, folder, began = training.name, training.folder, time.monotonic()
    ledger.append([RetrainStarted(name.alias, str(name), training.adapter.retrain)])
    shutil.rmtree(folder, ignore_errors=True)
    make_private(folder)
    try:
        code = await _run(training, report)
    except OSError as error:
        raise _failed(training, f"cannot be started: {error.strerror}") from None
    if code:
        raise _failed(training, f"ended with exit code {code}")
    missing = [file for file in SERVED_FILES if not (folder / file).is_file()]
    if missing:
        raise _failed(training, f"left no `{missing[0]}` in {folder}")
    added = await asyncio.to_thread(add, folder, name, base, library, training.root)
    took = round(time.monotonic() - began, 1)
    ledger.append([RetrainFinished(name.alias, str(name), added.facts.digest, took)])
    shutil.rmtree(folder, ignore_errors=True)
    return added


def _failed(training: Training, why: str) -> FleetError:
    detail = f"`{training.adapter.retrain[0]}` for `{training.name}` {why}."
    hint = "Nothing was added. See what it printed above, then run the command again."
    command = f"fleetctl retrain run {training.name.alias}"
    return FleetError.of(
        "FC6712", "The training gave no adapter", detail, hint=hint, command=command
    )


@contextmanager
def one_training(folder: Path, alias: str) -> Iterator[int]:
    """Hold an alias's training on this machine; give the lock, which the trainer holds as well.

    A trainer that outlives a killed fleetctl keeps other runs out of its folder.

    Raises:
        FleetError: FC6715, a training runs.
    """
    make_private(folder)
    path = folder / f"{alias}.lock"
    with ExitStack() as stack:
        try:
            handle = stack.enter_context(locked_file(path, timeout_s=0))
        except BlockingIOError:
            written = plain_text(path)
            pid = written if written.isdecimal() else ""
            by = f", by process {pid}" if pid else ", and the trainer is about to start"
            detail = f"`{alias}` is being trained on this machine{by}."
            hint = "Wait for it. If the run that began it is gone, end it, and run this again."
            command = f"kill -- -{pid}" if pid else f"fleetctl retrain run {alias}"
            raise FleetError.of(
                "FC6715", "A training of it runs here", detail, hint=hint, command=command
            ) from None
        os.ftruncate(handle, 0)
        yield handle


async def _run(training: Training, report: Callable[[str], None]) -> int:
    """Run the command in the project, report its output and return its exit code."""
    program, variables = read_command(training.filled(), os.environ)
    process = await asyncio.create_subprocess_exec(
        *program,
        cwd=training.root,
        env={**variables, "PYTHONUNBUFFERED": "1"},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
        pass_fds=(training.lock,),
    )
    try:
        os.pwrite(training.lock, str(process.pid).encode(), 0)
        assert process.stdout is not None
        await _report_lines(process.stdout, report)
        return await process.wait()
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


async def _report_lines(output: asyncio.StreamReader, report: Callable[[str], None]) -> None:
    """Report lines as a terminal would show them at their end; open lines now and then."""
    rest, last = b"", time.monotonic()
    while chunk := await output.read(CHUNK):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            report(_shown(line))
        if lines:
            last = time.monotonic()
        rest = rest[max(0, rest.rstrip(b"\r").rfind(b"\r")) :][-CHUNK:]
        if rest and time.monotonic() - last >= BETWEEN_S:
            report(_shown(rest))
            last = time.monotonic()
    if rest:
        report(_shown(rest))


def _shown(line: bytes) -> str:
    return line.rstrip().rpartition(b"\r")[2].decode(errors="replace").rstrip()
