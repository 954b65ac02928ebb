"""A promised latency limits the servers that hold it, and goes where a device keeps it."""

from dataclasses import replace

from fleet.placement import late_aliases, placement_accounts
from fleet.placement.model.state import PlacementResult, SearchLimits
from fleet.placement.search import place
from fleet.placement.verify import verify_placement
from fleet.planning.pipeline import make_plan
from fleet.resources import State
from fleet.rollouts.decide import decide_rollouts
from fleet.spec import AdapterSpec, DemandSpec, FleetSpec
from tests.fleet.placement.placements import LLAMA, card
from tests.fleet.planning.builders import NOON, adapter, fleet, history, host
from tests.fleet.planning.simulator import World

BUSY = DemandSpec(peak_rpm=90, prompt_tokens=100, output_tokens=300)
SELDOM = DemandSpec(peak_rpm=1, prompt_tokens=100, output_tokens=60)
KINDS = {"l40s_48g": 1.0, "h100_80g": 3.0}


def cards(**number: int) -> list[tuple[str, float]]:
    return [(kind, KINDS[kind]) for kind, times in number.items() for _ in range(times)]


def asking(demand: DemandSpec, number: int, **fields: object) -> list[AdapterSpec]:
    return [
        replace(adapter(f"c{place:02}-a-llama-v1.0.0", demand=demand), **fields)  # type: ignore[arg-type]
        for place in range(number)
    ]


def of(adapters: list[AdapterSpec], devices: list[tuple[str, float]]) -> FleetSpec:
    hosts = [
        host(f"h{place}", replace(card("gpu0", 8000 + place), kind=kind, price_per_hour=price))
        for place, (kind, price) in enumerate(devices)
    ]
    return fleet(*adapters, bases=[LLAMA], hosts=hosts)


def placed(declared: FleetSpec) -> PlacementResult:
    targets = decide_rollouts(declared, State(), history(), NOON)
    found = place(declared, targets, State())
    assert not verify_placement(declared, targets, State(), found)
    return found


def promised_late(declared: FleetSpec, found: PlacementResult) -> tuple[str, ...]:
    late = late_aliases(declared, placement_accounts(declared, found).values())
    return late.promised if late else ()


def promising(declared: FleetSpec, slo_s: float, *aliases: str) -> FleetSpec:
    changed = {
        alias: replace(declared.adapters[alias], demand=SELDOM, slo_s=slo_s, promised=True)
        for alias in aliases
    }
    return replace(declared, adapters={**declared.adapters, **changed})


def test_a_promise_limits_the_server_that_holds_it_and_no_other() -> None:
    plain = of(asking(BUSY, 24), cards(h100_80g=12))
    before = placed(plain)
    assert len(before.servers) > 1
    one = promising(plain, 1.2, "c03-a")
    found = placed(one)
    assert found.price <= before.price + KINDS["h100_80g"]
    assert promised_late(one, found) == ()
    [its] = found.bindings["c03-a-llama-v1.0.0"]
    limits = {name: account.limit[0] for name, account in placement_accounts(one, found).items()}
    assert limits.pop(its) < min(limits.values())


def test_a_promise_that_a_faster_device_keeps_goes_there_though_it_is_dearer() -> None:
    plain = of(asking(BUSY, 4), cards(l40s_48g=6, h100_80g=1))
    cheap = placed(plain)
    assert all("h6" not in name for name in cheap.servers)
    one = promising(plain, 1.4, "c01-a")
    found = placed(one)
    assert found.bindings["c01-a-llama-v1.0.0"] == ("llama-h6-gpu0",)
    assert promised_late(one, found) == ()


def test_where_no_device_is_left_that_keeps_it_a_promise_is_broken_and_named() -> None:
    one = promising(of(asking(BUSY, 4), cards(l40s_48g=6)), 1.4, "c01-a")
    assert promised_late(one, placed(one)) == ("c01-a",)
    taken = of(asking(BUSY, 4), cards(l40s_48g=6, h100_80g=1))
    hosts = dict(taken.hosts)
    closed = replace(hosts["h6"].devices[0], state="cordoned")
    hosts["h6"] = replace(hosts["h6"], devices=(closed,))
    none_free = promising(replace(taken, hosts=hosts), 1.4, "c01-a")
    assert promised_late(none_free, placed(none_free)) == ("c01-a",)


def test_promises_out_of_reach_of_all_devices_cost_nothing() -> None:
    plain = of(asking(BUSY, 12), cards(l40s_48g=8, h100_80g=4))
    hasty = promising(plain, 0.05, *(f"c{place:02}-a" for place in range(12)))
    alike = replace(plain, adapters={
        alias: replace(each, promised=False) for alias, each in hasty.adapters.items()
    })  # fmt: skip
    found = placed(hasty)
    assert found.price == placed(alike).price
    assert len(promised_late(hasty, found)) == 12


def test_a_promise_takes_no_device_that_another_version_needs() -> None:
    plain = of(asking(BUSY, 3), cards(l40s_48g=4, h100_80g=1))
    one = promising(plain, 1.4, "c01-a")
    assert placed(one).bindings["c01-a-llama-v1.0.0"] == ("llama-h4-gpu0",)
    alone = replace(one.adapters["c02-a"], isolation="client", pin="h4")
    needed = replace(one, adapters={**one.adapters, "c02-a": alone})
    found = placed(needed)
    assert found.bindings["c02-a-llama-v1.0.0"] == ("llama-h4-gpu0",)
    assert promised_late(needed, found) == ("c01-a",)


def several(plain: FleetSpec, number: int, price: float = 3.0) -> FleetSpec:
    """Add a host with a number of alike, dear devices."""
    devices = [
        replace(card(f"gpu{place}", 9000 + place), kind="h100_80g", price_per_hour=price)
        for place in range(number)
    ]
    return replace(plain, hosts={**plain.hosts, "wide": host("wide", *devices)})


HASTY = 0.8
"""Seconds for 60 tokens: a single H100 is too slow, several together are not."""


def test_a_promise_that_only_several_devices_keep_together_gets_them_where_they_are_free() -> None:
    plain = of(asking(BUSY, 4), cards(l40s_48g=6))
    one = promising(plain, HASTY, "c01-a")
    assert promised_late(one, placed(one)) == ("c01-a",)
    roomy = several(one, 4)
    found = placed(roomy)
    [server] = found.bindings["c01-a-llama-v1.0.0"]
    assert server.startswith("llama-wide-")
    assert len(found.servers[server].devices) > 1
    assert promised_late(roomy, found) == ()
    assert any("no single device" in why for why in found.why.values())
    assert "no single device" in found.server_why[server]
    forbidden = replace(roomy, bases={"llama": replace(LLAMA, tensor_parallel=1)})
    alone = placed(forbidden)
    assert promised_late(forbidden, alone) == ("c01-a",)
    assert {len(its.devices) for its in alone.servers.values()} == {1}


def test_without_a_promise_that_needs_it_no_server_stands_on_several_devices() -> None:
    plain = several(of(asking(BUSY, 4), cards(l40s_48g=6)), 4)
    for declared in (plain, promising(plain, 1.4, "c01-a"), promising(plain, 0.05, "c01-a")):
        assert {len(its.devices) for its in placed(declared).servers.values()} == {1}


def test_what_several_devices_keep_stays_on_them_even_when_moves_are_allowed() -> None:
    roomy = several(promising(of(asking(BUSY, 4), cards(l40s_48g=6)), HASTY, "c01-a"), 4)
    world = World(NOON)
    world.apply(world.plan(roomy))
    assert not world.plan(roomy).steps
    moves = make_plan(roomy, world.live(), world.history(), NOON, SearchLimits(max_moves=10))
    assert not moves.steps
