"""The lines of `tests.bench.acceptance` about fleets: price over a bound, seconds, memory, replans.

The bars in $/h belong to fleets that are not at hand. Of each is known what a bound from server
counts alone gave (28.4, 123.3 and 1,057.9 $/h at 200, 1,000 and 10,000 adapters), so the bars here
are the same prices over the same kind of bound, of our fleet.
"""

import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fleet.packing import PRICE_UNIT, lower_bound, read_fleet
from fleet.packing.proofs import aggregate_bound
from fleet.packing.servers import instances_of
from tests.bench import instances
from tests.bench.placement import REPOSITORY, cpu_of, measure

Row = tuple[str, str, str, str, str]
CASES = (
    (200, "balanced", 34.5 / 28.4, 34.1 / 28.4),
    (200, "proof", 33.9 / 28.4, 33.4 / 28.4),
    (1_000, "balanced", 153 / 123.3, 147 / 123.3),
    (10_000, "fast", 1_270 / 1_057.9, 1_225 / 1_057.9),
    (10_000, "balanced", 1_250 / 1_057.9, 1_225 / 1_057.9),
)
"""Adapters, effort, and how far over the bound the bar and an excellent price are."""
MEMORY = 400
"""Most MB of a process."""


def aggregate(path: Path, capacity: Path) -> float:
    """Return the bound from numbers of servers alone, dollars an hour."""
    replicas, catalog = read_fleet(
        path.read_text(encoding="utf-8"), path.name, capacity.read_text(encoding="utf-8"), "table"
    )
    parts = [instance for _, _, instance in instances_of(replicas, catalog)]
    return sum(max(lower_bound(part), aggregate_bound(part)) for part in parts) / PRICE_UNIT


def fleet_rows(folder: Path, capacity: Path, work: Path) -> Iterator[Row]:
    """Pack fleets of each size, and place one of 10,000 again."""
    yield small(fleet_of(50, folder, capacity, work))
    floors: dict[int, float] = {}
    for adapters, effort, bar, excellent in CASES:
        path, made = fleet_of(adapters, folder, capacity, work)
        floor = floors.setdefault(adapters, aggregate(path, path.parent / "capacity.json"))
        summary, seconds = measure(path, effort)
        memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1000
        cost = float(summary["cost"].split()[0])
        over = cost / floor
        spent = f"{summary['status']}, {seconds:.1f} s, at most {memory:.0f} MB"
        met = "excellent" if over <= excellent else "yes" if over <= bar else "NO"
        yield (
            f"fleet {adapters:,}, {effort} ({path.name}{made})",
            f"{cost:,.2f} $/h = {over:.3f} of the bound {floor:,.2f}, {spent}",
            f"{bar:.3f}", f"{excellent:.3f}", "NO" if memory > MEMORY else met,
        )  # fmt: skip
    yield from replans(work)


def small(fleet: tuple[Path, str]) -> Row:
    """Prove a fleet of 50."""
    path, made = fleet
    summary, seconds = measure(path, "proof")
    met = summary["status"] == "optimal" and seconds < 10
    return (
        f"fleet 50, proof ({path.name}{made})",
        f"{summary['cost']}, {summary['status']}, {seconds:.1f} s", "optimal, 10 s", "3 s",
        "excellent" if met and seconds < 3 else "yes" if met else "NO",
    )  # fmt: skip


def fleet_of(adapters: int, folder: Path, capacity: Path, work: Path) -> tuple[Path, str]:
    """Return a fleet of a size: the folder's, else one made by the recipe of its family."""
    for path in sorted(folder.rglob(f"fleet_{adapters}_*.json")):
        return path, ""
    path = work / f"fleet_{adapters}.json"
    if not path.exists():
        sold = capacity.read_text(encoding="utf-8")
        (work / "capacity.json").write_text(sold, encoding="utf-8")
        chance = np.random.Generator(np.random.PCG64(1))
        path.write_text(
            json.dumps(instances.fleet(chance, adapters, json.loads(sold))), encoding="utf-8"
        )
    return path, ", made by recipe"


def replans(work: Path) -> Iterator[Row]:
    """Place a declared fleet of 10,000 again: nothing changed, 1 % lost, 50 moves allowed."""
    fleet = work / "declared"
    size = ["--clients", "1000", "--adapters", "10000", "--gpus", "1000", "--seed", "1"]
    cpu_of([sys.executable, "-m", "fleetctl", "scaffold", "synthetic", *size, str(fleet)])
    cpu_of([sys.executable, "-m", "tests.bench.converged", str(fleet)])
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.replan", str(fleet)],
        cwd=REPOSITORY, capture_output=True, text=True, check=True,
    )  # fmt: skip
    cases = json.loads(done.stdout)
    for name, what, most in (
        ("same", "nothing changed", 0), ("some", "1 % lost", 0), ("moves", "50 moves allowed", 50),
    ):  # fmt: skip
        seconds, moved, forced, optional = cases[name]
        met = moved - forced <= most and optional <= most and seconds < 1
        yield (
            f"replan 10,000: {what}",
            f"{seconds:.2f} s, {moved} moved, {forced} forced, {optional} optional",
            f"1 s, {most} moves", "-", "yes" if met else "NO",
        )  # fmt: skip
