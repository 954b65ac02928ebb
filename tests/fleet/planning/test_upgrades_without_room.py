"""Upgrades of servers without golden sets, without a free device, and of servers on several."""

from dataclasses import replace

import pytest

from fleet.consent import DecisionKind, decisions_due
from fleet.errors import PlacementError
from fleet.plan import Action
from fleet.policies import GoldenFacts
from fleet.resources import Server
from fleet.spec import AdapterSpec, FleetSpec
from tests.fleet.planning.builders import DAY, MIB, NOON, adapter, base, device, fleet, host
from tests.fleet.planning.simulator import World
from tests.fleet.planning.test_replacements import served_by, watch
from tests.fleet.planning.test_upgrades import (
    FAQ,
    GATE,
    GATED,
    LEGAL,
    SUPPORT,
    A,
    B,
    C,
    applied,
    declared,
    judge,
    mark,
    notes,
    routed,
    settings_of,
)


def judged(
    *adapters: AdapterSpec, devices: int = 1, kv_cache: int = 64, **fields: int | None
) -> FleetSpec:
    """Declare adapters whose rollouts have a golden set as their gate."""
    made = fleet(
        *adapters,
        rollouts=(replace(GATED, name="standard"),),
        gates=(GATE,),
        hosts=[host("laptop", *(device(f"cpu{n}", port=8100 + n) for n in range(devices)))],
        bases=[base(kv_cache_bytes=kv_cache * MIB, **fields)],  # type: ignore[arg-type]
    )
    return replace(made, golden={"g.jsonl": GoldenFacts("d" * 64, 100)})


def test_without_golden_sets_a_canary_waits_for_a_person() -> None:
    world, made = applied(), declared(48, gates="bare")
    plan = world.plan(made)
    assert {c.address for c in plan.changes if isinstance(c.after, Server)} == {f"server/{C}"}
    assert "nothing judges acme-support, birch-faq, cedar-law: no golden set" in notes(plan)
    assert "the upgrade waits for a person. To have them judged, declare `golden`" in notes(plan)
    world.apply(plan)
    waits = world.plan(made)
    assert (waits.steps, routed(world)) == ((), {A, B})
    assert "nothing judges acme-support, and the upgrade waits: fleetctl upgrade approve" in (
        notes(waits)
    )
    mark(world, made, "approve")
    plan = world.plan(made)
    assert f"{A} is kept loaded until 2026-03-03 12:00 UTC" in notes(plan)
    world.apply(plan)
    assert routed(world) == {B, C}


@pytest.mark.parametrize("killed", range(0, 20, 3))
def test_without_golden_sets_and_room_servers_restart_in_place_and_clients_consent(
    killed: int,
) -> None:
    world, made = applied(devices=2), declared(48, devices=2, gates="bare")
    plan = world.plan(made)
    assert [c.action for c in plan.changes if isinstance(c.after, Server)] == [Action.REPLACE] * 2
    assert "no free device, so servers restart in their place" in notes(plan)
    assert "nothing judges acme-support, birch-faq, cedar-law: no golden set" in notes(plan)
    assert "What helps: a further device, and to have them judged declare" in notes(plan)
    world.watch = lambda _: None  # clients are without answers meanwhile
    (outage,) = decisions_due(plan)
    assert (outage.kind, outage.clients) == (DecisionKind.OUTAGE, ("birch", "cedar"))
    world.apply(plan, most=killed)
    for _ in range(3):
        world.apply(world.plan(made))
    assert settings_of(world) == {48 * MIB}
    assert (world.plan(made).steps, world.plan(made).upgrades) == ((), ())


def test_a_fleet_that_fits_with_new_settings_alone_is_told_how_to_restart_in_place() -> None:
    faq = adapter(FAQ, golden="g.jsonl")
    world = World(NOON)
    world.apply(world.plan(judged(faq, slots=2)))
    made = judged(faq, adapter(LEGAL), adapter(SUPPORT), slots=8, kv_cache=48)
    with pytest.raises(PlacementError) as error:
        world.plan(made)
    (found,) = error.value.diagnostics
    assert found.command == "fleetctl upgrade advance tiny --reason TEXT"
    mark(world, made, "advance")
    world.apply(world.plan(made))
    assert settings_of(world) == {48 * MIB}


def test_a_canary_stands_on_as_many_devices_as_the_old_server() -> None:
    def pairs(kv_cache: int, devices: int) -> FleetSpec:
        adapters = (adapter(name, golden="g.jsonl") for name in (FAQ, LEGAL))
        return judged(*adapters, devices=devices, kv_cache=kv_cache, tensor_parallel=2)

    world, made = World(NOON), pairs(48, 4)
    world.apply(world.plan(pairs(64, 4)))
    watch(world, {"birch-faq", "cedar-law"})
    assert "no free device for a canary" in notes(world.plan(pairs(48, 3)))
    world.apply(world.plan(made))
    canary = world.live().servers()[C]
    assert canary.devices == ("cpu2", "cpu3")
    assert canary.flags is not None
    assert canary.flags.tensor_parallel == 2
    assert served_by(world.resources, "birch-faq") == {FAQ: [A]}
    judge(world, made, "birch-faq", good=True)
    mark(world, made, "approve")
    for _ in range(4):
        world.apply(world.plan(made))
        world.pass_time(DAY)
    assert {*world.live().servers()} == {C}
    assert served_by(world.resources, "birch-faq") == {FAQ: [C]}
