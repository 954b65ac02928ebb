"""Plan live fleets after a change of demand or the loss of a host; count plans that fail a check.

    .venv/bin/python -m tests.bench.live_fleets [--sizes 300 1000] [--seeds 1 2 3] [--growths 1.5]

`make bench-live` plays seed 1. A line for each fleet, growth, loss and search: versions that move,
the codes of an error of placement, or `FAILED` with what the plan's own check says; and seconds of
CPU. Ends with 1 where a plan failed its check. The fleets are those of `scaffold synthetic`, live
as planned from nothing.
"""

import argparse
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from random import Random

from fleet.errors import FleetError, PlacementError
from fleet.history.values import History
from fleet.placement.model.state import SearchLimits
from fleet.planning.pipeline import NO_WAY, desired_state, make_plan
from fleet.resources import LoadedAdapter, Server, State
from fleet.spec import FleetSpec
from tests.bench.peers.bench import synthetic
from tests.fleet.planning.builders import NOON

SEARCHES: Mapping[str, SearchLimits] = {
    "plan": SearchLimits(),
    "--max-moves 50": SearchLimits(max_moves=50),
    "--repack": SearchLimits(repack=True),
}
LOSSES = ("nothing", "gone", "away", "silent", "undeclared", "restarted")
"""What happens to the first host: its servers end, its machine goes, its servers do not answer, it
leaves the declarations, or its servers start again without adapters."""
GROWTHS = (0.3, 0.7, 1.0, 1.2, 1.5, 2.0, 3.0)
GPUS: Mapping[int, int] = {300: 40, 1000: 100}
"""By number of adapters."""


@dataclass(frozen=True, slots=True)
class LiveFleet:
    """A synthetic fleet, live as it was planned from nothing."""

    fleet: FleetSpec
    live: State
    seed: int


def live_fleet(adapters: int, gpus: int, seed: int) -> LiveFleet | None:
    """Return a live fleet; None: it has no room for all of its adapters."""
    fleet = synthetic(adapters, gpus, seed)
    try:
        return LiveFleet(fleet, desired_state(fleet, State(), History(), NOON), seed)
    except PlacementError:
        return None


@dataclass(frozen=True, slots=True)
class Replanned:
    """What came of a plan of a live fleet."""

    faults: tuple[str, ...]
    """What the plan's own check found: mistakes of fleetctl, never of declarations."""
    outcome: str
    """`planned` with the number of moves, or the codes of an error of placement.

    `servers emptied instead`: the steps of a `--repack` failed their check.
    """


def replanned(made: LiveFleet, growth: float, *, uneven: bool, loss: str, search: str) -> Replanned:
    """Plan a fleet whose demand has grown, and whose first host is lost.

    `uneven`: each adapter grows by a draw of its own between 0.3 and `growth`.
    """
    chance = Random(made.seed)  # noqa: S311 (made-up demand, not secrets)
    adapters = dict(made.fleet.adapters)
    for alias, adapter in sorted(adapters.items()):
        if adapter.demand is not None and adapter.demand.peak_rpm:
            times = chance.uniform(0.3, growth) if uneven else growth
            demand = replace(adapter.demand, peak_rpm=times * adapter.demand.peak_rpm)
            adapters[alias] = replace(adapter, demand=demand)
    fleet, live = _without(replace(made.fleet, adapters=adapters), made.live, loss)
    try:
        plan = make_plan(fleet, live, History(), NOON, SEARCHES[search])
    except FleetError as error:
        codes = sorted({each.code for each in error.diagnostics})
        faults = (each.detail for each in error.diagnostics if each.code == "FC2090")
        return Replanned(tuple(faults), " ".join(codes))
    emptied = any(note.text == NO_WAY for note in plan.warnings)
    instead = ", servers emptied instead" if emptied else ""
    return Replanned((), f"planned, {len(plan.moves)} moves{instead}")


def _without(fleet: FleetSpec, live: State, loss: str) -> tuple[FleetSpec, State]:
    """Return the declarations and the live state after a loss of the first host."""
    host = min(fleet.hosts)
    lost = {name for name, server in live.servers().items() if server.host == host}

    def stays(resource: object) -> bool:
        if loss != "restarted" and isinstance(resource, Server):
            return resource.name not in lost
        return not (isinstance(resource, LoadedAdapter) and resource.server in lost)

    rest = {address: each for address, each in live.resources.items() if stays(each)}
    match loss:
        case "nothing":
            return fleet, live
        case "silent":
            return fleet, replace(live, resources=rest, unknown_servers=dict.fromkeys(lost, "lost"))
        case "away":
            return fleet, replace(live, resources=rest, away_hosts={host: "the node is gone"})
        case "undeclared":
            hosts = {name: each for name, each in fleet.hosts.items() if name != host}
            return replace(fleet, hosts=hosts), live
        case _:
            return fleet, replace(live, resources=rest)


def main() -> int:
    """Play all fleets, and print a line for each plan."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", type=int, nargs="+", default=sorted(GPUS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--growths", type=float, nargs="+", default=GROWTHS)
    parser.add_argument("--losses", nargs="+", choices=LOSSES, default=LOSSES)
    parser.add_argument("--searches", nargs="+", choices=SEARCHES, default=sorted(SEARCHES))
    options = parser.parse_args()
    failed = 0
    for size, seed in product(options.sizes, options.seeds):
        made = live_fleet(size, GPUS.get(size, size // 10), seed)
        if made is None:
            print(f"{size} adapters, seed {seed}: no room from the start")
            continue
        for growth, loss, search in product(options.growths, options.losses, options.searches):
            began = time.process_time()
            done = replanned(made, growth, uneven=False, loss=loss, search=search)
            spent = time.process_time() - began
            failed += bool(done.faults)
            outcome = f"FAILED: {'; '.join(done.faults)}" if done.faults else done.outcome
            print(
                f"{size} adapters, seed {seed}, demand x{growth:g}, host: {loss}, {search}: "
                f"{outcome}, {spent:.1f} s", flush=True,
            )  # fmt: skip
    print(f"{failed} plans failed their own check")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
