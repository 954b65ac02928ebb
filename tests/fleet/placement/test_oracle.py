"""Small mixed fleets, of which every placement can be tried: two bases, uneven devices, rules."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, combinations, product
from random import Random

import pytest

from fleet.errors import PlacementError
from fleet.hardware import DeviceSpec, HostSpec
from fleet.placement.model.state import PlacementResult, SearchLimits
from fleet.placement.search import place
from fleet.placement.verify import verify_placement
from fleet.resources import Server, State
from fleet.rollouts.decide import decide_rollouts
from fleet.spec import DemandSpec, FleetSpec, PlacementPolicy
from fleet.vllm.flags import flags_for
from fleet.vllm.lora_slots import rank_bucket, slots_bucket
from tests.fleet.placement.placements import LLAMA, PROFILE
from tests.fleet.placement.placements import placed as drawn_up
from tests.fleet.planning.builders import GIB, NOON, adapter, device, fleet, history

KINDS = {"h100_80g": (80, 4.0), "l40s_48g": (48, 1.7), "rtx4090_24g": (24, 0.5)}
TASKS = ("acme-a-llama", "birch-a-llama", "cedar-a-mini", "dune-a-llama")
BASES = (LLAMA, replace(LLAMA, name="mini"))
SPARE = 1


def drawn(seed: int) -> FleetSpec:
    chance = Random(seed)  # noqa: S311 (made-up fleets)
    wanted = [
        adapter(
            f"{name}-v1.0.0",
            replicas=chance.choice((1, 1, 2)),
            demand=DemandSpec(chance.choice((5, 60, 300, 700)), chance.choice(((0, 12), (9, 18)))),
            apart=chance.choice(((), (), ("acme-a",))),
            pin=chance.choice((None, None, None, "h0")),
            isolation=chance.choice(("shared", "shared", "shared", "client")),
        )
        for name in TASKS[: chance.randint(2, 4)]
    ]
    hosts = [HostSpec(f"h{at}", "fake", _cards(chance)) for at in range(2)]
    ranks = {str(each.name): chance.choice((8, 16, 64)) for each in wanted}
    policy = PlacementPolicy(canary_slots=SPARE)
    made = fleet(*wanted, bases=BASES, hosts=hosts, ranks=ranks, policy=policy)
    profiles = [
        replace(PROFILE, base=each.name, kind=kind, max_lora_rank=rank)
        for each, kind, rank in product(BASES, KINDS, (8, 64))
    ]
    return replace(made, profiles=tuple(profiles))


def _cards(chance: Random) -> tuple[DeviceSpec, ...]:
    kinds = [chance.choice(sorted(KINDS)) for _ in range(2)]
    return tuple(
        device(
            f"g{at}", kind=kind, memory=KINDS[kind][0] * GIB, price=KINDS[kind][1], port=8000 + at
        )
        for at, kind in enumerate(kinds)
    )


def everything(of: FleetSpec) -> Iterator[tuple[float, tuple[tuple[str, ...], ...]]]:
    """Yield every way to put the adapters on devices, with its price, cheap ones first."""
    price = {
        f"{host.name}/{card.name}": card.price_per_hour
        for host in of.hosts.values()
        for card in host.devices
    }
    several = chain.from_iterable(combinations(price, count) for count in range(1, len(price) + 1))
    choices = list(several)
    ways = product(*(
        [way for way in choices if len(way) >= each.replicas] for each in of.adapters.values()
    ))  # fmt: skip
    priced = [(sum(price[spot] for spot in set(chain(*way))), way) for way in ways]
    yield from sorted(priced)


def standing(of: FleetSpec, way: tuple[tuple[str, ...], ...]) -> PlacementResult | None:
    """Return the placement with the narrowest flags that hold a way; None: two bases meet."""
    held: dict[tuple[str, str], list[str]] = {}
    for each, spots in zip(of.adapters.values(), way, strict=True):
        for spot in spots:
            held.setdefault((spot, each.name.base), []).append(str(each.name))
    if len({spot for spot, _ in held}) < len(held):
        return None
    servers: list[Server] = []
    bindings: dict[str, tuple[str, ...]] = {str(each.name): () for each in of.adapters.values()}
    for (spot, base), names in held.items():
        host, _, card = spot.partition("/")
        rank = rank_bucket(max(of.versions[each].rank for each in names)) or 0
        slots = slots_bucket(len(names) + SPARE) or 0
        ports = {each.name: each.port for each in of.hosts[host].devices}
        made = flags_for(of.bases[base], slots, rank)
        name = f"{base}-{host}-{card}"
        servers += [Server(name, base, host, (card,), ports[card], made.digest, made)]
        bindings |= {each: (*bindings[each], name) for each in names}
    return drawn_up({each: tuple(sorted(on)) for each, on in bindings.items()}, *servers)


def cheapest(of: FleetSpec, below: float) -> float:
    wanted = decide_rollouts(of, State(), history(), NOON)
    for price, way in everything(of):
        if price >= below:
            return below
        found = standing(of, way)
        if found is not None and verify_placement(of, wanted, State(), found) == ():
            return price
    return below


@pytest.mark.parametrize("seed", [*range(12), 14, 17, 23, 27, 34])
def test_no_other_placement_of_a_small_fleet_is_cheaper(seed: int) -> None:
    of = drawn(seed)
    wanted = decide_rollouts(of, State(), history(), NOON)
    try:
        found = place(of, wanted, State(), SearchLimits(effort="balanced"))
    except PlacementError:
        assert cheapest(of, 1e9) == 1e9
        return
    least = cheapest(of, found.price)
    assert found.bound <= least + 1e-6
    assert least == pytest.approx(found.price)
