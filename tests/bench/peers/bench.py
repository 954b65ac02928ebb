"""What `make bench-peers` prints: our placement beside the rules that peers place by.

    .venv/bin/python -m tests.bench.peers.bench [--adapters 100 300 1000] [--seeds 1 2 3]

For each synthetic fleet: GPUs, their price, copies of adapters that are loaded, copies of adapters
that move when 5 % of the adapters change; in the simulation of `traffic`, the part of a day's
requests that is answered late, and the adapters whose p95 is late, before and after that change;
and how often the placement breaks what is declared, see `breaches`. The second line is ours with
`placement.utilization` lowered to `ROOMY`. Two runs print the same.
"""

import argparse
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

from fleet.capacity.calibration import speed_of
from fleet.capacity.decode_law import largest_batch, step_seconds
from fleet.capacity.demand import hourly_rpm
from fleet.capacity.server import (
    NO_REQUEST_MIX,
    USUAL_PROMPT_WEIGHT,
    memory_of,
    request_mix_of,
    shape_of,
)
from fleet.errors import PlacementError
from fleet.hardware import Speed
from fleet.resources import LoadedAdapter, Server
from fleet.spec import AdapterSpec, FleetSpec
from fleetctl.synthetic import synthesise
from fleetctl.synthetic.population import SyntheticSize
from runtime.project.load import load_project
from tests.bench.peers.breaches import breaches
from tests.bench.peers.dynamo import by_flow, by_hash
from tests.bench.peers.rules import Pod, Rule, all_on_all, first_fit, sites, ten_per_pod
from tests.bench.peers.traffic import PROMPT_STEPS, Caller, Machine, day
from tests.fleet.planning.builders import NOON
from tests.fleet.planning.simulator import World

CHANGED = 20
"""One adapter in so many changes, 5 %."""
PATIENCE = 3.0
"""An answer may take this many times as long as on the same server with nothing else to do."""

ROOMY = 0.6
"""A declared utilization that leaves more room than the usual one."""
RULES: Mapping[str, Rule] = {
    "10 per pod (AIBrix)": ten_per_pod,
    "all on all (production-stack)": all_on_all,
    "rendezvous hashing by demand share, 32 slots (Dynamo)": by_hash,
    "min-cost flow by demand share, 32 slots (Dynamo)": by_flow,
    "first fit by peak, 32 slots": first_fit,
}
FLEETS = ((100, 10), (300, 40), (1000, 100))
"""Adapters and GPUs; hosts of eight alternate between H100, A100 and L40S cards."""


def synthetic(adapters: int, gpus: int, seed: int) -> FleetSpec:
    """Return the fleet that `fleetctl scaffold synthetic` writes."""
    wish = SyntheticSize(max(adapters // 10, 1), adapters, gpus, seed)
    with tempfile.TemporaryDirectory() as folder:
        for name, text in synthesise(wish)[0].items():
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return load_project(Path(folder), None, {}).fleet


def before_and_after(fleet: FleetSpec) -> tuple[FleetSpec, FleetSpec]:
    """Return a fleet, and the same after one adapter in `CHANGED` has changed.

    Of those a third asks twice as much, a third is gone, and a third is new.
    """
    aliases = sorted(fleet.adapters)[::CHANGED]
    doubled, gone, come = (set(aliases[first::3]) for first in range(3))
    every = dict(fleet.adapters)
    first = {alias: each for alias, each in every.items() if alias not in come}
    second = {
        alias: _doubled(each) if alias in doubled else each
        for alias, each in every.items()
        if alias not in gone
    }
    return replace(fleet, adapters=first), replace(fleet, adapters=second)


def _doubled(adapter: AdapterSpec) -> AdapterSpec:
    demand = adapter.demand
    assert demand is not None
    return replace(adapter, demand=replace(demand, peak_rpm=2 * demand.peak_rpm))


def ours(fleets: Sequence[FleetSpec]) -> list[list[Pod]]:
    """Return what `plan` and `apply` bring about for one fleet after the other."""
    world = World(NOON)
    found = []
    for fleet in fleets:
        world.apply(world.plan(fleet))
        found.append(_pods(fleet, world))
    return found


def _pods(fleet: FleetSpec, world: World) -> list[Pod]:
    held: dict[str, list[str]] = defaultdict(list)
    for each in world.resources.values():
        if isinstance(each, LoadedAdapter):
            held[each.server].append(each.adapter.rpartition("-")[0].rpartition("-")[0])
    devices = {
        (host.name, each.name): each for host in fleet.hosts.values() for each in host.devices
    }
    pods = []
    for server in world.resources.values():
        if isinstance(server, Server):
            assert server.flags is not None
            cards = [devices[server.host, each] for each in server.devices]
            shape = shape_of(fleet.bases[server.base], cards[0], server.flags)
            price = sum(each.price_per_hour for each in cards)
            pods.append(Pod(server.name, shape, held[server.name], price))
    return pods


def theirs(rule: Rule, fleets: Sequence[FleetSpec]) -> list[list[Pod]]:
    """Return what a peer's rule brings about for one fleet after the other."""
    found: list[list[Pod]] = [[]]
    for fleet in fleets:
        found.append([pod for site in sites(fleet) for pod in rule(site, found[-1])])
    return found[1:]


def moves(fleets: Sequence[FleetSpec], placed: Sequence[Sequence[Pod]]) -> int:
    """Return the loads, on servers that did not hold them, of adapters that there were before."""
    old, new = ({(pod.name, alias) for pod in each for alias in pod.adapters} for each in placed)
    return sum(alias in fleets[0].adapters for _, alias in new - old)


def machines(fleet: FleetSpec, pods: Sequence[Pod]) -> list[Machine]:
    """Return the servers of a placement with the requests they get."""
    habits = request_mix_of(fleet.adapters.values())
    copies: dict[str, int] = defaultdict(int)
    for pod in pods:
        for alias in pod.adapters:
            copies[alias] += 1
    found = []
    for pod in pods:
        base = pod.shape.base
        speed, kv_tokens = _speed(fleet, pod), memory_of(pod.shape).kv_tokens
        context = habits.get(base.name, NO_REQUEST_MIX).context
        callers = tuple(
            _caller(fleet.adapters[alias], copies[alias], step_seconds(speed, 1, 1))
            for alias in sorted(pod.adapters)
        )
        batch = largest_batch(kv_tokens or 0, context)
        found.append(Machine(pod.name, speed, pod.shape.slots, batch, callers))
    return found


def _speed(fleet: FleetSpec, pod: Pod) -> Speed:
    shape = pod.shape
    found, _ = speed_of(fleet.profiles, shape.base, shape.device, shape.tensor_parallel, shape.rank)
    assert found is not None
    return found


def _caller(adapter: AdapterSpec, copies: int, step_s: float) -> Caller:
    """Return an adapter's requests to one of its servers, whose idle steps take `step_s`.

    Late is what takes longer than promised, and longer than `PATIENCE` times what an idle server of
    this kind takes: uncalibrated servers are slow, and that is no fault of a placement.
    """
    demand = adapter.demand
    rates = tuple(each / 60 / copies for each in hourly_rpm(demand))
    assert demand is not None
    prompt = USUAL_PROMPT_WEIGHT * demand.prompt_tokens
    alone = (PROMPT_STEPS + demand.output_tokens) * step_s
    return Caller(
        adapter.alias, rates, prompt, demand.output_tokens, max(adapter.slo_s, PATIENCE * alone)
    )


def row(name: str, fleets: Sequence[FleetSpec], placed: Sequence[Sequence[Pod]]) -> str:
    """Return a line of the table."""
    late = [day(machines(fleet, pods)) for fleet, pods in zip(fleets, placed, strict=True)]
    first = placed[0]
    cards = sum(each.shape.tensor_parallel for each in first)
    price = sum(each.price for each in first)
    copies = sum(len(each.adapters) for each in first)
    broken = ", ".join(f"{count} {rule}" for rule, count in breaches(fleets[0], first).items())
    return (
        f"| {name} | {cards} | {price:.2f} | {copies:,} | {moves(fleets, placed):,} | "
        f"{100 * late[0].part:.1f} % | {late[0].broken} | {late[1].broken} | {broken or 'none'} |"
    )


def main() -> None:
    """Print a table per fleet, in Markdown."""
    parser = argparse.ArgumentParser(description="Compare our placement with peers' rules.")
    parser.add_argument("--adapters", type=int, nargs="+", default=[each for each, _ in FLEETS])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    options = parser.parse_args()
    for adapters, seed in product(options.adapters, options.seeds):
        gpus = dict(FLEETS).get(adapters, max(8, adapters // 10))
        fleets = before_and_after(synthetic(adapters, gpus, seed))
        print(f"\n{adapters:,} adapters, seed {seed}\n")
        print("| placed by | GPUs | $/h | copies | moves | late | SLO broken | after | breaks |")
        print("|---|---|---|---|---|---|---|---|---|")
        print(row("fleetctl", fleets, ours(fleets)), flush=True)
        roomy = [replace(each, policy=replace(each.policy, utilization=ROOMY)) for each in fleets]
        try:
            print(row(f"fleetctl, utilization {ROOMY:.0%}", roomy, ours(roomy)), flush=True)
        except PlacementError as error:
            said = error.diagnostics[0].summary
            print(f"| fleetctl, utilization {ROOMY:.0%} | {said} | | | | | | | |")
        for name, rule in RULES.items():
            print(row(name, fleets, theirs(rule, fleets)), flush=True)


if __name__ == "__main__":
    main()
