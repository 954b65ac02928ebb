"""What `make bench-placement` prints: one line for each acceptance figure of the packers.

    .venv/bin/python -m tests.bench.acceptance FOLDER [--only GROUP ...]

FOLDER holds samples as `tests.bench.placement` reads them: `vbp`, `planted` and `fleets` with
`capacity.json`. What it lacks is made by a recipe, and the line says so. Each instance runs in a
process of its own, as `fleetctl pack`; seconds are CPU time, user and system, the worst of a line.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fleet.packing import Effort
from tests.bench import instances, plain_search, published
from tests.bench.fleets import fleet_rows
from tests.bench.placement import REPOSITORY, known_columns, measure

CAPACITY = REPOSITORY / "tests" / "fleet" / "packing" / "instances" / "capacity.json"


@dataclass(frozen=True, slots=True)
class Line:
    """One acceptance figure."""

    check: str
    ours: str
    bar: str
    excellent: str
    met: str


def verdict(value: float, bar: float, excellent: float | None = None) -> str:
    """Say whether a figure, the lower the better, is at the bar or better."""
    if excellent is not None and value <= excellent:
        return "excellent"
    return "yes" if value <= bar else "NO"


def gap(values: Sequence[tuple[int, float]]) -> float:
    """Return the mean excess over what is known, in percent."""
    return 100 * sum(ours / best - 1 for ours, best in values) / len(values)


def two_peaked(folder: Path, work: Path) -> Iterator[Line]:
    """Compare with the published optimum, else the published bound, and best heuristic."""
    rows = known_columns(folder, "best_heuristic")
    paths = [path for path in sorted(folder.rglob("*.vbp")) if path.name in rows]
    against, worse, proven, worst, own = [], 0, 0, 0.0, []
    if not paths:
        paths = written(published.two_peaks(1), work / "peaks")
    for path in paths:
        summary, seconds = measure(path, "balanced")
        bins, row = int(summary["bins"]), rows.get(path.name, {})
        own.append((bins, int(summary["bound"])))
        best = row.get("opt", "-1")
        against.append((bins, float(best if best != "-1" else row.get("lb", summary["bound"]))))
        worse += bins > int(row.get("best_heuristic", bins))
        proven += summary["status"] == "optimal"
        worst = max(worst, seconds)
    name = "published sample" if rows else "made by recipe: classes 4 to 6"
    figure = gap(against)
    yield Line(
        f"Mommessin, {len(paths)} ({name})",
        f"+{figure:.2f} %, {worse} worse, {proven} proven, +{gap(own):.2f} % over proven bounds, "
        f"{worst:.1f} s",
        "+3.5 %, 0 worse", "+2.3 %",
        "NO" if worse else verdict(figure, 3.5, 2.3),
    )  # fmt: skip


def written(cases: Iterator[published.Case], folder: Path) -> list[Path]:
    """Write vectors to files."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, case in enumerate(cases):
        path = folder / f"{number:03}.vbp"
        head = [str(len(case.capacity)), " ".join(map(str, case.capacity)), str(len(case.sizes))]
        rows = [" ".join(map(str, [*row, 1])) for row in case.sizes]
        path.write_text("\n".join(head + rows) + "\n", encoding="utf-8")
        paths.append(path)
    return paths


def two_dimensional(work: Path) -> Iterator[Line]:
    """Pack the classes of Caprara and Toth; the bound stands for the optimum."""
    found, proven, worst = [], 0, 0.0
    for path in written(published.two_dimensional(3), work / "two"):
        summary, seconds = measure(path, "balanced")
        found.append((int(summary["bins"]), float(summary["bound"])))
        proven += summary["status"] == "optimal"
        worst = max(worst, seconds)
    share = proven / len(found)
    yield Line(
        f"CT01, {len(found)} (made by recipe; bound for optimum)",
        f"+{gap(found):.2f} %, {proven} optimal, {worst:.1f} s",
        "+1.0 %, 78 % optimal", "-",
        "NO" if share < 75 / 96 else verdict(gap(found), 1.0),
    )  # fmt: skip


def planted(folder: Path, work: Path) -> Iterator[Line]:
    """Find bins that are planted in 26 dimensions."""
    optima = known_columns(folder, "opt")
    paths = {int(path.stem.split("_")[1]): path for path in folder.rglob("planted_*_s*.vbp")}
    made = " (made by recipe)" if not paths else ""
    if made:
        (work / "planted").mkdir()
        chance = np.random.Generator(np.random.PCG64(1))
        for bins, each in ((4, 13), (8, 20), (20, 20), (50, 20), (320, 31)):
            rows = instances.planted(chance, bins, each)
            path = work / "planted" / f"{bins}.vbp"
            path.write_text(instances.vbp(rows, 1000), encoding="utf-8")
            paths[len(rows)] = path
            optima[path.name] = {"opt": str(bins)}
    small = {items: path for items, path in paths.items() if items <= 535}
    exact = sum(measure(p, "balanced")[0]["bins"] == optima[p.name]["opt"] for p in small.values())
    yield Line(
        f"planted, up to 535 items, {len(small)}{made}", f"optimum on {exact}",
        "4 of 5", "all", verdict(len(small) - exact, len(small) / 5, 0),
    )  # fmt: skip
    cases = [("balanced", 6.0, 1.0)], [("fast", 10.6, 1.0), ("balanced", 7.0, 1.0)]
    for path, efforts in zip([paths[each] for each in sorted(paths)[-2:]], cases, strict=True):
        for effort, bar, excellent in efforts:
            summary, seconds = measure(path, effort)
            more = 100 * (int(summary["bins"]) / int(optima[path.name]["opt"]) - 1)
            yield Line(
                f"planted, {path.stem}, {effort}{made}", f"+{more:.1f} %, {seconds:.1f} s",
                f"+{bar} %", f"+{excellent} %", verdict(more, bar, excellent),
            )  # fmt: skip


def with_setups() -> Iterator[Line]:
    """Pack the 480 instances with set-ups, in one process."""
    code = "from tests.bench.acceptance import setups_total; print(*setups_total())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    total, seconds = done.stdout.split()
    more = 100 * (int(total) / published.BEST_KNOWN - 1)
    yield Line(
        "BPPS, 480 (the published ones, by their recipe)",
        f"{int(total):,}: +{more:.2f} % over best known, {float(seconds) / 480:.2f} s each",
        "+1.0 %", "-", verdict(more, 1.0),
    )  # fmt: skip


def setups_total() -> tuple[int, float]:
    """Return the sum of costs and the CPU seconds."""
    import time  # noqa: PLC0415 (in a process of its own)

    from fleet.packing import pack_setups  # noqa: PLC0415

    began, total = time.process_time(), 0
    for instance in published.with_setups():
        total += pack_setups(instance).cost
    return total, time.process_time() - began


def reproducible() -> Iterator[Line]:
    """Run the test of it."""
    test = "tests/fleetctl/declarations/test_reproducible.py"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", "--tb=no", test], cwd=REPOSITORY,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    yield Line(
        f"reproducibility: {test}", done.stdout.strip().splitlines()[-1].strip("= "),
        "same bytes, 2 Pythons", "-",
        "yes" if done.returncode == 0 and "skipped" not in done.stdout else "NO",
    )  # fmt: skip


PLANS: tuple[tuple[int, int, Effort, float], ...] = (
    (300, 7, "balanced", 15),
    (300, 8, "balanced", 15),
    (1_000, 7, "balanced", 15),
    (3_000, 7, "balanced", 15),
    (3_000, 8, "balanced", 15),
    (10_000, 7, "fast", 0),
)
"""Adapters, seed, effort, and CPU seconds of ruin-and-recreate."""


def plans() -> Iterator[Line]:
    """Plan synthetic fleets, and place them by first fit and by a naive search."""
    for adapters, seed, effort, seconds in PLANS:
        case = plain_search.Case(adapters, seed, effort, seconds)
        for other, figure, ratio, bar in case.rows():
            yield Line(
                f"plan, {adapters:,} seed {seed}, {effort}: over {other}",
                f"{figure}: {ratio:.3f}", f"{bar:.2f}", "-", verdict(ratio, bar),
            )  # fmt: skip


def elsewhere() -> Iterator[Line]:
    """Name the commands of the figures that are printed elsewhere."""
    yield Line("throughput and VRAM law", "see `make bench-physics`", "3 %, 1 %", "-", "-")
    yield Line(
        "infeasible fleets, 20", "see tests/fleet/advice/test_advisor.py", "20 of 20", "-", "-"
    )


def main() -> None:
    """Print the lines as they are measured."""
    parser = argparse.ArgumentParser(description="Print the acceptance figures of the packers.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="*", default=[], help="Groups, such as vectors or fleets.")
    options = parser.parse_args()
    print("check | ours | bar | excellent | met?\n---|---|---|---|---")
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        sold = next(iter(sorted(options.folder.rglob("capacity.json"))), CAPACITY)
        groups: dict[str, Callable[[], Iterator[Line]]] = {
            "vectors": lambda: two_peaked(options.folder, work),
            "two": lambda: two_dimensional(work),
            "planted": lambda: planted(options.folder, work),
            "setups": with_setups,
            "fleets": lambda: (Line(*row) for row in fleet_rows(options.folder, sold, work)),
            "plans": plans,
            "reproducible": reproducible,
            "elsewhere": elsewhere,
        }
        for group in options.only or groups:
            for line in groups[group]():
                print(
                    line.check, line.ours, line.bar, line.excellent, line.met, sep=" | ", flush=True
                )


if __name__ == "__main__":
    main()
