"""Where versions go, and what is said when they go nowhere."""

from dataclasses import replace

import pytest

from fleet.errors import PlacementError
from fleet.hardware import AttachedServerSpec
from fleet.history.values import History
from fleet.placement.model.state import PlacementResult
from fleet.placement.search import place, substitutes
from fleet.resources import LoadedAdapter, Server, State
from fleet.rollouts.decide import decide_rollouts
from fleet.spec import AdapterSpec, FleetSpec
from fleet.vllm.flags import flags_for
from tests.fleet.planning.builders import (
    GIB,
    LLAMA_8B,
    NOON,
    adapter,
    attached,
    base,
    device,
    fleet,
    history,
    host,
    loaded,
    route,
    state,
)

A, B, C = (f"acme-{task}-tiny-v1.0.0" for task in ("a", "b", "c"))
CARD = device("gpu0", kind="h100_80g", memory=80 * GIB, price=2.0, port=8000)
LLAMA = base("llama", kv_cache_bytes=None, shape=LLAMA_8B, max_model_len=8192)


def placed(
    declared: FleetSpec, live: State | None = None, past: History | None = None
) -> PlacementResult:
    there = live or state()
    return place(declared, decide_rollouts(declared, there, past or history(), NOON), there)


def server(name: str = "tiny-laptop-cpu0", slots: int = 4, rank: int = 8) -> Server:
    flags = flags_for(base(), slots, rank)
    return Server(name, "tiny", "laptop", ("cpu0",), 8100, flags.digest, flags)


def running(*names: str, on: Server) -> State:
    routes = [route(each.rpartition("-tiny")[0], (each, 100, on.name)) for each in names]
    return state(on, *(loaded(each, on.name) for each in names), *routes)


def refusal(declared: FleetSpec, live: State | None = None) -> tuple[str, str]:
    with pytest.raises(PlacementError) as caught:
        placed(declared, live)
    (diagnostic,) = caught.value.diagnostics
    return diagnostic.code, diagnostic.detail


@pytest.mark.parametrize(("count", "slots"), [(1, 4), (2, 8), (5, 8), (6, 16), (13, 16), (14, 32)])
def test_a_new_server_has_two_slots_to_spare_and_one_empty_on_a_cpu(count: int, slots: int) -> None:
    names = [f"acme-t{each}-tiny-v1.0.0" for each in range(count)]
    (made,) = placed(fleet(*map(adapter, names))).servers.values()
    assert made.flags is not None
    assert (made.flags.max_loras, made.flags.max_cpu_loras) == (slots, 2 * slots)


def test_a_server_takes_the_rank_of_its_largest_version() -> None:
    (made,) = placed(fleet(adapter(A), adapter(B), ranks={A: 8, B: 24})).servers.values()
    assert made.flags is not None
    assert made.flags.max_lora_rank == 32
    assert (made.name, made.port, made.devices) == ("tiny-laptop-cpu0", 8100, ("cpu0",))


def test_declared_slots_and_rank_win() -> None:
    declared = fleet(adapter(A), bases=[base(slots=5, max_lora_rank=64)])
    (made,) = placed(declared).servers.values()
    assert made.flags is not None
    assert (made.flags.max_loras, made.flags.max_lora_rank) == (5, 64)


def test_the_cheapest_device_is_taken_first() -> None:
    dear, cheap = device("gpu0", price=3.0), device("gpu1", price=1.0, port=8101)
    result = placed(fleet(adapter(A), hosts=[host("a", dear), host("b", cheap)]))
    assert result.bindings == {A: ("tiny-b-gpu1",)}


def test_replicas_are_on_distinct_devices() -> None:
    hosts = [host("a", device("gpu0"), device("gpu1", port=8101))]
    result = placed(fleet(adapter(A, replicas=2), adapter(B), hosts=hosts))
    assert result.bindings == {A: ("tiny-a-gpu0", "tiny-a-gpu1"), B: ("tiny-a-gpu0",)}


@pytest.mark.parametrize("pin", ["b", "tiny-b-gpu0"])
def test_a_pin_names_a_host_or_a_server(pin: str) -> None:
    hosts = [host("a", device("gpu0")), host("b", device("gpu0", price=9.0))]
    assert placed(fleet(adapter(A, pin=pin), hosts=hosts)).bindings == {A: ("tiny-b-gpu0",)}


def test_live_flags_that_suffice_are_kept() -> None:
    there = server(slots=4)
    declared = fleet(adapter(A), adapter(B), adapter(C))
    result = placed(declared, running(A, B, on=there))
    assert result.servers == {there.name: there}
    assert result.bindings[C] == (there.name,)


def test_a_server_restarts_only_when_no_device_is_free() -> None:
    there = server(slots=4)
    names = [A, B, C, "acme-d-tiny-v1.0.0"]
    alone = placed(fleet(*map(adapter, names)), running(*names[:3], on=there))
    flags = alone.servers[there.name].flags
    assert flags is not None
    assert flags.max_loras == 8
    assert "finds no room" in alone.server_why[there.name]
    two = host("laptop", device(), device("cpu1", port=8101))
    beside = placed(fleet(*map(adapter, names), hosts=[two]), running(*names[:3], on=there))
    assert beside.servers[there.name] == there
    assert beside.bindings[names[3]] == ("tiny-laptop-cpu1",)


def test_a_server_restarts_from_another_image() -> None:
    there = server()
    other = replace(host("laptop"), image="a.io/b@sha256:1")
    result = placed(fleet(adapter(A), hosts=[other]), running(A, on=there))
    flags = result.servers[there.name].flags
    assert flags is not None
    assert flags.image == other.image
    assert result.server_why[there.name] == "declared otherwise: image"
    again = running(A, on=result.servers[there.name])
    assert placed(fleet(adapter(A), hosts=[other]), again).servers == result.servers


def test_flags_are_recognised_by_their_digest() -> None:
    there = replace(server(slots=16, rank=64), flags=None)
    result = placed(fleet(adapter(A)), running(A, on=there))
    assert result.servers == {there.name: there}
    assert result.capacity[0].slots == 16


def test_a_base_that_gives_no_kv_cache_in_bytes_takes_its_device_whole() -> None:
    declared = fleet(
        adapter("acme-a-llama-v1.0.0"), adapter("acme-a2-tiny-v1.0.0"), bases=[LLAMA, base()],
        hosts=[host("a", CARD, replace(CARD, name="gpu1", port=8001))],
    )  # fmt: skip
    assert sorted(placed(declared).servers) == ["llama-a-gpu0", "tiny-a-gpu1"]


def test_bases_with_a_kv_cache_in_bytes_share_a_device_on_two_ports() -> None:
    small = replace(LLAMA, kv_cache_bytes=8 * GIB)
    declared = fleet(
        adapter("acme-a-llama-v1.0.0"), adapter("acme-b-tiny-v1.0.0"), bases=[small, base()],
        hosts=[host("a", CARD)],
    )  # fmt: skip
    servers = placed(declared).servers
    assert {each.port for each in servers.values()} == {8000, 8100}


def test_attached_servers_are_filled_up_to_their_declared_slots() -> None:
    theirs = AttachedServerSpec("big", "http://x", "tiny", 2, 16, 1.0)
    there = Server("big", "tiny", "dc", (), 0, None)
    declared = fleet(adapter(A), adapter(B), adapter(C), hosts=[attached("dc", theirs)])
    code, detail = refusal(declared, state(there))
    assert code == "FC2001"
    assert "`big` has 2 versions in 2 slots" in detail
    two = placed(fleet(adapter(A), adapter(B), hosts=[attached("dc", theirs)]), state(there))
    assert two.servers == {"big": there}


def test_what_is_not_ours_takes_a_slot() -> None:
    there = server(slots=4)
    rogue = LoadedAdapter("somebody", there.name, None)
    live = running(A, on=there)
    result = placed(fleet(adapter(A)), state(*live.resources.values(), rogue))
    assert (result.capacity[0].slots_before, result.capacity[0].slots_after) == (2, 2)


def test_on_a_server_that_does_not_answer_nothing_changes() -> None:
    there = server()
    live = state(route("acme-a", (A, 100, there.name)), unknown_servers={there.name: "timed out"})
    result = placed(fleet(adapter(A), adapter(B)), live)
    assert result.bindings == {A: (there.name,), B: ()}
    assert "does not answer" in result.unplaced[B]
    assert result.servers == {}


def test_only_a_server_with_room_answers_in_place_of_a_silent_one() -> None:
    there, silent = server(), "tiny-b-gpu0"
    routes = (route("acme-a", (A, 100, silent)), route("acme-b", (B, 100, there.name)))
    live = state(there, loaded(B, there.name), *routes, unknown_servers={silent: "timed out"})

    def found(declared: FleetSpec, now: State = live) -> dict[str, str]:
        targets = decide_rollouts(declared, now, history(), NOON)
        return substitutes(declared, targets, now)

    def two(*adapters: AdapterSpec) -> FleetSpec:
        return fleet(*adapters, hosts=[host("laptop", device()), host("b", device("gpu0"))])

    assert found(two(adapter(A), adapter(B))) == {A: there.name}
    assert found(two(adapter(A, pin="b"), adapter(B))) == {}
    others = state(*(LoadedAdapter(name, there.name, None) for name in ("first", "second")))
    full = replace(live, resources={**live.resources, **others.resources})
    assert found(two(adapter(A), adapter(B)), full) == {}


def test_a_server_that_is_gone_comes_back_where_it_was() -> None:
    hosts = [host("a", device("gpu0")), host("b", device("gpu0", price=9.0))]
    live = state(route("acme-a", (A, 100, "tiny-b-gpu0")))
    assert placed(fleet(adapter(A), hosts=hosts), live).bindings == {A: ("tiny-b-gpu0",)}


def test_no_slot_is_told_with_numbers() -> None:
    code, detail = refusal(fleet(adapter(A), adapter(B), adapter(C), bases=[base(slots=3)]))
    assert code == "FC2001"
    assert detail.startswith(
        "`acme-c-tiny-v1.0.0` of base `tiny` finds no server with a free slot."
    )
    assert "`tiny-laptop-cpu0` has 2 versions in 3 slots, 1 of them kept empty on a CPU" in detail


def test_a_base_whose_few_slots_take_the_devices_of_another_is_blamed() -> None:
    crowded = [adapter(f"{client}-a-llama-v1.0.0") for client in ("acme", "birch", "cedar")]
    other = adapter("dune-a-mini-v1.0.0")
    bases = [replace(LLAMA, slots=2), replace(LLAMA, name="mini")]
    hosts = [
        host(
            "a",
            device("gpu0", kind="h100_80g", memory=80 * GIB),
            device("gpu1", port=8001, kind="h100_80g", memory=80 * GIB),
        )
    ]
    code, detail = refusal(fleet(*crowded, other, bases=bases, hosts=hosts))
    assert code == "FC2007"
    assert detail.startswith("`dune-a-mini-v1.0.0` of base `mini`: every device that would do is")
    assert detail.endswith(
        "Base `llama` takes 2 devices, because with `max_loras: 2` a server holds only 2 of its 3 "
        "versions."
    )
    roomy = [replace(LLAMA, slots=4), replace(LLAMA, name="mini")]
    assert placed(fleet(*crowded, other, bases=roomy, hosts=hosts)).bindings


def test_a_base_that_fits_on_no_device_is_told_with_numbers() -> None:
    small = host("a", device("gpu0", kind="rtx_2080", memory=8 * GIB))
    code, detail = refusal(fleet(adapter("acme-a-llama-v1.0.0"), bases=[LLAMA], hosts=[small]))
    assert code == "FC2002"
    assert "`a/gpu0` has 7.4 GiB and it needs 18.1 GiB" in detail
    assert "10.8 GiB short" in detail


@pytest.mark.parametrize(
    ("declared", "code"),
    [
        (fleet(adapter(A, replicas=2)), "FC2003"),
        (fleet(adapter(A, pin="nowhere")), "FC2004"),
        (fleet(adapter(A), ranks={A: 1024}), "FC2005"),
        (fleet(adapter(A), ranks={A: 64}, bases=[base(max_lora_rank=32)]), "FC2005"),
        (fleet(adapter(A), hosts=[attached("dc")]), "FC2003"),
    ],
)
def test_other_obstacles_have_their_own_codes(declared: FleetSpec, code: str) -> None:
    assert refusal(declared)[0] == code


def test_an_unknown_architecture_is_placed_and_said_to_be_unknown() -> None:
    odd = base(shape=replace(LLAMA_8B, architecture="MambaForCausalLM", weight_bytes=GIB))
    result = placed(fleet(adapter(A), bases=[odd]))
    assert (result.capacity[0].slot_bytes, result.capacity[0].basis) == (None, "unknown")
    assert any("not budgeted" in each for each in result.warnings)
