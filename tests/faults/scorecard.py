"""Plays faults on a fleet under a steady client, and prints how each was found and healed.

python -m tests.faults.scorecard [--engine vllm|fake] [--only WORD ...] [--into FILE]
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.faults.catalogue import FAULTS
from tests.faults.play import HEADS, Row, played
from tests.fleetctl.project_on_disk import REPOSITORY

MARKS = "<!-- scorecard -->", "<!-- end of the scorecard -->"


def table(rows: Sequence[Row]) -> str:
    """Return the rows in Markdown."""
    lines = [HEADS, tuple("---" for _ in HEADS), *(row.cells() for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def summary(rows: Sequence[Row], engine: str) -> str:
    """Return the sentences under the table."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=REPOSITORY, capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    good = sum(row.good for row in rows)
    total = {
        name: sum(row.counts.get(name, 0) for row in rows) for name in ("sent", "failed", "wrong")
    }
    left = [row.fault.name for row in rows if not row.good]
    return (
        f"Commit {commit}, {engine}: {good} of {len(rows)} faults named and healed without a wrong "
        f"answer; {total['sent']:,} requests, {total['failed']} failed, {total['wrong']} wrong."
        + (f" Left: {', '.join(left)}." if left else "")
        + "\n"
    )


def main() -> int:
    """Play the faults that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engine", choices=["vllm", "fake"], default="vllm")
    parser.add_argument("--only", nargs="*", default=[], help="Words in the names of faults.")
    parser.add_argument("--into", type=Path, help="Write the table into this page, between marks.")
    given = parser.parse_args()
    python = REPOSITORY / ".venv-vllm/bin/python" if given.engine == "vllm" else None
    chosen = [
        fault
        for fault in FAULTS
        if (python or fault.fake)
        and (not given.only or any(word in fault.name for word in given.only))
    ]
    rows, began = [], time.monotonic()
    with tempfile.TemporaryDirectory(prefix="scorecard-") as folder:
        for row in played(chosen, Path(folder), python, 2):
            rows.append(row)
            print("| " + " | ".join(row.cells()) + " |", flush=True)
            if row.trouble:
                print(row.trouble, flush=True)
            if row.counts.get("wrong"):
                print(f"  {row.wrong_unnamed} of them before a command named the fault", flush=True)
    engine = "real vLLM" if python else "the fake engine"
    text = f"{table(rows)}\n{summary(rows, engine)}"
    print(f"\n{text}{time.monotonic() - began:.0f} s in all")
    if given.into:
        before, _, rest = given.into.read_text(encoding="utf-8").partition(MARKS[0])
        after = rest.partition(MARKS[1])[2]
        given.into.write_text(f"{before}{MARKS[0]}\n\n{text}\n{MARKS[1]}{after}", encoding="utf-8")
    return 0 if all(row.good for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
