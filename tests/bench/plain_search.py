"""First fit and a naive search under the laws of the plan: what a reader would write in an hour.

    .venv/bin/python -m tests.bench.plain_search ADAPTERS:SEED ... [--effort balanced] [--table]

For each synthetic fleet, the price of `place` beside those of first-fit decreasing (by rank, then
peak; the strongest or the cheapest server is opened first, the better of both counts; servers are
downsized at the end) and of ruin-and-recreate from there, for `SECONDS` of CPU time. All keep
canary slots free and have the same devices.
"""

import argparse
import resource
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from fleet.capacity import NO_REQUEST_MIX, throughput_of
from fleet.history.values import History
from fleet.packing import Effort
from fleet.placement.model.items import ACTIVE_UNIT, RATE_UNIT, Item
from fleet.placement.model.server_types import every_server_type, rank_bucket_of, shape_for
from fleet.placement.model.state import PlacementState, SearchLimits
from fleet.placement.phases.keep import placement_state_of
from fleet.placement.search import place
from fleet.resources import State
from fleet.rollouts.decide import decide_rollouts
from tests.bench.converged import NOW
from tests.bench.peers.bench import synthetic

SECONDS = 15.0
"""CPU seconds of ruin-and-recreate."""
GPUS = 0.075
"""GPUs per adapter of the fleets."""
MOST = 128
"""Most adapters on a server."""
SMALL, BARS = 300, (1.12, 1.15)
"""Most adapters of a small fleet; highest ratio of its plan's price to the bound, and of others."""


@dataclass(slots=True, eq=False)
class Bin:
    """A server: base, type, and what is on it."""

    base: str
    kind: int
    items: list[Item] = field(default_factory=list)


class PlainSearch:
    """Servers of a fleet, filled item by item."""

    def __init__(self, state: PlacementState) -> None:
        """Start with all devices free."""
        self.state = state
        self.fleet = state.fleet
        devices = [device for host in self.fleet.hosts.values() for device in host.devices]
        self.free: dict[str, int] = defaultdict(int)
        for device in devices:
            self.free[device.kind] += 1
        bases = self.fleet.bases.items()
        self.types = {name: every_server_type(self.fleet, base) for name, base in bases}
        self.limits: dict[tuple[str, int, int, int], tuple[float, float]] = {}
        self.bins: list[Bin] = []

    def limit(self, base: str, kind: int, rank: int, count: int) -> tuple[float, float]:
        """Return the tokens a second, and the slow-down by a further active adapter; 0: no room."""
        key = base, kind, rank, count
        if key not in self.limits:
            spec, server_type = self.fleet.bases[base], self.types[base][kind]
            shape = shape_for(self.fleet, spec, server_type, rank, count)
            mix = self.state.hardware.request_mixes.get(base, NO_REQUEST_MIX)
            rate = shape and throughput_of(
                shape, mix, self.fleet.profiles, self.fleet.policy.utilization
            )
            self.limits[key] = (rate.limit, rate.spread) if rate else (0.0, 0.0)
        return self.limits[key]

    def holds(self, base: str, kind: int, items: list[Item]) -> bool:
        """Say whether a server of a type holds these items."""
        if len(items) > MOST:
            return False
        rank = max(rank_bucket_of(self.fleet.bases[base], item) for item in items)
        limit, spread = self.limit(base, kind, rank, len(items))
        tokens = sum(item.load.tokens for item in items) / RATE_UNIT
        active = sum(item.load.active for item in items) / ACTIVE_UNIT
        return bool((tokens * (1 + spread * np.maximum(active - 1, 0)) <= limit).all())

    def takes(self, each: Bin, item: Item) -> bool:
        """Say whether a server holds a further item."""
        return item not in each.items and self.holds(each.base, each.kind, [*each.items, item])

    def put(self, item: Item, order: list[int], among: list[Bin]) -> bool:
        """Put an item on the first server that holds it, or on a new one of the first such type."""
        for each in among:
            if each.base == item.base and self.takes(each, item):
                each.items.append(item)
                return True
        for kind in order:
            if self.has(item.base, kind) and self.holds(item.base, kind, [item]):
                among.append(self.opened(Bin(item.base, kind, [item])))
                return True
        return False

    def has(self, base: str, kind: int) -> bool:
        """Say whether there are devices for a further server."""
        needed = self.types[base][kind]
        return self.free[needed.device.kind] >= needed.tensor_parallel

    def opened(self, each: Bin) -> Bin:
        """Take the devices of a server."""
        server_type = self.types[each.base][each.kind]
        self.free[server_type.device.kind] -= server_type.tensor_parallel
        return each

    def close(self, each: Bin) -> None:
        """Give the devices of a server back."""
        server_type = self.types[each.base][each.kind]
        self.free[server_type.device.kind] += server_type.tensor_parallel

    def price(self, bins: list[Bin]) -> float:
        """Return the price of servers."""
        return sum(self.types[each.base][each.kind].price for each in bins)

    def downsize(self, bins: list[Bin]) -> None:
        """Give every server the cheapest free type that holds its items."""
        for each in bins:
            old = each.kind
            self.close(each)
            each.kind = next(
                kind
                for kind in range(len(self.types[each.base]))
                if kind == old
                or (self.has(each.base, kind) and self.holds(each.base, kind, each.items))
            )
            self.opened(each)

    def first_fit(self, *, strongest: bool) -> float:
        """Place everything by rank, then peak; return the price, infinite where devices run out."""
        items = [item for item in self.state.items.values() for _ in range(item.replicas)]
        items.sort(key=lambda item: (-item.rank, -item.peak, item.adapter))
        pools: dict[str, list[Bin]] = {base: [] for base in self.types}
        for item in items:
            kinds = list(range(len(self.types[item.base])))
            if not self.put(item, kinds[::-1] if strongest else kinds, pools[item.base]):
                return float("inf")
        self.bins = [each for pool in pools.values() for each in pool]
        self.downsize(self.bins)
        return self.price(self.bins)

    def ruin_and_recreate(self, seconds: float) -> float:
        """Empty a few servers of a base and place their items again, as long as there is time."""
        rng = np.random.Generator(np.random.PCG64(0))
        until = time.process_time() + seconds
        while time.process_time() < until:
            base = self.bins[int(rng.integers(len(self.bins)))].base
            pool = [each for each in self.bins if each.base == base]
            number = min(len(pool), 1 + int(rng.integers(4)))
            gone = [pool[index] for index in rng.permutation(len(pool))[:number].tolist()]
            kept = [Bin(base, each.kind, list(each.items)) for each in pool if each not in gone]
            items = [item for each in gone for item in each.items]
            noise = dict(zip(map(id, items), rng.random(len(items)).tolist(), strict=False))
            items.sort(key=lambda item: (-item.rank, -item.peak * (0.5 + noise[id(item)])))
            for each in gone:
                self.close(each)
            order = rng.permutation(len(self.types[base])).tolist()
            kept = [kept[index] for index in rng.permutation(len(kept)).tolist()]
            done = all(self.put(item, order, kept) for item in items)
            new = kept[len(pool) - number :]
            if done:
                self.downsize(new)
            if done and self.price(new) <= self.price(gone):
                self.bins = [each for each in self.bins if each.base != base] + kept
            else:
                for each in new:
                    self.close(each)
                for each in gone:
                    self.opened(each)
        return self.price(self.bins)


@dataclass(frozen=True, slots=True)
class Case:
    """A synthetic fleet, and the work that is spent on it."""

    adapters: int
    seed: int
    effort: Effort
    seconds: float = SECONDS
    """CPU seconds of ruin-and-recreate; 0: none."""

    def rows(self) -> Iterator[tuple[str, str, float, float]]:
        """Yield what the plan is compared with, both prices, their ratio and its bar."""
        fleet = synthetic(self.adapters, max(round(GPUS * self.adapters), 30), self.seed)
        targets = decide_rollouts(fleet, State(), History(), NOW)
        began = time.process_time()
        placement = place(fleet, targets, State(), SearchLimits(effort=self.effort))
        took = time.process_time() - began
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
        ours = f"{placement.price:.2f} in {took:.1f} s, {memory:.0f} MB"
        searches = [PlainSearch(placement_state_of(fleet, targets, State())) for _ in range(2)]
        began = time.process_time()
        firsts = [
            search.first_fit(strongest=strongest)
            for search, strongest in zip(searches, (True, False), strict=True)
        ]
        first, spent = min(firsts), time.process_time() - began
        yield "first fit", f"{ours}; {first:.2f} in {spent:.1f} s", placement.price / first, 1.0
        if self.seconds and np.isfinite(first):
            best = searches[firsts.index(first)].ruin_and_recreate(self.seconds)
            yield "ruin and recreate", f"{best:.2f}", placement.price / best, 1.01
        yield (
            "its bound",
            f"{placement.bound:.2f}",
            placement.price / placement.bound,
            BARS[self.adapters > SMALL],
        )

    def row(self) -> str:
        """Return a row of a table: prices of plan, first fit, search and bound."""
        prices = {}
        for other, figure, ratio, _ in self.rows():
            if other == "first fit":
                prices["plan"] = figure.split()[0]
            prices[other] = f"{float(prices['plan']) / ratio:.2f}" if ratio else "none"
        order = "plan", "first fit", "ruin and recreate", "its bound"
        cells = (prices.get(name, "none") for name in order)
        return f"| {self.adapters:,} | {self.seed} | {' | '.join(cells)} |"


def main() -> None:
    """Print lines for each fleet."""
    parser = argparse.ArgumentParser(description="Compare plans with first fit and a naive search.")
    parser.add_argument("fleets", nargs="+", help="ADAPTERS:SEED")
    parser.add_argument("--effort", choices=["fast", "balanced", "proof"], default="fast")
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--table", action="store_true", help="Print a row for each fleet.")
    options = parser.parse_args()
    for fleet in options.fleets if options.table else ():
        adapters, seed = map(int, fleet.split(":"))
        print(Case(adapters, seed, options.effort, options.seconds).row(), flush=True)
    for fleet in () if options.table else options.fleets:
        adapters, seed = map(int, fleet.split(":"))
        for other, figure, ratio, bar in Case(
            adapters, seed, options.effort, options.seconds
        ).rows():
            met = "" if ratio <= bar else "  above the bar"
            print(f"{fleet} {options.effort}, {other}: {figure}: {ratio:.3f}{met}", flush=True)


if __name__ == "__main__":
    main()
