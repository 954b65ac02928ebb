"""What if: every form, what it changes, and what is refused."""

from dataclasses import replace

import pytest

from fleet.advice.changes import EXAMPLES, what_if, what_if_live
from fleet.errors import FleetError
from fleet.hardware import AttachedServerSpec, HostSpec
from fleet.resources import Server
from fleet.spec import DemandSpec, FleetSpec
from tests.fleet.planning import builders as make
from tests.fleet.planning.builders import GIB

ACME, BIRCH = "acme-support-llama3_8b-v1.0.0", "birch-triage-llama3_8b-v1.0.0"


def rack(name: str, count: int, price: float = 2.0) -> HostSpec:
    devices = (
        make.device(f"gpu{each}", kind="h100_80g", memory=80 * GIB, price=price, port=8100 + each)
        for each in range(count)
    )
    return make.host(name, *devices)


@pytest.fixture
def fleet() -> FleetSpec:
    acme, birch = make.adapter(ACME, pin="rack1"), make.adapter(BIRCH)
    asked = DemandSpec(30, (9, 18), observed=(2.0,) * 24)
    return make.fleet(
        replace(acme, demand=asked, apart=("birch",)),
        birch,
        bases=[make.base("llama3_8b", shape=make.LLAMA_8B)],
        hosts=[
            rack("rack1", 2),
            rack("rack2", 2, 3.0),
            make.attached(
                "rented", AttachedServerSpec("a", "http://10.0.0.5:8000", "llama3_8b", 8, 16, 1)
            ),
        ],
    )


def devices(fleet: FleetSpec) -> dict[str, list[str]]:
    return {name: [each.name for each in host.devices] for name, host in fleet.hosts.items()}


def test_every_example_is_understood(fleet: FleetSpec) -> None:
    for example in EXAMPLES:
        assert what_if(fleet, [example]) != fleet, example


def test_more_devices_stand_on_copies_of_a_host_that_has_some(fleet: FleetSpec) -> None:
    changed = what_if(fleet, ["GPU H100_80G +3"])
    assert devices(changed) == devices(fleet) | {
        "rack1_more": ["gpu0", "gpu1"],
        "rack1_more_2": ["gpu0"],
    }
    assert list(changed.hosts) == sorted(changed.hosts)
    added = changed.hosts["rack1_more"].devices[1]
    assert (added.price_per_hour, added.memory_bytes, added.port) == (2.0, 80 * GIB, 8101)


def test_more_devices_at_another_price(fleet: FleetSpec) -> None:
    changed = what_if(fleet, ["gpu h100 + 1 at 3.25"])
    assert [each.price_per_hour for each in changed.hosts["rack1_more"].devices] == [3.25]


def test_a_kind_that_no_host_has_comes_from_its_data_sheet_at_a_price(fleet: FleetSpec) -> None:
    changed = what_if(fleet, ["gpu a100_40g +2 at 1.10"])
    for name in ("rack1_more", "rack1_more_2"):
        (added,) = changed.hosts[name].devices
        assert (added.kind, added.memory_bytes, added.price_per_hour) == (
            "a100_40g",
            int(39.38 * GIB),
            1.10,
        )


def test_fewer_devices_go_from_the_last_host(fleet: FleetSpec) -> None:
    changed = what_if(fleet, ["gpu h100 -1"])
    assert devices(changed)["rack2"] == ["gpu0"]
    assert changed.warnings == ("what if: rack2/gpu1 is gone",)
    without = what_if(fleet, ["gpu h100 -2"])
    assert sorted(without.hosts) == ["rack1", "rented"]


def test_a_host_that_is_gone_sets_free_what_was_pinned_to_it(fleet: FleetSpec) -> None:
    changed = what_if(fleet, ["host rack1 gone"])
    assert sorted(changed.hosts) == ["rack2", "rented"]
    assert changed.adapters["acme-support"].pin is None
    assert changed.warnings == ("what if: acme-support is pinned to rack1 no more",)


def test_demand_is_multiplied_declared_and_observed(fleet: FleetSpec) -> None:
    for change in ("client acme x3", "adapter acme-support x 3.0", "adapter acme x3"):
        demand = what_if(fleet, [change]).adapters["acme-support"].demand
        assert demand is not None
        assert (demand.peak_rpm, demand.observed) == (90, (6.0,) * 24)


def test_a_client_that_is_gone_takes_its_adapters_along(fleet: FleetSpec) -> None:
    changed = what_if(fleet, ["client acme gone"])
    assert (list(changed.clients), list(changed.adapters)) == (["birch"], ["birch-triage"])


def test_more_clients_are_copies_of_those_declared_in_turn(fleet: FleetSpec) -> None:
    changed = what_if(fleet, ["clients +3"])
    assert list(changed.clients) == ["acme", "acme_2", "acme_3", "birch", "birch_2"]
    copy = changed.adapters["acme_3-support"]
    assert (str(copy.name), copy.pin, copy.apart) == ("acme_3-support-llama3_8b-v1.0.0", None, ())
    assert copy.demand == fleet.adapters["acme-support"].demand
    assert changed.versions[str(copy.name)].rank == 8


def test_an_adapter_of_another_rank_has_other_bytes(fleet: FleetSpec) -> None:
    changed = what_if(fleet, ["adapter acme-support rank 64"]).versions
    assert (changed[ACME].rank, changed[ACME].bytes) == (64, 8 * fleet.versions[ACME].bytes)
    assert changed[BIRCH] == fleet.versions[BIRCH]


def test_the_rest_changes_one_value_each(fleet: FleetSpec) -> None:
    changes = [
        "adapter acme-support replicas 2",
        "base llama3_8b max_loras 32",
        "base llama3_8b max_lora_rank 64",
        "base llama tensor_parallel 2",
        "utilization 80%",
        "canary_slots 0",
    ]
    changed = what_if(fleet, changes)
    base = changed.bases["llama3_8b"]
    assert changed.adapters["acme-support"].replicas == 2
    assert (base.slots, base.max_lora_rank, base.tensor_parallel) == (32, 64, 2)
    assert (changed.policy.utilization, changed.policy.canary_slots) == (0.8, 0)


def test_nothing_changes_the_fleet_that_was_given(fleet: FleetSpec) -> None:
    before = repr(fleet)
    for example in EXAMPLES:
        what_if(fleet, [example])
    assert repr(fleet) == before
    assert what_if(fleet, []) is fleet


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        ("", "FC6040", "`gpu h100_80g +1`"),
        ("gpu", "FC6040", "`gpu h100 +2 at 3.00`"),
        ("gpu h100 +0", "FC6040", "`gpu h100_80g +1`"),
        ("gpuu h100 +1", "FC6040", "did you mean `gpu`?"),
        ("client acme x-3", "FC6040", "`client acme x3`"),
        ("client acme x3; client birch x3", "FC6040", "`client acme x3`"),
        ("host rack1 on fire", "FC6040", "`host rack1 gone`"),
        ("gpu h10_80g +1", "FC6041", "did you mean `h100_80g`?"),
        ("host rack gone", "FC6041", "`rack1` or `rack2`"),
        ("host rakc1 gone", "FC6041", "did you mean `rack1`?"),
        ("client zebra x3", "FC6041", "Declared: acme, birch."),
        ("adapter acme-suport gone", "FC6041", "did you mean `acme-support`?"),
        ("base mistral max_loras 3", "FC6041", "Declared: llama3_8b."),
        ("gpu h100 -5", "FC6042", "`gpu h100_80g -4` at most"),
        ("gpu a100_80g +1", "FC6042", "`gpu a100_80g +1 at 2.50`"),
        ("client birch x3", "FC6042", "fleetctl demand record"),
        ("adapter acme-support rank 1024", "FC6042", "512 at most"),
        ("base llama3_8b max_lora_rank 1024", "FC6042", "512 at most"),
        ("base llama3_8b tensor_parallel 3", "FC6042", "divide"),
        ("utilization 120%", "FC6042", "100% at most"),
    ],
)
def test_what_cannot_be_tried_is_refused_with_a_remedy(
    fleet: FleetSpec, change: str, code: str, says: str
) -> None:
    with pytest.raises(FleetError) as caught:
        what_if(fleet, ["utilization 75%", change])
    (found,) = caught.value.diagnostics
    assert found.code == code
    assert says in f"{found.detail} {found.hint}"


def test_an_adapter_without_facts_has_no_rank_to_change() -> None:
    bare = make.fleet(make.adapter("acme-support-tiny-v1.0.0"))
    with pytest.raises(FleetError, match="not in the lock"):
        what_if(replace(bare, versions={}), ["adapter acme-support rank 8"])
    empty = replace(bare, adapters={})
    with pytest.raises(FleetError, match="No client has an adapter"):
        what_if(empty, ["clients +1"])


def test_servers_of_what_is_gone_are_not_live(fleet: FleetSpec) -> None:
    def server(name: str, host: str, *on: str) -> Server:
        return Server(name, "llama3_8b", host, on, 8100, "0" * 12)

    live = make.state(
        server("one", "rack1", "gpu0"),
        server("two", "rack2", "gpu0", "gpu1"),
        server("a", "rented"),
        *(make.loaded(ACME, each) for each in ("one", "two", "a")),
        make.route("acme-support", (ACME, 100, "one")),
    )
    for change, left in (
        ("host rack1 gone", ["a", "two"]),
        ("host rented gone", ["one", "two"]),
        ("gpu h100 -1", ["a", "one"]),
        ("client acme gone", ["a", "one", "two"]),
    ):
        kept = what_if_live(what_if(fleet, [change]), live)
        assert list(kept.servers()) == left
        assert sorted(each.server for each in kept.adapters().values()) == left
        assert list(kept.routes()) == ["acme-support"]
