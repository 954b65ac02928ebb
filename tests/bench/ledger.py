"""What `make bench-ledger` prints: seconds and memory of commands with a long ledger.

    .venv/bin/python -m tests.bench.ledger [--entries 10000 100000 1000000] [--adapters 1000]

The fleet is as declared, so the plan is empty. `no checkpoint`: the first plan, which proves and
folds the whole ledger. `checkpoint`: the next one. `100 more`: after as many entries were appended.
Other commands follow, on fake servers of ten adapters each that listen here: `apply` has nothing to
do, and a round of `reconcile` has no rollout under way. Every row is a whole process; the last
column is what the row takes over the same command with the ledger of a first apply.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final, TypeAlias

from tests.bench.scale import compiled, fakes, write_fleet

Figures: TypeAlias = tuple[float, float, float]
"""CPU seconds, wall seconds, and MB of memory at most, of a process."""
PYTHON: Final = (sys.executable, "-m")
REPOSITORY: Final = Path(__file__).resolve().parents[2]


def row(what: str, figures: Figures, of_it: str = "") -> None:
    """Print a row; `of_it`: CPU seconds over those without a ledger."""
    cpu, wall, memory = figures
    print(f"  {what:34} {cpu:8.2f} {wall:8.2f} {memory:9.0f} {of_it:>12}", flush=True)


def measured(*command: str) -> Figures:
    """Run a command.

    The memory is at least that of this process, which imports nothing of ours for that reason.
    """
    began = time.monotonic()
    process = subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    errors = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}\n{errors[-2000:]}")
    return used.ru_utime + used.ru_stime, time.monotonic() - began, used.ru_maxrss / 1000


def report(work: Path, adapters: int, lengths: list[int]) -> None:
    """Make a fleet, and print its plans with ledgers of some lengths."""
    fleet, ledger = work / "fleet", work / "fleet" / ".fleetctl" / "ledger.jsonl"
    live = str(fleet / "same.json")
    clients = str(adapters // 10)
    size = "--clients", clients, "--adapters", str(adapters), "--gpus", clients
    measured(*PYTHON, "fleetctl", "scaffold", "synthetic", *size, str(fleet))
    measured(*PYTHON, "tests.bench.converged", str(fleet))
    plan = *PYTHON, "fleetctl", "-C", str(fleet), "plan", "--live", live
    print(
        f"  {f'{adapters:,} adapters':34} {'CPU s':>8} {'wall s':>8} {'MB':>9} {'of it ledger':>12}"
    )
    row("python -c pass", measured(sys.executable, "-c", "pass"))
    measured(*plan)  # the declarations are in the cache from here on
    base = min(measured(*plan) for _ in range(3))
    row("plan, no ledger", base)
    for entries in lengths:
        for path in ledger.parent.glob("ledger*"):
            path.unlink()
        measured(*PYTHON, "tests.bench.ledgers", str(ledger), live, str(entries))
        its = f"{entries:,} entries"
        print(f"  {its}, {ledger.stat().st_size / 1e6:,.0f} MB:")

        def plans(what: str, rounds: int = 1, its: str = its) -> None:
            figures = min(measured(*plan) for _ in range(rounds))
            row(f"{its}, {what}", figures, f"{figures[0] - base[0]:.2f}")

        plans("no checkpoint")
        plans("checkpoint", rounds=3)
        measured(*PYTHON, "tests.bench.ledgers", str(ledger), live, "100", "append")
        plans("and 100 more")


COMMANDS: Final = {
    "plan": ("plan",),
    "apply": ("apply", "--auto", "--yes"),
    "status": ("status",),
    "drift": ("drift",),
    "reconcile": ("reconcile", "--once"),
}


def report_commands(work: Path, servers: int, lengths: list[int]) -> None:
    """Make a fleet of servers, and print all commands with ledgers of some lengths."""
    root = work / "live"
    root.mkdir()
    ledger, live = root / ".fleetctl" / "ledger.jsonl", str(root / "live.json")
    with fakes(servers, 0.0) as (_, ports):
        write_fleet(root, ports)
        own = *PYTHON, "fleetctl", "-C", str(root)
        measured(*PYTHON, "tests.bench.scale_parts", "seed", str(root))
        measured(*own, "adopt")
        measured(*own, "apply", "--auto", "--yes")
        measured(*own, "plan", "--save-live", live)
        base = {name: min(measured(*own, *its) for _ in range(2)) for name, its in COMMANDS.items()}
        for entries in lengths:
            for path in ledger.parent.glob("ledger*"):
                path.unlink()
            measured(*PYTHON, "tests.bench.ledgers", str(ledger), live, str(entries))
            measured(*own, "plan")  # which makes the checkpoint
            print(f"  {servers} servers that answer, {entries:,} entries:")
            for name, its in COMMANDS.items():
                figures = min(measured(*own, *its) for _ in range(2))
                row(f"{entries:,} entries, {name}", figures, f"{figures[0] - base[name][0]:.2f}")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--entries", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--adapters", type=int, default=1000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        compiled(Path(name) / "compiled")
        report(Path(name), given.adapters, given.entries)
        report_commands(Path(name), given.adapters // 10, given.entries)


if __name__ == "__main__":
    main()
