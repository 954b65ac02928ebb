"""Programs of other environments: found, started, waited for, ended with this one."""

import asyncio
import os
import signal
from asyncio.subprocess import PIPE
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fleet.errors import EvalError, problem
from fleet.evals import EvalTarget

LONGEST_S = 6 * 3600.0
_TAIL = 1500
_REPOSITORY = Path(__file__).parents[3]


@dataclass(frozen=True, slots=True)
class ProcessResult:
    """Exit code and output of a program."""

    code: int
    output: str
    errors: str
    """The end of its standard error."""


def interpreter(engine: str, folder: str, variable: str, root: Path, install: str) -> Path:
    """Return the interpreter of an engine's own environment.

    Looked for in the environment variable, the project, the working folder, and beside the
    source of fleetctl, in this order.

    Raises:
        EvalError: FC4520, no interpreter is there; the error says how to make one.
    """
    named = os.environ.get(variable)
    places = [Path(named)] if named else []
    if not named:
        roots = (root, Path.cwd(), _REPOSITORY)
        places = [base / folder / "bin" / "python" for base in roots]
    for place in places:
        if place.is_file():
            return place.absolute()
    raise EvalError(
        problem(
            "FC4520",
            "The eval engine is not installed",
            f"`{engine}` lives in an environment of its own, and `{places[0]}` is not there.",
            hint=f"Make it, or name another interpreter with {variable}.",
            command=install,
        )
    )


async def run_tool(
    command: Sequence[str],
    cwd: Path,
    variables: Mapping[str, str] | None = None,
    timeout_s: float = LONGEST_S,
) -> ProcessResult:
    """Run a program to its end; the end of this process ends the program with all that it started.

    Raises:
        EvalError: FC4521, the program cannot be started or does not end in time.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=cwd,
            env={**os.environ, **(variables or {})},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=PIPE,
            stderr=PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise tool_failed(command[0], f"cannot be started: {error.strerror}") from None
    try:
        async with asyncio.timeout(timeout_s):
            output, errors = await process.communicate()
    except TimeoutError:
        raise tool_failed(command[0], f"has not ended after {timeout_s:g} s") from None
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    code = process.returncode or 0
    return ProcessResult(
        code, output.decode(errors="replace"), errors.decode(errors="replace")[-_TAIL:]
    )


def refuse_headers(engine: str, target: EvalTarget) -> None:
    """Refuse a target that wants a key or a header, which the engine cannot send.

    Raises:
        EvalError: FC4535.
    """
    if target.headers:
        raise EvalError(
            problem(
                "FC4535",
                "The engine cannot ask there",
                f"`{target.url}` wants {', '.join(sorted(target.headers))}, which `{engine}` does "
                "not send.",
                hint="Use `--engine native`, or ask the server itself: `--through server`.",
            )
        )


def tool_failed(program: str, why: str, tail: str = "") -> EvalError:
    """Return the error of a program that left no usable result."""
    last = "\n".join(tail.strip().splitlines()[-12:])
    return EvalError(
        problem(
            "FC4521",
            "The eval program gave no result",
            f"`{Path(program).name}` {why}." + (f" It said at last:\n{last}" if last else ""),
            hint="Nothing was judged. Run the program by hand to see what it lacks.",
        )
    )
