"""Prints the CPU time of `fleetctl COMMAND --help` for each command.

`python -m tests.bench.help_times [--runs N] [COMMAND ...]`; user and system time of a process of
its own, in ms, the least of several runs. A command of a group is one word: 'adapter add'.
Other work on the machine raises CPU times too; `(python)` is the interpreter alone, as a measure.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from fleetctl.cli import main_group

ROOT: Final = Path(__file__).resolve().parents[2]
_FLEETCTL: Final = (sys.executable, "-m", "fleetctl")


def commands(group: click.Group = main_group, *path: str) -> Iterator[tuple[str, ...]]:
    """Return the words of all commands, those of groups after their group."""
    context = click.Context(group)
    for name in group.list_commands(context):
        yield (*path, name)
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands(command, *path, name)


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
    named = [tuple(words.split()) for words in given.commands] or commands()
    rows |= {" ".join(words): (*_FLEETCTL, *words, "--help") for words in named}
    print(f"CPU ms of `fleetctl COMMAND --help`, the least of {given.runs} runs")
    most = ("", 0.0)
    for name, command in rows.items():
        least = min(cpu_ms(*command) for _ in range(given.runs))
        most = max(most, (name, least), key=lambda row: row[1])
        print(f"  {name:<20} {least:6.0f}", flush=True)
    print(f"most: {most[0]}, {most[1]:.0f} ms")


if __name__ == "__main__":
    main()
