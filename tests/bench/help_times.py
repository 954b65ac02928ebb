"""Prints the CPU time of `fleetctl COMMAND --help` for each command.

`python -m tests.bench.help_times [COMMAND ...]`; user and system time of a process of its own, in
ms, the least of several runs. The commands are those that `fleetctl --help` lists.
"""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
RUNS: Final = 3
_COMMAND: Final = re.compile(r"^  ([a-z][a-z-]*)  ", re.MULTILINE)


def commands() -> list[str]:
    """Return the names of all commands."""
    done = subprocess.run(_command("--help"), cwd=ROOT, capture_output=True, text=True, check=True)
    return _COMMAND.findall(done.stdout.partition("\nCommands:\n")[2])


def cpu_ms(*arguments: str) -> float:
    """Return the CPU time of one run.

    Raises:
        OSError: the command fails.
    """
    process = subprocess.Popen(_command(*arguments), cwd=ROOT, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise OSError(f"{arguments}: exit {process.returncode}")
    return (usage.ru_utime + usage.ru_stime) * 1000


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "fleetctl", *arguments]


def main() -> None:
    """Print one line for each command."""
    names = sys.argv[1:] or ["", *commands()]
    print(f"CPU ms of `fleetctl COMMAND --help`, the least of {RUNS} runs")
    for name in names:
        arguments = [*([name] if name else []), "--help"]
        least = min(cpu_ms(*arguments) for _ in range(RUNS))
        print(f"  {name or '(none)':<12} {least:6.0f}", flush=True)


if __name__ == "__main__":
    main()
