"""Print the packer on each instance of a folder beside what is known of it.

    .venv/bin/python -m tests.bench.placement FOLDER [--effort fast|balanced|proof]

FOLDER and its subfolders hold `.vbp` files, and fleets (`.json`) beside their `capacity.json`.
A `.tsv` named like a subfolder or beside the files tells what is known: columns `instance`, and
`opt` or `best_heuristic`, `-1` where unknown. Each instance runs in a process of its own; seconds
are its CPU time, user and system.
"""

import argparse
import csv
import json
import resource
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def known(folder: Path) -> dict[str, str]:
    """Return the best known objective of each instance that a table names."""
    found: dict[str, str] = {}
    for table in sorted(folder.rglob("*.tsv")):
        with table.open(encoding="utf-8", newline="") as lines:
            for row in csv.DictReader(lines, delimiter="\t"):
                values = [row.get("opt"), row.get("best_heuristic")]
                best = [value for value in values if value not in {None, "", "-1"}]
                if row.get("instance") and best:
                    found[str(row["instance"])] = str(best[0])
    return found


def known_columns(folder: Path, column: str) -> dict[str, dict[str, str]]:
    """Return the rows of all tables that have a column, by instance."""
    found: dict[str, dict[str, str]] = {}
    for table in sorted(folder.rglob("*.tsv")):
        with table.open(encoding="utf-8", newline="") as lines:
            rows = [row for row in csv.DictReader(lines, delimiter="\t") if row.get(column)]
        found |= {str(row["instance"]): row for row in rows}
    return found


def cpu_of(command: list[str]) -> tuple[str, float]:
    """Run a command; return its output and the CPU seconds of the whole process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def measure(path: Path, effort: str) -> tuple[dict[str, str], float]:
    """Pack one instance; return the summary and the CPU seconds of the whole process."""
    command = [sys.executable, "-m", "fleetctl", "pack", str(path.resolve()), "--effort", effort]
    output, seconds = cpu_of(command)
    pairs = (line.split("  ", 1) for line in output.splitlines())
    return {name.strip(): value.strip() for name, value in pairs}, seconds


def is_fleet(path: Path) -> bool:
    """Say whether a JSON file is a fleet to be packed."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return isinstance(content, dict) and "items" in content


def main() -> None:
    """Print the table and the mean gap."""
    parser = argparse.ArgumentParser(description="Measure the packer on a folder of instances.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--effort", choices=["fast", "balanced", "proof"], default="balanced")
    options = parser.parse_args()
    best = known(options.folder)
    paths = sorted(options.folder.rglob("*.vbp"))
    paths += [path for path in sorted(options.folder.rglob("*.json")) if is_fleet(path)]
    print(f"{'instance':36}{'bound':>9}{'known':>8}{'ours':>9}{'gap %':>8}{'CPU s':>8}  status")
    gaps = []
    for path in paths:
        summary, seconds = measure(path, options.effort)
        ours = summary.get("bins") or summary["cost"].split()[0]
        bound = summary["bound"].split()[0]
        gap = 100 * (float(ours) / float(best.get(path.name, bound)) - 1)
        gaps.append(gap)
        print(
            f"{path.name:36}{bound:>9}{best.get(path.name, '-'):>8}{ours:>9}{gap:>8.1f}"
            f"{seconds:>8.1f}  {summary['status']}",
            flush=True,
        )
    if gaps:
        print(f"\nmean gap to what is known, else to the bound: {sum(gaps) / len(gaps):.2f} %")


if __name__ == "__main__":
    main()
