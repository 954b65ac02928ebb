"""Runs `make test` several times in a row, some of them beside a load on every core.

`python -m tests.bench.repeat [--runs N] [--loaded N]`; prints a line for each run: minutes and
the tests' last line. Exit code 1 as soon as a run fails, with the end of its output.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]


@contextmanager
def load() -> Iterator[None]:
    """Keep all cores busy with one process each."""
    busy = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"])
        for _ in range(os.cpu_count() or 1)
    ]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def run() -> tuple[bool, str]:
    """Run the tests once.

    Returns:
        Whether they passed, and the minutes with the last line of the tests.
    """
    began = time.monotonic()
    command = ["make", "--no-print-directory", "test"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    minutes = (time.monotonic() - began) / 60
    if done.returncode:
        print((done.stdout + done.stderr)[-6000:], flush=True)
    last = done.stdout.strip().splitlines()[-1]
    return done.returncode == 0, f"{minutes:.1f} min; {last}"


def main() -> int:
    """Run them all; return the exit code."""
    parser = argparse.ArgumentParser(description="Run `make test` several times in a row.")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--loaded", type=int, default=2, help="How many of them beside a load.")
    given = parser.parse_args()
    for number in range(1, given.runs + 1):
        loaded = number > given.runs - given.loaded
        if loaded:
            with load():
                passed, line = run()
        else:
            passed, line = run()
        print(f"run {number}{' beside a load' if loaded else ''}: {line}", flush=True)
        if not passed:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
