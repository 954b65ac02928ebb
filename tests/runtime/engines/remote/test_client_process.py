"""Programs whose output outlives them, as that of `ssh` does over a shared connection."""

import asyncio
import os
import signal
import sys

import pytest

from fleet.errors import EngineUnreachableError
from runtime.engines.remote.client_process import OutputTooLargeError, run_client

KEEPS_OPEN = (
    "import os, subprocess, sys, time\n"
    "child = subprocess.Popen(['sleep', '1000'], start_new_session=True)\n"
    "print(child.pid, flush=True)\n"
)
"""Prints the process that keeps its output open."""


def test_the_end_of_a_program_is_not_the_end_of_its_output() -> None:
    output = asyncio.run(run_client((sys.executable, "-c", KEEPS_OPEN), timeout_s=60))
    os.kill(int(output.stdout), signal.SIGKILL)
    assert output.code == 0


def test_a_program_beyond_its_deadline_is_killed_and_its_output_not_waited_for() -> None:
    seen = bytearray()

    def take(stdout: bytearray) -> bool:
        seen[:] = stdout
        return False

    words = (sys.executable, "-c", KEEPS_OPEN + "time.sleep(1000)")
    with pytest.raises(TimeoutError):
        asyncio.run(run_client(words, timeout_s=2, is_whole=take))
    os.kill(int(seen), signal.SIGKILL)


def test_an_output_that_says_so_is_whole_before_the_program_ends() -> None:
    words = ("sh", "-c", "echo out; echo err >&2; echo end; exec sleep 1000")
    output = asyncio.run(
        run_client(words, timeout_s=600, is_whole=lambda stdout: stdout.endswith(b"end\n"))
    )
    assert (bytes(output.stdout), output.complaint) == (b"out\nend\n", "err\n")
    assert output.code is None


def test_too_much_output_ends_the_program() -> None:
    with pytest.raises(OutputTooLargeError):
        asyncio.run(run_client(("yes",), timeout_s=600, most=100_000))


def test_input_output_and_status_are_those_of_the_program() -> None:
    given = bytes(range(256)) * 5000
    output = asyncio.run(
        run_client(
            ("sh", "-c", "cat; yes err | head -c 200000 >&2; exit 7"),
            stdin=given,
            timeout_s=60,
            most=len(given),
        )
    )
    assert (bytes(output.stdout), output.code) == (given, 7)
    assert len(output.stderr) == 1 << 16


def test_an_interrupted_wait_ends_the_program() -> None:
    async def body() -> int:
        began, seen = asyncio.Event(), bytearray()

        def note(stdout: bytearray) -> bool:
            seen[:] = stdout
            began.set()
            return False

        words = ("sh", "-c", "echo $$; exec sleep 1000")
        task = asyncio.create_task(run_client(words, timeout_s=600, is_whole=note))
        await began.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return int(seen)

    with pytest.raises(ProcessLookupError):
        os.kill(asyncio.run(body()), 0)


def test_a_program_that_is_not_installed_is_named() -> None:
    with pytest.raises(EngineUnreachableError, match="`no-such-ssh` cannot be run here"):
        asyncio.run(run_client(("no-such-ssh",), timeout_s=60))
