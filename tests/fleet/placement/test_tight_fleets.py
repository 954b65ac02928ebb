"""Fleets with hardly a way to place them, and servers on devices that have changed since."""

from dataclasses import replace

import pytest

from fleet.errors import PlacementError
from fleet.hardware import BaseSpec, DeviceSpec, HostSpec
from fleet.placement.model.state import PlacementResult
from fleet.placement.search import place
from fleet.placement.verify import verify_placement
from fleet.resources import State
from fleet.rollouts.decide import decide_rollouts
from fleet.spec import AdapterSpec, DemandSpec, FleetSpec
from tests.fleet.placement.placements import ACME, BIRCH, LLAMA, PROFILE, card
from tests.fleet.planning.builders import NOON, adapter, device, fleet, history, host, route, state
from tests.fleet.planning.simulator import World

SMALL = 24 << 30
MINI = replace(LLAMA, name="mini")
PAIR = replace(LLAMA, name="mini", tensor_parallel=2)
PROFILES = tuple(
    replace(PROFILE, base=name, kind=kind, tensor_parallel=cards)
    for name, cards in (("llama", 1), ("mini", 1), ("mini", 2))
    for kind in ("h100_80g", "rtx4090_24g")
)


def small(name: str, port: int = 8000) -> DeviceSpec:
    return card(name, port, kind="rtx4090_24g", memory_bytes=SMALL, price_per_hour=0.5)


def declared(*adapters: AdapterSpec, hosts: list[HostSpec], mini: BaseSpec = MINI) -> FleetSpec:
    made = fleet(*adapters, bases=[LLAMA, mini], hosts=hosts, known=["acme-a-mini-v1.0.0"])
    return replace(made, profiles=PROFILES)


def placed(of: FleetSpec, live: State | None = None) -> PlacementResult:
    live = live or State()
    wanted = decide_rollouts(of, live, history(), NOON)
    found = place(of, wanted, live)
    assert verify_placement(of, wanted, live, found) == ()
    return found


def test_what_can_be_in_one_place_only_gets_it_before_others_take_it() -> None:
    of = declared(
        adapter("acme-a-llama-v1.0.0"),
        adapter("birch-a-mini-v1.0.0", avoid=("h1",)),
        hosts=[host("h0", card("g0")), host("h1", card("g0"))],
    )
    assert placed(of).bindings == {
        "acme-a-llama-v1.0.0": ("llama-h1-g0",),
        "birch-a-mini-v1.0.0": ("mini-h0-g0",),
    }


def test_two_that_exclude_each_other_leave_room_for_a_third() -> None:
    of = declared(
        adapter("acme-a-llama-v1.0.0", isolation="client"),
        adapter("birch-a-llama-v1.0.0", apart=("cedar-a",), avoid=("h0",)),
        adapter("cedar-a-llama-v1.0.0"),
        adapter("dune-a-llama-v1.0.0", replicas=2),
        hosts=[host("h0", card("g0"), card("g1", 8001)), host("h1", card("g0"))],
    )
    found = placed(of)
    assert found.bindings["birch-a-llama-v1.0.0"] == ("llama-h1-g0",)
    assert set(found.servers) == {"llama-h0-g0", "llama-h0-g1", "llama-h1-g0"}


@pytest.mark.parametrize(("reserved", "replicas"), [((), 1), (("gold",), 2)])
def test_an_adapter_has_as_many_replicas_as_the_devices_open_to_it_ask_for(
    reserved: tuple[str, ...], replicas: int
) -> None:
    weak = [replace(small(f"g{at}", 8000 + at), price_per_hour=1.5) for at in range(3)]
    of = declared(
        adapter("acme-a-llama-v1.0.0", demand=DemandSpec(peak_rpm=900, prompt_tokens=500)),
        hosts=[host("h0", card("g0"), reserved_for=reserved), host("h1", *weak)],
    )
    assert len(placed(of).bindings["acme-a-llama-v1.0.0"]) == replicas


def test_a_server_leaves_a_device_that_is_now_too_small_for_it() -> None:
    world = World(NOON)
    of = declared(adapter("acme-a-llama-v1.0.0"), hosts=[host("h0", card("g0"))])
    world.apply(world.plan(of))
    tiny = device("g0", memory=8 << 30, port=8000)
    changed = replace(of, hosts={"h0": host("h0", tiny), "h1": host("h1", card("g0"))})
    plan = world.plan(changed)
    assert [each.why for each in plan.moves] == ["`h0/g0` is not what it was started for"]
    world.apply(plan)
    assert {each.server for each in world.live().adapters().values()} == {"llama-h1-g0"}


def test_a_server_over_two_devices_keeps_them_until_its_versions_have_moved() -> None:
    world = World(NOON)
    two = host("h0", card("g0"), card("g1", 8001))
    of = declared(adapter("acme-a-mini-v1.0.0"), hosts=[two], mini=PAIR)
    world.apply(world.plan(of))
    hosts = [
        host("h0", card("g0")), host("h1", card("g0"), card("g1", 8001)), host("h2", card("g0"))
    ]  # fmt: skip
    world.apply(world.plan(declared(adapter("acme-a-llama-v1.0.0"), hosts=hosts, mini=PAIR)))
    held = {each.adapter: each.server for each in world.live().adapters().values()}
    assert held == {"acme-a-llama-v1.0.0": "llama-h2-g0", "acme-a-mini-v1.0.0": "mini-h1-g0"}


def test_what_overloads_its_server_alone_goes_to_a_larger_device() -> None:
    world = World(NOON)
    asked = DemandSpec(peak_rpm=30, prompt_tokens=500)
    pinned = adapter("acme-a-llama-v1.0.0", demand=asked, pin="h0")
    here, there = host("h0", small("g0")), host("h1", card("g0"))
    world.apply(world.plan(declared(pinned, hosts=[here, there])))
    more = replace(pinned, pin=None, demand=replace(asked, peak_rpm=800))
    found = placed(declared(more, hosts=[here, there]), world.live())
    assert found.bindings == {"acme-a-llama-v1.0.0": ("llama-h1-g0",)}
    assert "overloaded" in found.forced["acme-a-llama-v1.0.0"]


@pytest.mark.parametrize(("cards", "servers"), [(2, 2), (1, 0)])
def test_a_server_that_is_gone_takes_no_more_than_a_new_one_may(cards: int, servers: int) -> None:
    """Both were on it, and have grown to 76 % of what it carries, 70 % being declared."""
    asked = DemandSpec(peak_rpm=600, prompt_tokens=500, output_tokens=200)
    both = [adapter(each, demand=asked) for each in (ACME, BIRCH)]
    devices = [card("gpu0"), card("gpu1", 8001)][:cards]
    of = declared(*both, hosts=[host("a", *devices)])
    routes = [route(each.alias, (str(each.name), 100, "llama-a-gpu0")) for each in both]
    if not servers:
        with pytest.raises(PlacementError, match="no throughput left"):
            placed(of, state(*routes))
        return
    found = placed(of, state(*routes))
    assert len(found.servers) == servers
    assert all(max(each.load) <= 0.7 for each in found.capacity)
