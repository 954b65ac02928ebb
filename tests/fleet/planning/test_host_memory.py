"""A host that declares its memory lists no more adapters than it holds."""

from dataclasses import replace

import pytest

from fleet.declared import Fleet
from fleet.errors import PlacementError
from fleet.placement.listing import listed_rung
from fleet.placement.verify import Constraint, verify
from fleet.plan import Plan
from fleet.planning import make_plan
from fleet.resources import Server, State
from tests.fleet.planning.builders import NOON, adapter, history, host, loaded, state
from tests.fleet.planning.placements import A0, ACME, GOOD, HOSTS, LLAMA, PLAIN, card, declared
from tests.fleet.planning.test_verify import paced

FILE = 65_536
"""Bytes of every adapter of these fleets."""
TWO = host("a", card("gpu0"), card("gpu1", 8001)), host("b", card("gpu0"))


def limited(of: Fleet, amount: int, *, name: str = "a") -> Fleet:
    hosts = {**of.hosts, name: replace(of.hosts[name], memory_bytes=amount)}
    return replace(of, hosts=hosts)


def planned(of: Fleet, live: State | None = None) -> Plan:
    return make_plan(of, live or state(), history(), NOON)


def servers(plan: Plan) -> list[Server]:
    return [each.after for each in plan.changes if isinstance(each.after, Server)]


def spread_over_two() -> Fleet:
    """Two versions that must not share a server, and hosts for three of them."""
    acme = adapter(ACME, isolation="client")
    birch = adapter("birch-faq-llama-v1.0.0", isolation="client")
    return replace(declared(acme, birch), hosts={each.name: each for each in TWO})


def test_a_second_server_goes_to_a_host_that_can_list_what_it_holds() -> None:
    both = servers(planned(spread_over_two()))
    assert [each.host for each in both] == ["a", "a"]
    least = [each.flags.max_cpu_loras * FILE for each in both if each.flags]
    apart = servers(planned(limited(spread_over_two(), sum(least) - 1)))
    assert [each.host for each in apart] == ["a", "b"]
    assert servers(planned(limited(spread_over_two(), sum(least)))) == both


def test_what_does_not_fit_anywhere_is_refused_with_numbers() -> None:
    of = declared(adapter(ACME))
    large = {name: replace(each, bytes=100 << 20) for name, each in of.versions.items()}
    of = replace(of, versions=large, bases={"llama": replace(LLAMA, slots=8)})
    with pytest.raises(PlacementError) as caught:
        planned(limited(limited(of, 1 << 30), 1 << 30, name="b"))
    [found] = caught.value.diagnostics
    assert found.code == "FC2009"
    assert (
        "host `a` declares 1.0 GiB of memory for listed adapters, and needs 1.6 GiB for a server "
        "that lists it: 576 MiB short"
    ).lower() in found.detail.lower()


def test_every_device_of_a_server_has_its_own_copies() -> None:
    wide = replace(LLAMA, tensor_parallel=2)
    of = replace(declared(adapter(ACME)), bases={"llama": wide})
    [pair] = servers(planned(of))
    assert pair.flags is not None
    assert len(pair.devices) == 2
    need = pair.flags.max_cpu_loras * FILE * 2
    assert servers(planned(limited(limited(of, need), need, name="b"))) == [pair]
    with pytest.raises(PlacementError, match="main memory"):
        planned(limited(limited(of, need - 1), need - 1, name="b"))


def test_the_check_finds_a_host_whose_servers_list_too_much() -> None:
    of = limited(PLAIN, 16 * FILE - 1)
    found = verify(of, paced(of, state()), state(), GOOD)
    assert Constraint.HOST_MEMORY in {each.constraint for each in found}
    enough = limited(PLAIN, 64 * FILE)
    assert not verify(enough, paced(enough, state()), state(), GOOD)


def test_what_runs_already_stays_though_its_host_has_too_little() -> None:
    of = limited(replace(declared(adapter(ACME)), hosts={each.name: each for each in HOSTS}), FILE)
    live = state(A0, loaded(ACME, A0.name))
    plan = planned(of, live)
    assert not [each for each in plan.changes if isinstance(each.after or each.before, Server)]
    assert not plan.moves


@pytest.mark.parametrize(
    ("slots", "listed", "rung"), [(8, 3, 16), (8, 17, 32), (4, 8, 8), (4, 3000, 3000)]
)
def test_a_server_may_list_twice_its_slots_or_what_it_must(
    slots: int, listed: int, rung: int
) -> None:
    assert listed_rung(slots, listed) == rung
