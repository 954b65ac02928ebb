"""Prints the CPU time of `fleetctl COMMAND --help` for each command.

`python -m tests.bench.help_times [--runs N] [COMMAND ...]`; user and system time of a process of
its own, in ms, the least of several runs. The commands are those that `fleetctl --help` lists.
Other work on the machine raises CPU times too; `(python)` is the interpreter alone, as a measure.
"""

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
_FLEETCTL: Final = (sys.executable, "-m", "fleetctl")
_COMMAND: Final = re.compile(r"^  ([a-z][a-z-]*)  ", re.MULTILINE)


def commands() -> list[str]:
    """Return the names of all commands."""
    done = subprocess.run(
        [*_FLEETCTL, "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return _COMMAND.findall(done.stdout.partition("\nCommands:\n")[2])


def cpu_ms(*command: str) -> float:
    """Return the CPU time of one run.

    Raises:
        OSError: the command fails.
    """
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise OSError(f"{command}: exit {process.returncode}")
    return (usage.ru_utime + usage.ru_stime) * 1000


def main() -> None:
    """Print one line for each command."""
    parser = argparse.ArgumentParser(description="Print the CPU time of each command's --help.")
    parser.add_argument("commands", nargs="*", metavar="COMMAND")
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    rows = {"(python)": (sys.executable, "-c", ""), "(none)": (*_FLEETCTL, "--help")}
    rows |= {name: (*_FLEETCTL, name, "--help") for name in given.commands or commands()}
    print(f"CPU ms of `fleetctl COMMAND --help`, the least of {given.runs} runs")
    for name, command in rows.items():
        least = min(cpu_ms(*command) for _ in range(given.runs))
        print(f"  {name:<12} {least:6.0f}", flush=True)


if __name__ == "__main__":
    main()
