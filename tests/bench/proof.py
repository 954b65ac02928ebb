"""Runs a command and keeps what it prints in docs/proof/NAME.txt, with commit and machine.

`python -m tests.bench.proof NAME COMMAND...`; the exit code is the command's. The file of an
earlier run stays as it is when the command fails. Lines that begin with `progress: ` are not kept.
"""

import os
import platform
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*m")


def header(command: list[str]) -> str:
    """Return the lines that say which code ran where."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}"
    return f"Commit: {commit}. Machine: {machine}.\n\n$ {shlex.join(command)}\n"


def run(command: list[str], file: Path) -> int:
    """Run a command, print its output as it comes, and keep it where the command succeeds."""
    kept = [header(command)]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as running:
        assert running.stdout is not None
        for line in running.stdout:
            print(line, end="", flush=True)
            if not line.startswith("progress: "):
                kept.append(_COLOUR.sub("", line).replace(str(ROOT), "."))
    if running.returncode == 0:
        file.parent.mkdir(exist_ok=True)
        file.write_text("".join(kept), encoding="utf-8")
    return running.returncode


if __name__ == "__main__":
    sys.exit(run(sys.argv[2:], ROOT / "docs" / "proof" / f"{sys.argv[1]}.txt"))
