"""The training command's process: one per alias, its output, its end with this process."""

import asyncio
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from fleet.errors import FleetError
from runtime.files import locked_file

CHUNK = 65536
"""Most bytes that are read at once, and most characters of a line that are told."""
BETWEEN_S = 10.0
"""Least time between two states of a line that is drawn over and over, as progress bars are."""


@contextmanager
def one_training(folder: Path, alias: str) -> Iterator[int]:
    """Hold an alias's training on this machine; give the lock, which the trainer holds as well.

    So a trainer that outlives a killed fleetctl keeps everybody else out of its folder.

    Raises:
        FleetError: FC6715, a training runs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{alias}.lock"
    with ExitStack() as stack:
        try:
            handle = stack.enter_context(locked_file(path, timeout_s=0))
        except BlockingIOError:
            raise _runs(alias, path.read_text(encoding="utf-8")) from None
        os.ftruncate(handle, 0)
        yield handle


def _runs(alias: str, pid: str) -> FleetError:
    return FleetError.of(
        "FC6715",
        "A training of it runs here",
        f"`{alias}` is being trained on this machine"
        + (f", by process {pid}." if pid else ", and the trainer is about to start."),
        hint="Wait for it. If whoever began it is gone, end it, and run this again.",
        command=f"kill -- -{pid}" if pid else f"fleetctl retrain run {alias}",
    )


async def run_trainer(
    command: Sequence[str],
    root: Path,
    lock: int,
    tell: Callable[[str], None],
    seconds: Callable[[], float],
) -> int:
    """Run the command in the project and return its exit code; what it prints is told.

    Raises:
        OSError: it cannot be started.
    """
    variables: Mapping[str, str] = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=root,
        env=variables,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
        pass_fds=(lock,),
    )
    try:
        os.pwrite(lock, str(process.pid).encode(), 0)
        assert process.stdout is not None
        await _told(process.stdout, tell, seconds)
        return await process.wait()
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


async def _told(
    output: asyncio.StreamReader, tell: Callable[[str], None], seconds: Callable[[], float]
) -> None:
    """Tell each line as a terminal would show it at its end; one that stays open now and then."""
    open_, said = b"", seconds()
    while chunk := await output.read(CHUNK):
        *lines, open_ = (open_ + chunk).split(b"\n")
        for line in lines:
            tell(_shown(line))
        if lines:
            said = seconds()
        open_ = open_[max(0, open_.rstrip(b"\r").rfind(b"\r")) :][-CHUNK:]
        if open_ and seconds() - said >= BETWEEN_S:
            tell(_shown(open_))
            said = seconds()
    if open_:
        tell(_shown(open_))


def _shown(line: bytes) -> str:
    return line.rstrip().rpartition(b"\r")[2].decode(errors="replace").rstrip()
