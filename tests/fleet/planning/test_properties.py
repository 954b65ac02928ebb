"""What holds of every placement, on small fleets drawn at random.

The same few each time, so that a run is quick and repeats. More of them, drawn anew each time:

    FLEETCTL_EXAMPLES=500 .venv/bin/python -m pytest tests/fleet/planning/test_properties.py
"""

import os
from collections.abc import Mapping
from dataclasses import replace
from random import Random
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st

from fleet.errors import PlacementError
from fleet.hardware import DeviceSpec, HostSpec
from fleet.history.fold import fold_entries
from fleet.placement.model.state import PlacementResult
from fleet.placement.search import place
from fleet.placement.verify import verify_placement
from fleet.placement.verify.steps import verify_steps
from fleet.plan import Plan
from fleet.planning.pipeline import make_plan
from fleet.resources import State
from fleet.rollouts.decide import decide_rollouts
from fleet.spec import AdapterSpec, DemandSpec, FleetSpec, PlacementPolicy
from tests.drawn import drawn, examples
from tests.fleet.placement.placements import LLAMA, PROFILE
from tests.fleet.planning.builders import GIB, NOON, adapter, base, device, fleet, history, state
from tests.fleet.planning.simulator import World

Named = TypeVar("Named")
TASKS = ("acme-a", "acme-b", "birch-a", "birch-b", "cedar-a", "dune-a", "dune-b")
KINDS = {
    "h100_80g": (80, 4.0),
    "a100_80g": (80, 2.5),
    "rtx4090_24g": (24, 0.5),
    "cpu": (16, 0.1),
}
BASES = (LLAMA, base("tiny"), replace(LLAMA, name="mini", tensor_parallel=2))
demands = st.one_of(
    st.none(),
    st.builds(
        DemandSpec,
        peak_rpm=st.sampled_from((1, 60, 300, 900)),
        hours=st.sampled_from(((0, 24), (9, 17), (22, 4))),
        batch=st.sampled_from((None, (1, 3), (12, 14))),
    ),
)


@st.composite
def adapters(draw: st.DrawFn, alias: str) -> AdapterSpec:
    base_ = draw(st.sampled_from(("llama", "llama", "tiny", "mini")))
    return adapter(
        f"{alias}-{base_}-v1.0.0",
        replicas=draw(st.sampled_from((1, 1, 1, 2))),
        pin=draw(st.sampled_from((None,) * 9 + ("h0",))),
        demand=draw(demands),
        tier=draw(st.sampled_from(("standard", "gold"))),
        avoid=draw(st.sampled_from(((),) * 8 + (("h1",), ("llama-h0-g0",)))),
        apart=draw(st.sampled_from(((),) * 8 + (("birch",), ("acme-a",)))),
        spread=draw(st.sampled_from(("device", "device", "device", "host"))),
        isolation=draw(st.sampled_from(("shared",) * 8 + ("tier", "client"))),
        residency=draw(st.sampled_from(("pinned", "pinned", "cached"))),
    )


@st.composite
def machines(draw: st.DrawFn, name: str) -> HostSpec:
    kinds = draw(st.lists(st.sampled_from((*KINDS, "h100_80g")), min_size=2, max_size=5))
    cards: list[DeviceSpec] = [
        device(
            f"g{index}", kind=kind, memory=KINDS[kind][0] * GIB, price=KINDS[kind][1],
            port=8000 + index,
            state=draw(st.sampled_from(("active",) * 8 + ("cordoned", "draining"))),
        )
        for index, kind in enumerate(kinds)
    ]  # fmt: skip
    reserved = draw(st.sampled_from(((),) * 9 + (("gold",), ("acme", "standard"))))
    return HostSpec(name, "fake", tuple(cards), reserved_for=reserved)


@st.composite
def fleets(draw: st.DrawFn) -> FleetSpec:
    aliases = draw(st.lists(st.sampled_from(TASKS), min_size=1, max_size=7, unique=True))
    wanted = [draw(adapters(each)) for each in aliases]
    hosts = [draw(machines(f"h{index}")) for index in range(draw(st.integers(2, 4)))]
    ranks = {str(each.name): draw(st.sampled_from((8, 16, 64))) for each in wanted}
    policy = PlacementPolicy(
        utilization=draw(st.sampled_from((0.5, 0.7, 0.9))),
        canary_slots=draw(st.sampled_from((0, 2))),
        share_devices=draw(st.booleans()),
    )
    made = fleet(*wanted, bases=BASES, hosts=hosts, ranks=ranks, policy=policy)
    profiles = [
        replace(PROFILE, base=name, kind=kind, max_lora_rank=rank, tensor_parallel=cards)
        for name, cards in (("llama", 1), ("mini", 2))
        for kind in ("h100_80g", "a100_80g", "rtx4090_24g")
        for rank in (8, 64)
    ]
    return replace(made, profiles=tuple(profiles))


EXAMPLES = int(os.environ.get("FLEETCTL_EXAMPLES", "0"))
usual = settings(
    max_examples=EXAMPLES or examples(15, 25),
    derandomize=not EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


def placed(of: FleetSpec) -> PlacementResult:
    return place(of, decide_rollouts(of, state(), history(), NOON), state())


def planned(of: FleetSpec, live: State | None = None) -> Plan:
    return make_plan(of, live or state(), history(), NOON)


@drawn
@settings(parent=usual, max_examples=EXAMPLES or examples(30, 50))
@given(st.lists(fleets(), min_size=1, max_size=3))
def test_every_placement_and_the_way_to_it_pass_their_checks(declared: list[FleetSpec]) -> None:
    world = World(NOON)
    for each in declared:
        live, past = world.live(), fold_entries(world.entries)
        wanted = decide_rollouts(each, live, past, NOON)
        try:
            placement = place(each, wanted, live)
        except PlacementError as error:
            event(error.diagnostics[0].code)
            continue
        assert verify_placement(each, wanted, live, placement) == ()
        plan = world.plan(each)
        assert verify_steps(plan, each, live) == ()
        world.apply(plan)
        event(f"{len(placement.servers)} servers")


@drawn
@usual
@given(fleets(), st.randoms(use_true_random=False))
def test_the_order_of_declarations_leaves_the_plan_as_it_is(
    declared: FleetSpec, chance: Random
) -> None:
    def shuffled(given_: Mapping[str, Named]) -> dict[str, Named]:
        names = list(given_)
        chance.shuffle(names)
        return {name: given_[name] for name in names}

    other = replace(
        declared,
        adapters=shuffled(declared.adapters),
        hosts=shuffled(declared.hosts),
        bases=shuffled(declared.bases),
        clients=shuffled(declared.clients),
        versions=shuffled(declared.versions),
    )
    try:
        plan = planned(declared)
    except PlacementError as error:
        event(error.diagnostics[0].code)
        return
    assert planned(other) == plan


@drawn
@usual
@given(fleets())
def test_planning_again_when_nothing_changed_changes_nothing(declared: FleetSpec) -> None:
    world = World(NOON)
    try:
        world.apply(world.plan(declared))
    except PlacementError:
        assume(False)
    again = world.plan(declared)
    assert again.changes == ()
    assert again.steps == ()


@drawn
@usual
@given(fleets(), st.sampled_from(sorted(KINDS)))
def test_a_further_device_never_makes_a_fleet_infeasible(declared: FleetSpec, kind: str) -> None:
    try:
        before = placed(declared)
    except PlacementError:
        assume(False)
    memory, price = KINDS[kind]
    more = HostSpec("h9", "fake", (device("g0", kind=kind, memory=memory * GIB, price=price),))
    after = placed(replace(declared, hosts={**declared.hosts, "h9": more}))
    assert set(after.bindings) == set(before.bindings)


@pytest.mark.long
@settings(parent=usual, max_examples=EXAMPLES or 12)
@given(fleets())
def test_without_any_one_adapter_a_feasible_fleet_stays_feasible(declared: FleetSpec) -> None:
    try:
        placed(declared)
    except PlacementError:
        assume(False)
    for alias in declared.adapters:
        rest = {name: each for name, each in declared.adapters.items() if name != alias}
        placed(replace(declared, adapters=rest))


@drawn
@usual
@given(fleets())
def test_the_price_is_never_below_the_bound(declared: FleetSpec) -> None:
    try:
        found = placed(declared)
    except PlacementError:
        assume(False)
    assert found.bound <= found.price
