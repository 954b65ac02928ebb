"""What promised latencies cost, and what looking at losses takes, on synthetic fleets.

    .venv/bin/python -m tests.bench.promises [--adapters 300 1000] [--losses 300 1000 10000]

Two tables in Markdown. Of promises: the price, and how many of the promised answers come late,
where no adapter, a single one, every tenth or every one is promised the time of its latency class.
Of losses: what `diagnose --loss gpu` prints first, and its CPU seconds, the whole process.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from fleet.history.values import History
from fleet.placement import late_aliases, placement_accounts
from fleet.placement.search import place
from fleet.resources import State
from fleet.rollouts.decide import decide_rollouts
from fleet.spec import FleetSpec
from tests.bench.converged import NOW
from tests.bench.peers.bench import synthetic
from tests.bench.placement import REPOSITORY, cpu_of
from tests.bench.plain_search import GPUS

SEED = 7
PROMISED = {
    "none": slice(0),
    "one": slice(1),
    "every tenth": slice(None, None, 10),
    "all": slice(None),
}
"""Which adapters, by name, are promised something."""


def size(adapters: int) -> tuple[int, int]:
    """Return the clients and the GPUs of a fleet."""
    return max(adapters // 10, 1), max(round(GPUS * adapters), 30)


def promising(fleet: FleetSpec, chosen: slice) -> FleetSpec:
    """Promise adapters the time at which their latency class aims."""
    promised = {
        alias: replace(fleet.adapters[alias], promised=True)
        for alias in sorted(fleet.adapters)[chosen]
    }
    return replace(fleet, adapters={**fleet.adapters, **promised})


def promise_row(fleet: FleetSpec, adapters: int, name: str) -> str:
    """Return a line of the first table."""
    made = promising(fleet, PROMISED[name])
    targets = decide_rollouts(made, State(), History(), NOW)
    began = time.process_time()
    placement = place(made, targets, State())
    seconds = time.process_time() - began
    late = late_aliases(made, placement_accounts(made, placement).values())
    number = sum(its.promised for its in made.adapters.values())
    broken = len(late.promised) if late else 0
    return (
        f"| {adapters:,} | {name} | {placement.price:.2f} | {broken} of {number} | {seconds:.1f} |"
    )


def loss_row(adapters: int, folder: Path) -> str:
    """Return a line of the second table."""
    clients, gpus = size(adapters)
    numbers = [f"--clients={clients}", f"--adapters={adapters}", f"--gpus={gpus}", f"--seed={SEED}"]
    fleetctl = [sys.executable, "-m", "fleetctl"]
    cpu_of([*fleetctl, "scaffold", "synthetic", *numbers, str(folder)])
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [*fleetctl, "-C", str(folder), "diagnose", "--loss", "gpu"],
        cwd=REPOSITORY, env={**os.environ, "NO_COLOR": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    said = (done.stdout or done.stderr).splitlines()[0].strip()
    return f"| {adapters:,} | {gpus:,} | {said} | {seconds:.1f} |"


def main() -> None:
    """Print both tables as they are measured."""
    parser = argparse.ArgumentParser(description="Print the cost of promises, the work of losses.")
    parser.add_argument("--adapters", type=int, nargs="*", default=[300, 1_000])
    parser.add_argument("--losses", type=int, nargs="*", default=[300, 1_000, 10_000])
    options = parser.parse_args()
    print("| adapters | promised | $/h | promised and late | CPU s |\n|---|---|---|---|---|")
    for adapters in options.adapters:
        fleet = synthetic(adapters, size(adapters)[1], SEED)
        for name in PROMISED:
            print(promise_row(fleet, adapters, name), flush=True)
    print("\n| adapters | GPUs | `diagnose --loss gpu` | CPU s |\n|---|---|---|---|")
    for adapters in options.losses:
        with tempfile.TemporaryDirectory() as name:
            print(loss_row(adapters, Path(name) / "fleet"), flush=True)


if __name__ == "__main__":
    main()
