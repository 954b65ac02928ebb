"""Runs `ssh` and `rsync` as processes that are never waited for by the end of their output.

A client of a shared connection hands its output to the master, which keeps it open after the client
was killed. So a client has ended when its process has, or when its output says so.
"""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from fleet.errors import EngineUnreachableError

_CHUNK = 1 << 16
_GRACE_S = 2.0
"""Upper bound of the wait for the rest of the output, or for the exit, once the other is there."""
_TAIL = 1 << 16
"""Bytes of standard error that are kept, the last ones."""


class OutputTooLargeError(Exception):
    """More output than the caller takes; the client was killed."""


@dataclass(slots=True)
class ClientOutput:
    """The output of a client so far."""

    stdout: bytearray = field(default_factory=bytearray)
    stderr: bytearray = field(default_factory=bytearray)
    code: int | None = None
    """Exit status; None: killed by us."""

    @property
    def complaint(self) -> str:
        """Standard error as text, without the line ends of terminals."""
        return self.stderr.decode(errors="replace").replace("\r", "")


async def run_client(
    words: Sequence[str],
    *,
    stdin: bytes = b"",
    timeout_s: float | None,
    most: int = _TAIL,
    is_whole: Callable[[bytearray], bool] = lambda _: False,
) -> ClientOutput:
    """Run a program in a session of its own, until its exit or until its output `is_whole`.

    `is_whole` is asked after each part of standard output, and may take parts away.

    Raises:
        TimeoutError: no end in time; the program was killed, and has ended.
        OutputTooLargeError: more than `most` bytes of standard output, likewise.
        EngineUnreachableError: FC4090, there is no such program.
    """
    output = ClientOutput()

    async def read_stdout(reader: asyncio.StreamReader) -> None:
        while part := await reader.read(_CHUNK):
            output.stdout += part
            if is_whole(output.stdout):
                return
            if len(output.stdout) > most:
                raise OutputTooLargeError

    async def read_stderr(reader: asyncio.StreamReader) -> None:
        while part := await reader.read(_CHUNK):
            output.stderr += part
            del output.stderr[:-_TAIL]

    with tempfile.TemporaryFile() as given:
        given.write(stdin)
        given.seek(0)
        async with _pipe() as (out, out_reader), _pipe() as (err, err_reader):
            try:
                process = await asyncio.create_subprocess_exec(
                    *words,
                    stdin=given,
                    stdout=out,
                    stderr=err,
                    env={**os.environ, "LC_ALL": "C"},
                    start_new_session=True,  # an interrupt of the terminal is for us to handle
                )
            except OSError as error:
                detail = f"`{words[0]}` cannot be run here: {error.strerror}."
                hint = f"Install `{words[0]}` on this machine."
                raise EngineUnreachableError.of(
                    "FC4090", "Host cannot be reached by SSH", detail, hint=hint
                ) from None
            finally:
                os.close(out)
                os.close(err)
            stdout = asyncio.create_task(read_stdout(out_reader))
            stderr = asyncio.create_task(read_stderr(err_reader))
            exited = asyncio.create_task(process.wait())
            try:
                async with asyncio.timeout(timeout_s):
                    await asyncio.wait({stdout, exited}, return_when=asyncio.FIRST_COMPLETED)
                    if stdout.done():
                        stdout.result()
                        if not is_whole(output.stdout):
                            await asyncio.shield(exited)
                await asyncio.wait({stdout, stderr, exited}, timeout=_GRACE_S)
                output.code = process.returncode
                return output
            finally:
                stdout.cancel()
                stderr.cancel()
                with suppress(ProcessLookupError):
                    process.kill()  # not its group: the way through a jump host belongs to that
                await exited


@asynccontextmanager
async def _pipe() -> AsyncIterator[tuple[int, asyncio.StreamReader]]:
    """Give the writing end of a pipe, which the caller closes, and a reader of the other end."""
    read, write = os.pipe()
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read, "rb", 0)
    )
    try:
        yield write, reader
    finally:
        transport.close()
