"""What the planner chooses: cuts of devices, company, replicas, and what moves."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import cycle

import pytest

from fleet.errors import PlacementError
from fleet.hardware import BaseSpec, DeviceSpec, HostSpec, Profile, Speed
from fleet.history.values import History
from fleet.placement.model.state import SearchLimits
from fleet.plan import Plan
from fleet.planning.pipeline import desired_state, make_plan
from fleet.resources import State
from fleet.spec import AdapterSpec, DemandSpec, FleetSpec, PlacementPolicy
from fleet.vllm import slots_bucket
from tests.fleet.planning.builders import (
    GIB,
    LLAMA_8B,
    NOON,
    adapter,
    base,
    device,
    fleet,
    history,
    host,
    state,
)

LLAMA = base("llama", kv_cache_bytes=None, shape=LLAMA_8B, max_model_len=8192)
LARGE = replace(
    LLAMA,
    name="large",
    shape=replace(
        LLAMA_8B,
        hidden_size=8192,
        intermediate_size=28672,
        num_hidden_layers=80,
        num_attention_heads=64,
        weight_bytes=141_000_000_000,
    ),
)
PROFILE = Profile(
    base="llama",
    kind="h100_80g",
    tensor_parallel=1,
    max_lora_rank=16,
    vllm="0.32.0",
    dtype="bfloat16",
    speed=Speed(0.010, 0.00004, 1.5, 0.01, 0.1),
    residual=0.03,
)
"""256 requests at a time take 30.4 ms a step: 8,432 tokens a second, of which 70 % are given."""


CANARIES = PlacementPolicy().canary_slots


def gpu(index: int, *, price: float = 2.5) -> DeviceSpec:
    return device(f"gpu{index}", kind="h100_80g", memory=80 * GIB, price=price, port=8000 + index)


def rack(name: str = "rack1", count: int = 4, *, price: float = 2.5) -> HostSpec:
    return host(name, *(gpu(each, price=price) for each in range(count)))


def asked(
    name: str, rpm: float = 10, hours: tuple[int, int] = (9, 18), **fields: object
) -> AdapterSpec:
    demand = DemandSpec(rpm, hours, prompt_tokens=0, output_tokens=200)
    return replace(adapter(name), demand=demand, **fields)  # type: ignore[arg-type]


def many(count: int, rpm: float = 10, **fields: object) -> list[AdapterSpec]:
    return [asked(f"c{each}-a-llama-v1.0.0", rpm, **fields) for each in range(count)]  # type: ignore[arg-type]


def declared(
    adapters: Iterable[AdapterSpec],
    hosts: Iterable[HostSpec] = (),
    bases: Iterable[BaseSpec] = (LLAMA,),
) -> FleetSpec:
    made = fleet(*adapters, bases=bases, hosts=hosts or (rack(),))
    return replace(made, profiles=(PROFILE,))


def plan(of: FleetSpec, live: State | None = None, search: SearchLimits | None = None) -> Plan:
    return make_plan(of, live or state(), history(), NOON, search or SearchLimits())


def applied(of: FleetSpec) -> State:
    return desired_state(of, state(), History(), NOON)


def on(made: State) -> dict[str, tuple[str, ...]]:
    """Return the versions on each server, by server."""
    found: dict[str, list[str]] = {}
    for each in made.adapters().values():
        found.setdefault(each.server, []).append(each.adapter.split("-llama")[0])
    return {name: tuple(sorted(names)) for name, names in sorted(found.items())}


def test_a_base_too_large_for_one_device_stands_on_two() -> None:
    names = [f"c{each}-a-large-v1.0.0" for each in range(3)]
    (server,) = applied(declared(map(asked, names), bases=[LARGE])).servers().values()
    assert server.devices == ("gpu0", "gpu1")
    assert server.flags is not None
    assert server.flags.tensor_parallel == 2


def test_two_bases_share_a_device_where_that_is_allowed() -> None:
    other = replace(LLAMA, name="other")
    both = declared([asked("c0-a-llama-v1.0.0"), asked("c1-b-other-v1.0.0")], bases=[LLAMA, other])
    assert plan(both).cost_after == 5.0
    sharing = replace(both, policy=PlacementPolicy(share_devices=True))
    assert plan(sharing).cost_after == 2.5
    servers = applied(sharing).servers().values()
    assert {(each.devices, each.port) for each in servers} == {(("gpu0",), 8000), (("gpu0",), 8100)}
    assert {each.flags.memory_share for each in servers if each.flags} == {0.46}
    assert plan(sharing, applied(sharing)).changes == ()


def test_a_device_that_might_be_shared_and_is_not_is_given_whole() -> None:
    sharing = replace(declared(many(1)), policy=PlacementPolicy(share_devices=True))
    (server,) = applied(sharing).servers().values()
    assert server.flags is not None
    assert server.flags.memory_share == 0.92


@pytest.mark.parametrize(("count", "rpm"), [(8, 120), (9, 150), (12, 180)])
def test_dividing_devices_is_never_dearer_than_leaving_them_whole(count: int, rpm: float) -> None:
    """Halves are cheaper than wholes, and here an odd half would be left on each device."""
    whole = declared([asked(f"c{each}-a-llama-v1.0.0", rpm) for each in range(count)], [rack()])
    sharing = replace(whole, policy=PlacementPolicy(share_devices=True))
    assert plan(sharing).cost_after == plan(whole).cost_after


def test_a_device_goes_to_the_base_that_gains_most_by_it_whoever_buys_first() -> None:
    """Two bases need two of the other devices each; no order of buying puts both first."""
    large = replace(LLAMA_8B, weight_bytes=60_000_000_000)
    bases = [replace(LLAMA, name=name, shape=shape) for name, shape in (
        ("a", large), ("b", LLAMA_8B), ("c", large), ("d", LLAMA_8B))]  # fmt: skip
    small = (device(f"s{n}", kind="l40s_48g", memory=48 * GIB, price=2.6, port=n) for n in range(8))
    hosts = [rack(count=2), host("rack2", *small)]
    made = declared(
        [asked(f"c-{base.name}-{base.name}-v1.0.0", rpm=1) for base in bases], hosts, bases
    )
    servers = applied(made).servers().values()
    assert {server.base for server in servers if server.host == "rack1"} == {"a", "c"}
    assert plan(made).cost_after == 2 * 2.5 + 2 * 2.6


def test_peaks_at_different_hours_share_a_server_and_peaks_at_the_same_hour_do_not() -> None:
    # 600 requests a minute are 2,000 tokens a second; a server may be asked for 5,900.
    same = declared(many(4, 600))
    apart = declared(
        [
            asked(f"c{each}-a-llama-v1.0.0", 600, hours)
            for each, hours in enumerate([(0, 6), (6, 12), (12, 18), (18, 24)])
        ]
    )
    assert len(applied(same).servers()) == 2
    assert len(applied(apart).servers()) == 1


def test_peaks_are_spread_evenly_over_the_servers_that_are_needed() -> None:
    uses = plan(declared(many(4, 600))).capacity
    assert [each.slots_after for each in uses] == [2, 2]


def test_more_load_than_one_server_carries_gets_more_replicas_than_declared() -> None:
    hot = declared(many(1, 3000))
    (servers,) = {each.servers for each in applied(hot).routes()["c0-a"].shares}
    assert len(servers) == 2


def test_a_kind_of_device_that_nobody_knows_is_planned_without_a_limit() -> None:
    odd = host("rack1", replace(gpu(0), kind="abacus_80g"))
    (use,) = plan(declared(many(3, 3000), [odd])).capacity
    assert use.load == ()
    assert use.slots_after == 3


def test_replicas_are_on_distinct_hosts_where_that_is_asked() -> None:
    hosts = [rack("rack1", 2), rack("rack2", 1, price=9.0)]
    near = applied(declared(many(2, replicas=2), hosts))
    far = applied(declared(many(2, replicas=2, spread="host"), hosts))
    assert list(on(near)) == ["llama-rack1-gpu0", "llama-rack1-gpu1"]
    assert list(on(far)) == ["llama-rack1-gpu0", "llama-rack2-gpu0"]


@pytest.mark.parametrize(
    ("special", "company"),
    [
        ({}, [("c0-a", "c1-a", "c2-a")]),
        ({"isolation": "client"}, [("c0-a",), ("c1-a", "c2-a")]),
        ({"isolation": "tier", "tier": "gold"}, [("c0-a",), ("c1-a", "c2-a")]),
        ({"apart": ("c1",)}, [("c0-a",), ("c1-a", "c2-a")]),
        # Where one must be on the dear device, the others cost nothing there.
        ({"avoid": ("rack1",)}, [("c0-a", "c1-a", "c2-a")]),
        ({"pin": "rack2"}, [("c0-a", "c1-a", "c2-a")]),
    ],
)
def test_company_is_kept_as_declared(
    special: dict[str, object], company: list[tuple[str, ...]]
) -> None:
    first, *rest = many(3)
    hosts = [rack("rack1", 2), rack("rack2", 1, price=9.0)]
    found = on(applied(declared([replace(first, **special), *rest], hosts)))  # type: ignore[arg-type]
    joined = sorted(found.values(), key=lambda each: (len(each), each))
    assert [set(each) for each in joined][-1] >= {"c2-a"}
    assert len(joined) == len(company)
    assert special.keys().isdisjoint({"avoid", "pin"}) or list(found) == ["llama-rack2-gpu0"]


def test_a_reserved_host_takes_only_those_it_is_reserved_for() -> None:
    """Two of the three are as much as a server carries; the cheap one may not have the third."""
    cheap = replace(rack("rack1", 1, price=1.0), reserved_for=("gold", "c1"))
    adapters = [replace(each, tier=tier) for each, tier in
                zip(many(3, 600), ("gold", "standard", "standard"), strict=True)]  # fmt: skip
    found = on(applied(declared(adapters, [cheap, rack("rack2", 1)])))
    assert set(found) == {"llama-rack1-gpu0", "llama-rack2-gpu0"}
    assert "c2-a" in found["llama-rack2-gpu0"]


def test_cached_adapters_share_the_few_slots_that_are_busy_at_a_time() -> None:
    made = applied(declared(many(60, 0.5, residency="cached")))
    (server,) = made.servers().values()
    assert server.flags is not None
    assert server.flags.max_loras <= 16
    assert server.flags.max_cpu_loras == 64
    assert plan(declared(many(60, 0.5, residency="cached")), made).changes == ()


def test_what_is_on_a_draining_device_must_move_and_what_is_on_a_cordoned_one_stays() -> None:
    fleet_ = declared(many(2))
    live = applied(fleet_)

    def with_state(word: str) -> Plan:
        cards = (replace(gpu(0), state=word), gpu(1))  # type: ignore[arg-type]
        return plan(replace(fleet_, hosts={"rack1": host("rack1", *cards)}), live)

    assert with_state("cordoned").changes == ()
    moves = with_state("draining").moves
    assert [(each.adapter, each.forced, each.why) for each in moves] == [
        ("c0-a-llama-v1.0.0", True, "`rack1/gpu0` is draining"),
        ("c1-a-llama-v1.0.0", True, "`rack1/gpu0` is draining"),
    ]


def test_new_servers_have_slots_for_their_versions_and_canaries_and_no_more() -> None:
    wanted = [
        asked(f"c{number}-a-llama-v1.0.0", 900 if number < 3 else 40, hours)
        for number, hours in zip(range(20), cycle([(18, 24), (9, 18)]), strict=False)
    ]
    made = plan(declared(wanted, [rack(count=6)]))
    found = sorted((use.slots_after, use.slots) for use in made.capacity)
    assert sum(after for after, _ in found) == len(wanted)
    assert all(slots == slots_bucket(after + CANARIES) for after, slots in found)


def test_hours_that_nothing_carries_are_refused_with_the_hour() -> None:
    with pytest.raises(PlacementError) as caught:
        plan(declared(many(4, 800), [rack("rack1", 1)]))
    assert {each.code for each in caught.value.diagnostics} == {"FC2006"}
    assert "09:00 UTC" in caught.value.diagnostics[0].detail


def test_no_placement_undercuts_the_bound() -> None:
    made = plan(declared(many(8, 600)))
    assert made.cost_after is not None
    assert made.cost_bound is not None
    assert made.cost_bound <= made.cost_after <= 2 * made.cost_bound


def test_a_base_without_dimensions_is_told_apart_from_one_of_an_unknown_architecture() -> None:
    bare = replace(LLAMA, shape=None)
    strange = replace(LLAMA, shape=replace(LLAMA_8B, architecture="StrangeForCausalLM"))
    for base_, told in (
        (bare, "neither config.json nor fleet.lock tells the dimensions of base `llama`"),
        (strange, "the base's architecture is unknown"),
    ):
        warnings = [note.text for note in plan(declared(many(1), bases=[base_])).warnings]
        found = [text for text in warnings if "`llama-rack1-gpu0` is not budgeted" in text]
        assert len(found) == 1
        assert told in found[0]
