"""Run programs of other environments; a program ends with this process."""

import asyncio
import os
import signal
from asyncio.subprocess import PIPE
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from fleet.environment import read_command
from fleet.errors import EvalError, problem
from fleet.evals import EvalTarget
from runtime.json_client import SERVER_TLS

LONGEST_S = 6 * 3600.0
"""Upper bound of the time of a program, in seconds."""
MOST_OUTPUT = 64 * 2**20
"""Upper bound of the output of a program. Bytes."""
_TAIL = 1500
_REPOSITORY = Path(__file__).parents[2]
_ENVIRONMENTS = {
    "inspect-ai": (".venv-inspect", "FLEETCTL_INSPECT_PYTHON"),
    "lm-eval": (".venv-lmeval", "FLEETCTL_LMEVAL_PYTHON"),
}
"""Folder of an engine's environment, and the variable that names another interpreter."""


@dataclass(frozen=True, slots=True)
class ProcessResult:
    """Exit code and output of a program."""

    code: int
    output: str
    errors: str
    """The end of its standard error."""


def interpreter(engine: str, root: Path) -> Path:
    """Return the interpreter of an engine's own environment.

    Looked for in the environment variable, the project, the working folder, and beside the
    source of fleetctl, in this order.

    Raises:
        EvalError: FC4520, no interpreter is there; the error says how to make the environment.
    """
    folder, variable = _ENVIRONMENTS[engine]
    roots = (root, Path.cwd(), _REPOSITORY)
    places = [base / folder / "bin" / "python" for base in roots]
    if named := os.environ.get(variable):
        places = [Path(named)]
    for place in places:
        if place.is_file():
            return place.absolute()
    detail = f"`{engine}` lives in an environment of its own, and `{places[0]}` is not there."
    hint = f"Make it, or name another interpreter with {variable}."
    fault = problem("FC4520", "The eval engine is not installed", detail, hint=hint)
    raise EvalError(replace(fault, command="make engines"))


async def run_tool(
    command: Sequence[str], cwd: Path, variables: Mapping[str, str] | None = None
) -> ProcessResult:
    """Run a program to its end; the end of this process ends the program and its children.

    The program inherits what every program does, and the variables that the command names.

    Raises:
        EvalError: FC4521, the program cannot be started, does not end in time or prints too much.
        FleetError: FC1335, the command names a variable that is not set.
    """
    program, own = read_command(command, os.environ)
    try:
        process = await asyncio.create_subprocess_exec(
            *program,
            cwd=cwd,
            env={**own, **(variables or {})},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=PIPE,
            stderr=PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise tool_failed(program[0], f"cannot be started: {error.strerror}") from None
    try:
        async with asyncio.timeout(LONGEST_S):
            printed = (_read(process, stream) for stream in (process.stdout, process.stderr))
            output, errors = await asyncio.gather(*printed)
            await process.wait()
    except TimeoutError:
        raise tool_failed(program[0], f"has not ended after {LONGEST_S:g} s") from None
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    if max(len(output), len(errors)) > MOST_OUTPUT:
        raise tool_failed(program[0], f"printed more than {MOST_OUTPUT >> 20} MiB")
    tail = errors.decode(errors="replace")[-_TAIL:]
    return ProcessResult(process.returncode or 0, output.decode(errors="replace"), tail)


async def _read(process: asyncio.subprocess.Process, stream: asyncio.StreamReader | None) -> bytes:
    """Return the output of a program; end the program where that is more than `MOST_OUTPUT`."""
    assert stream is not None  # a pipe, as asked for
    printed = bytearray()
    while part := await stream.read(2**16):
        if len(printed) <= MOST_OUTPUT:
            printed += part
        elif process.returncode is None:
            with suppress(ProcessLookupError):  # it has just ended
                os.killpg(process.pid, signal.SIGKILL)
    return bytes(printed)


def refuse_headers(engine: str, target: EvalTarget) -> None:
    """Refuse a target that wants a key or a header, which the engine cannot send.

    Raises:
        EvalError: FC4535.
    """
    if target.headers:
        headers = ", ".join(sorted(target.headers))
        detail = f"`{target.url}` wants {headers}, which `{engine}` does not send."
        hint = "Use `--engine native`, or ask the server itself: `--through server`."
        raise EvalError.of("FC4535", "The engine cannot ask there", detail, hint=hint)


def refuse_tls(engine: str, target: EvalTarget) -> None:
    """Refuse a server with `tls`, whose files the engine is not given.

    Raises:
        EvalError: FC4535.
    """
    if target.url in SERVER_TLS:
        detail = f"`{target.url}` is reached by the `tls` of its server, which `{engine}` lacks."
        hint = "Use `--engine native`, or ask through a gateway: `--through gateway`."
        raise EvalError.of("FC4535", "The engine cannot ask there", detail, hint=hint)


def tool_failed(program: str, why: str, tail: str = "") -> EvalError:
    """Return the error of a program that left no usable result."""
    last = "\n".join(tail.strip().splitlines()[-12:])
    detail = f"`{Path(program).name}` {why}." + (f" It said at last:\n{last}" if last else "")
    hint = "Nothing was judged. Run the program by hand to see what it lacks."
    return EvalError.of("FC4521", "The eval program gave no result", detail, hint=hint)
