"""Saving moves: `--repack` and `--max-moves` find a way on fleets whose demand has changed."""

from dataclasses import replace
from random import Random

import pytest

from fleet.errors import PlacementError
from fleet.hardware import HostSpec
from fleet.history.fold import fold_entries
from fleet.placement.model.state import SearchLimits
from fleet.plan import Plan
from fleet.planning.pipeline import make_plan
from fleet.spec import AdapterSpec, DemandSpec, FleetSpec, PlacementPolicy
from tests.drawn import long
from tests.fleet.placement.placements import LLAMA, PROFILE
from tests.fleet.planning.builders import (
    GIB,
    NOON,
    adapter,
    base,
    device,
    fleet,
    history,
    state,
)
from tests.fleet.planning.simulator import World

KINDS = {"h100_80g": (80, 4.0), "a100_80g": (80, 2.5), "rtx4090_24g": (24, 0.5)}
BASES = (
    LLAMA,
    replace(LLAMA, name="second"),
    replace(LLAMA, name="mini", tensor_parallel=2),
    base("tiny"),
)
PROFILES = tuple(
    replace(PROFILE, base=name, kind=kind, max_lora_rank=rank, tensor_parallel=cards)
    for name, cards in (("llama", 1), ("second", 1), ("mini", 2))
    for kind in KINDS
    for rank in (8, 64)
)
CHANGES = (1 / 3, 0.5, 2, 3)


def adapters(chance: Random, number: int) -> AdapterSpec:
    base_ = chance.choice(("llama", "llama", "second", "mini", "tiny"))
    hours = chance.choice(((0, 24), (9, 17), (22, 4)))
    demand = DemandSpec(peak_rpm=chance.choice((20, 60, 200, 400, 700)), hours=hours)
    return adapter(
        f"c{number % 7}-t{number}-{base_}-v1.0.0",
        replicas=chance.choice((1, 1, 1, 2)),
        demand=demand if chance.random() < 0.9 else None,
        spread=chance.choice(("device", "device", "host")),
        residency=chance.choice(("pinned", "pinned", "pinned", "cached")),
        isolation=chance.choice(("shared",) * 9 + ("client",)),
    )


def hosts(chance: Random, number: int) -> HostSpec:
    kinds = [chance.choice(tuple(KINDS)) for _ in range(chance.randint(2, 6))]
    return HostSpec(f"h{number}", "fake", tuple(
        device(f"g{index}", kind=kind, memory=KINDS[kind][0] * GIB, price=KINDS[kind][1],
               port=8000 + index)
        for index, kind in enumerate(kinds)
    ))  # fmt: skip


def fleets(chance: Random) -> FleetSpec:
    wanted = [adapters(chance, number) for number in range(chance.randint(3, 9))]
    policy = PlacementPolicy(
        utilization=chance.choice((0.5, 0.7)),
        canary_slots=chance.choice((0, 0, 1)),
        share_devices=chance.random() < 0.3,
    )
    machines = [hosts(chance, number) for number in range(chance.randint(2, 4))]
    ranks = {str(each.name): chance.choice((8, 8, 16, 64)) for each in wanted}
    made = fleet(*wanted, bases=BASES, hosts=machines, ranks=ranks, policy=policy)
    return replace(made, profiles=PROFILES)


def changed(of: FleetSpec, chance: Random) -> FleetSpec:
    """Change the demand of all adapters alike, or of every adapter otherwise."""
    parts = (chance.choice(CHANGES),) if chance.random() < 0.6 else CHANGES
    return replace(of, adapters={
        alias: replace(each, demand=replace(
            each.demand, peak_rpm=chance.choice(parts) * each.demand.peak_rpm))
        if each.demand else each
        for alias, each in of.adapters.items()
    })  # fmt: skip


def cost(plan: Plan) -> float:
    assert plan.cost_after is not None
    return plan.cost_after


def running(chance: Random) -> tuple[FleetSpec, World]:
    """Return a fleet that fits, and the world in which it runs."""
    while True:
        declared, world = fleets(chance), World(NOON)
        try:
            world.apply(world.plan(declared))
        except PlacementError:
            continue
        return declared, world


@pytest.mark.parametrize("seed", [17, 48, 130, 148, *long(*range(16), 151)])
def test_saving_moves_find_a_way_and_cost_at_most_what_they_should(seed: int) -> None:
    chance = Random(seed)  # noqa: S311 (draws fleets)
    declared, world = running(chance)
    after, live, past = changed(declared, chance), world.live(), fold_entries(world.entries)

    def planned(search: SearchLimits) -> Plan:
        return make_plan(after, live, past, NOON, search)

    try:
        cold = make_plan(after, state(), history(), NOON)
    except PlacementError:
        return  # more demand than all devices carry
    afresh = planned(SearchLimits(repack=True))
    assert cost(afresh) <= cost(cold) + 1e-9
    try:
        kept = planned(SearchLimits())
    except PlacementError:
        kept = None
    if kept:
        assert cost(afresh) <= cost(kept) + 1e-9
        costs = [cost(kept)]
        for most in (1, 2, 4, 7):
            plan = planned(SearchLimits(max_moves=most))
            assert sum(not move.forced for move in plan.moves) <= most
            costs.append(cost(plan))
        assert costs == sorted(costs, reverse=True)
    world.plan(after)
    world.apply(afresh, backwards=bool(seed % 2))
