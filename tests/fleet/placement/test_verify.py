"""A sound placement passes its check, and each fault that is put into it is found by name."""

from dataclasses import replace

import pytest

from fleet.capacity.server import USUAL_PROMPT_WEIGHT
from fleet.placement.model.accounts import placement_accounts
from fleet.placement.model.state import PlacementResult
from fleet.placement.verify import verify_placement
from fleet.placement.verify.view import Constraint, Violation
from fleet.resources import LoadedAdapter, Server, State
from fleet.rollouts.decide import decide_rollouts
from fleet.rollouts.targets import RolloutTargets
from fleet.spec import DemandSpec, FleetSpec, PlacementPolicy
from tests.fleet.placement.placements import (
    A0,
    A1,
    ACME,
    B0,
    BIRCH,
    CEDAR,
    GOOD,
    HOSTS,
    IDLE,
    LLAMA,
    MANY,
    ONE,
    PLAIN,
    QUIET,
    TWO,
    also,
    card,
    declared,
    flags,
    moved,
    placed,
    server,
    with_rank,
)
from tests.fleet.planning.builders import NOON, adapter, base, history, host, loaded, state


def found(
    of: FleetSpec, placement: PlacementResult, live: State | None = None
) -> tuple[Violation, ...]:
    there = live or state()
    return verify_placement(of, paced(of, there), there, placement)


def paced(of: FleetSpec, live: State) -> RolloutTargets:
    return decide_rollouts(of, live, history(), NOON)


def broken(of: FleetSpec, placement: PlacementResult, live: State | None = None) -> set[Constraint]:
    return {each.constraint for each in found(of, placement, live)}


def test_a_sound_placement_breaks_nothing() -> None:
    assert found(PLAIN, GOOD) == ()


TINY_B0 = server("b/gpu0", of=base(), port=8001)
QUARTER = flags(memory_share=0.46)
OTHER = adapter("dune-support-tiny-v1.0.0")
HALVES = [
    Server("llama-a-gpu0", "llama", "a", ("gpu0",), 8000, QUARTER.digest, QUARTER),
    Server("mini-a-gpu0", "mini", "a", ("gpu0",), 8001, QUARTER.digest, QUARTER),
]
QUICK = DemandSpec(peak_rpm=60, prompt_tokens=1, output_tokens=10)
CACHED = tuple(
    adapter(f"acme-t{index}-llama-v1.0.0", residency="cached", demand=QUICK) for index in range(12)
)
"""Each has a request running for 86 % of the time."""

FAULTS: dict[str, tuple[Constraint, FleetSpec, PlacementResult]] = {
    "a replica is missing": (Constraint.REPLICAS, PLAIN, moved(acme=(A0.name,))),
    "a version is nowhere": (Constraint.REPLICAS, PLAIN, moved(cedar=())),
    "a replica too many": (Constraint.REPLICAS, PLAIN, moved(cedar=(A0.name, B0.name))),
    "nobody asked for a version": (Constraint.REPLICAS, PLAIN, moved(dune=(A0.name,))),
    "a server twice": (Constraint.REPLICAS, PLAIN, moved(acme=(A0.name, A0.name))),
    "a server that is not there": (Constraint.SERVER, PLAIN, moved(cedar=("llama-c-gpu0",))),
    "a server of another base": (
        Constraint.SERVER,
        declared(TWO, ONE, IDLE, bases=[LLAMA, base()]),
        also(TINY_B1 := server("b/gpu1", of=base(), port=8101), cedar=(TINY_B1.name,)),
    ),
    "two replicas on one host": (
        Constraint.SPREAD,
        declared(replace(TWO, spread="host"), ONE, IDLE),
        also(A1, acme=(A0.name, A1.name)),
    ),
    "two replicas on one device": (
        Constraint.SPREAD,
        PLAIN,
        also(
            replace(server("a/gpu0", port=8005, memory_share=0.46), name="llama-a-second"),
            server("a/gpu0", memory_share=0.46),
            acme=(A0.name, "llama-a-second"),
        ),
    ),
    "two replicas with one device of two in common": (
        Constraint.SPREAD,
        PLAIN,
        also(
            server("a/gpu0+gpu1", memory_share=0.46, tensor_parallel=2),
            server("a/gpu1", port=8001, memory_share=0.46),
            acme=(A0.name, A1.name),
        ),
    ),
    "away from its pin to a host": (
        Constraint.PIN, declared(TWO, replace(ONE, pin="b"), IDLE), GOOD,
    ),
    "away from its pin to a server": (
        Constraint.PIN, declared(TWO, replace(ONE, pin=B0.name), IDLE), GOOD,
    ),
    "on a host that it avoids": (
        Constraint.AVOID, declared(TWO, replace(ONE, avoid=("a",)), IDLE), GOOD,
    ),
    "on a server that it avoids": (
        Constraint.AVOID, declared(TWO, replace(ONE, avoid=("x", A0.name)), IDLE), GOOD,
    ),
    "beside an alias that it stays apart from": (
        Constraint.APART, declared(TWO, replace(ONE, apart=("acme-support",)), IDLE), GOOD,
    ),
    "beside a client that it stays apart from": (
        Constraint.APART, declared(TWO, replace(ONE, apart=("acme",)), IDLE), GOOD,
    ),
    "beside another tier": (
        Constraint.ISOLATION,
        declared(replace(TWO, tier="gold", isolation="tier"), ONE, IDLE),
        GOOD,
    ),
    "beside another client": (
        Constraint.ISOLATION, declared(TWO, ONE, replace(IDLE, isolation="client")), GOOD,
    ),
    "on a host that is reserved": (
        Constraint.RESERVED,
        declared(
            replace(TWO, tier="gold"), ONE, IDLE,
            hosts=[replace(HOSTS[0], reserved_for=("gold", "birch")),
                   replace(HOSTS[1], reserved_for=("gold",))],
        ),
        GOOD,
    ),
    "new on a cordoned device": (
        Constraint.CORDONED,
        declared(TWO, ONE, IDLE, hosts=[host("a", card("gpu0", state="cordoned")), HOSTS[1]]),
        GOOD,
    ),
    "new on a draining device": (
        Constraint.CORDONED,
        declared(TWO, ONE, IDLE, hosts=[host("a", card("gpu0", state="draining")), HOSTS[1]]),
        GOOD,
    ),
    "tensor parallel unlike its devices": (
        Constraint.FLAGS, PLAIN, also(server("a/gpu0+gpu1")),
    ),
    "tensor parallel unlike its base": (
        Constraint.FLAGS, declared(TWO, ONE, IDLE, bases=[replace(LLAMA, tensor_parallel=2)]),
        also(server("a/gpu0+gpu1", tensor_parallel=2)),
    ),
    "devices of two kinds": (
        Constraint.FLAGS,
        declared(TWO, ONE, IDLE, hosts=[
            host("a", card("gpu0"), card("gpu1", 8001, kind="a100_80g")), HOSTS[1]]),
        also(server("a/gpu0+gpu1", tensor_parallel=2)),
    ),
    "other slots than declared": (
        Constraint.FLAGS, declared(TWO, ONE, IDLE, bases=[replace(LLAMA, slots=16)]), GOOD,
    ),
    "another rank than declared": (
        Constraint.FLAGS, declared(TWO, ONE, IDLE, bases=[replace(LLAMA, max_lora_rank=8)]), GOOD,
    ),
    "a digest that is not of its flags": (
        Constraint.FLAGS, PLAIN, also(replace(A0, digest="0" * 12)),
    ),
    "a rank above the server's": (Constraint.RANK, with_rank(PLAIN, CEDAR, 32), GOOD),
    "more pinned versions than slots": (
        Constraint.SLOTS, PLAIN, also(server("a/gpu0", max_loras=1, max_cpu_loras=8)),
    ),
    "more active cached versions than slots": (
        Constraint.SLOTS,
        declared(*CACHED),
        placed({str(each.name): (A0.name,) for each in CACHED}, A0),
    ),
    "more listed versions than the host memory takes": (
        Constraint.CPU_CACHE, PLAIN, also(server("a/gpu0", max_cpu_loras=1)),
    ),
    "less memory than its parts need": (
        Constraint.MEMORY, QUIET, also(server("a/gpu0", max_loras=128, max_lora_rank=256)),
    ),
    "a share of the memory that is too small": (
        Constraint.MEMORY, QUIET, also(server("a/gpu0", memory_share=0.2)),
    ),
    "shares above the whole": (
        Constraint.SHARES,
        declared(TWO, ONE, IDLE, bases=[LLAMA, replace(LLAMA, name="mini")]),
        also(server("a/gpu0", of=replace(LLAMA, name="mini"), port=8005, memory_share=0.3)),
    ),
    "a device shared that is not to be": (
        Constraint.SHARES,
        declared(
            TWO, ONE, IDLE, bases=[LLAMA, replace(LLAMA, name="mini")],
            policy=PlacementPolicy(share_devices=False),
        ),
        also(
            server("a/gpu0", memory_share=0.46),
            server("a/gpu0", of=replace(LLAMA, name="mini"), port=8005, memory_share=0.46),
        ),
    ),
    "two servers on one port": (Constraint.PORT, PLAIN, also(server("a/gpu1"))),
    "an hour above what a server carries": (
        Constraint.LOAD, declared(TWO, replace(ONE, demand=MANY), IDLE), GOOD,
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found_and_nothing_else(fault: str) -> None:
    constraint, of, placement = FAULTS[fault]
    assert broken(of, placement) == {constraint}


def test_findings_tell_numbers() -> None:
    (rank,) = found(*FAULTS["a rank above the server's"][1:])
    assert rank.text == (
        "`cedar-support-llama-v1.0.0` has rank 32, and `llama-b-gpu0` is started with "
        "max_lora_rank 16"
    )
    assert (rank.server, rank.adapter, rank.amount, rank.limit, rank.excess) == (
        B0.name, CEDAR, 32, 16, 16,
    )  # fmt: skip
    (slots,) = found(*FAULTS["more pinned versions than slots"][1:])
    assert slots.text == "`llama-a-gpu0` has 1 slots for 2 versions with a slot of their own"
    (load,) = found(*FAULTS["an hour above what a server carries"][1:])
    account = placement_accounts(FAULTS["an hour above what a server carries"][1], GOOD)[A0.name]
    assert load.amount == pytest.approx((30 + 6000) / 60 * (200 + USUAL_PROMPT_WEIGHT * 500))
    assert load.limit == pytest.approx(account.limit[0])
    assert load.limit < load.amount
    assert load.hour == 0


def test_what_is_unplaced_and_said_to_be_is_no_fault() -> None:
    lacking = replace(moved(cedar=()), unplaced={CEDAR: "b does not answer"})
    assert found(PLAIN, lacking) == ()


def test_what_was_there_may_stay_on_a_cordoned_device() -> None:
    _, of, placement = FAULTS["new on a cordoned device"]
    live = state(A0, loaded(ACME, A0.name), loaded(BIRCH, A0.name))
    assert found(of, placement, live) == ()


def test_a_load_that_was_too_high_before_may_stay_and_not_grow() -> None:
    _, of, placement = FAULTS["an hour above what a server carries"]
    live = state(A0, B0, loaded(ACME, A0.name), loaded(BIRCH, A0.name))
    assert found(of, placement, live) == ()
    assert placement_accounts(of, placement)[A0.name].peak > 1
    alone = state(A0, B0, loaded(BIRCH, A0.name))
    assert broken(of, placement, alone) == {Constraint.LOAD}


def test_what_is_not_ours_takes_a_slot_until_its_server_restarts() -> None:
    rogues = [LoadedAdapter(f"rogue{index}", A0.name, None) for index in range(7)]
    live = state(A0, B0, *rogues)
    (found_slots,) = found(PLAIN, GOOD, live)
    assert found_slots.text == (
        "`llama-a-gpu0` has 8 slots for 2 versions with a slot of their own, 7 that are not ours"
    )
    restarted = also(server("a/gpu0", max_loras=4))
    assert found(PLAIN, restarted, live) == ()


def test_nothing_comes_to_a_silent_server_and_what_was_there_stays() -> None:
    live = state(unknown_servers={A0.name: "timed out"})
    without = placed(GOOD.bindings, B0)
    assert broken(PLAIN, without, live) == {Constraint.SILENT}
    was = state(loaded(ACME, A0.name), loaded(BIRCH, A0.name), unknown_servers={A0.name: "no"})
    assert found(PLAIN, without, was) == ()
    assert broken(PLAIN, GOOD, was) == {Constraint.SILENT}


def test_no_server_is_started_on_the_device_of_a_silent_one() -> None:
    both = declared(TWO, ONE, IDLE, bases=[LLAMA, base()])
    live = state(unknown_servers={"tiny-b-gpu0": "timed out"})
    (silent,) = found(both, GOOD, live)
    assert silent.constraint is Constraint.SILENT
    assert "`tiny-b-gpu0`, which does not answer" in silent.text
