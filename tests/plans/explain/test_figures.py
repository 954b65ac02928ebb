"""What `explain` tells of a placement: the shape, the worst hour, the runner-up."""

from dataclasses import replace

import pytest

from fleet.placement.alternatives import Weighed, weigh
from fleet.placement.model.state import PlacementResult
from fleet.plan import DeviceUse
from fleet.planning.desired import desired_state_of
from fleet.planning.pipeline import make_plan
from fleet.resources import State
from fleet.rollouts.decide import decide_rollouts
from plans.explain.figures import adapter_facts, host_memory, render_text, server_facts
from plans.explain.resource import ExplainInput
from plans.explain.resource import explain as facts_of
from tests.fleet.placement.placements import (
    A0,
    ACME,
    B0,
    BIRCH,
    BUSY,
    CEDAR,
    GOOD,
    IDLE,
    MANY,
    ONE,
    PLAIN,
    TWO,
    also,
    declared,
    placed,
    server,
    with_rank,
)
from tests.fleet.planning.builders import NOON, adapter, history, state

NOTHING = state()


def explain(scene: ExplainInput, name: str) -> str:
    return render_text(facts_of(scene, name))


def weighed(
    name: str = BIRCH, on: str = A0.name, placement: PlacementResult = GOOD, of: object = PLAIN
) -> Weighed:
    wanted = decide_rollouts(of, NOTHING, history(), NOON)  # type: ignore[arg-type]
    return weigh(of, wanted, NOTHING, placement, name, on)  # type: ignore[arg-type]


def told(facts: object) -> dict[str, str]:
    return dict(facts)  # type: ignore[call-overload, no-any-return]


def test_the_runner_up_is_the_cheapest_other_place() -> None:
    found = weighed()
    assert [(each.server, each.new, each.added_per_hour) for each in found.alternatives] == [
        (B0.name, False, 0.0),
        ("llama-a-gpu1", True, 2.0),
    ]
    assert found.runner_up == found.alternatives[0]
    assert [each.adapter for each in found.without.residents] == [ACME]
    assert found.without.peak < found.account.peak


def test_a_replica_has_no_runner_up_where_its_twin_is() -> None:
    found = weighed(ACME)
    assert [each.server for each in found.alternatives] == ["llama-a-gpu1"]


def test_what_forbids_a_place_is_told() -> None:
    alone = declared(TWO, replace(ONE, avoid=("b", "llama-a-gpu1")), IDLE)
    found = weighed(of=alone)
    assert found.runner_up is None
    facts = told(adapter_facts(BIRCH, None, found, GOOD))
    assert facts["Runner-up"] == (
        "none; on llama-b-gpu0, `birch-support-llama-v1.0.0` avoids `b`, and is on `llama-b-gpu0`"
    )


def test_where_only_a_new_server_is_left_the_nearest_running_one_tells_why() -> None:
    alone = declared(TWO, replace(ONE, avoid=("b",)), IDLE)
    facts = told(adapter_facts(BIRCH, None, weighed(of=alone), GOOD))
    assert facts["Runner-up"].startswith("a new server llama-a-gpu1: +2.00 per hour")
    assert facts["Not on"] == (
        "llama-b-gpu0: `birch-support-llama-v1.0.0` avoids `b`, and is on `llama-b-gpu0`"
    )


def test_a_place_where_the_answers_break_a_promise_is_no_runner_up() -> None:
    promised = replace(ONE, slo_s=2.7, promised=True)
    crowd = [replace(adapter(f"c{n}-a-llama-v1.0.0"), demand=BUSY) for n in range(5)]
    names = {str(its.name): (B0.name,) for its in crowd}
    busy = replace(GOOD, bindings={**GOOD.bindings, **names})
    found = weighed(of=declared(TWO, promised, IDLE, *crowd), placement=busy)
    assert found.runner_up is not None
    assert found.runner_up.new
    assert found.closed is not None
    assert found.closed.obstacles[-1].endswith(" s, and 2.7 s are promised")


def test_a_full_server_is_no_runner_up() -> None:
    full = also(server("b/gpu0", max_loras=2), server("a/gpu1", port=8001))
    found = weighed(placement=full)
    open_, fresh, full_one = found.alternatives
    assert (open_.server, open_.new, open_.obstacles) == ("llama-a-gpu1", False, ())
    assert (fresh.server, fresh.new, fresh.obstacles) == ("llama-b-gpu1", True, ())
    assert full_one.obstacles == (
        "`llama-b-gpu0` has 2 slots for 3 versions with a slot of their own",
    )


def test_an_adapter_tells_what_it_asks_what_binds_and_why_it_moves() -> None:
    moved = replace(GOOD, forced={BIRCH: "`b/gpu1` is draining"})
    facts = told(adapter_facts(BIRCH, PLAIN.adapters["birch-support"], weighed(), moved))
    assert facts == {
        "Asks": (
            "a slot of rank 8 and 350 tokens/s in its busiest hour, 00:00 UTC, when it is active "
            "86 % of the time"
        ),
        "Answers": (
            "200 tokens take 2.6 s at 00:00 UTC; 2 s are the aim of its latency class, so they "
            "are late (calibrated, residual 2.0 %)"
        ),
        "Binding": "slots of llama-a-gpu0: 2 of 8 taken, 1 without it",
        "Must move": "`b/gpu1` is draining",
        "Runner-up": facts["Runner-up"],
    }
    assert facts["Runner-up"].startswith("llama-b-gpu0: +0.00 per hour, its worst hour then at ")
    optional = replace(GOOD, optional={CEDAR: "frees `llama-a-gpu1`, which saves 2 an hour"})
    idle = told(adapter_facts(CEDAR, None, weighed(CEDAR, B0.name), optional))
    assert idle["Asks"] == "a slot of rank 8; no demand is declared"
    assert idle["May move"] == "frees `llama-a-gpu1`, which saves 2 an hour"


def test_throughput_binds_where_it_is_fuller_than_the_slots() -> None:
    heavy = declared(TWO, replace(ONE, demand=replace(BUSY, peak_rpm=600, hours=(9, 17))), IDLE)
    facts = told(adapter_facts(BIRCH, heavy.adapters["birch-support"], weighed(of=heavy), GOOD))
    assert facts["Binding"].startswith("throughput of llama-a-gpu0 at 09:00 UTC: ")
    assert facts["Binding"].endswith(" % without it, at most 70 %")


def test_answers_that_no_batch_keeps_up_with_are_late() -> None:
    swamped = declared(replace(ONE, demand=MANY))
    facts = told(adapter_facts(BIRCH, swamped.adapters["birch-support"], weighed(of=swamped), GOOD))
    assert facts["Answers"] == (
        "late: at 00:00 UTC its server is asked for more than it can decode"
    )
    quick = replace(ONE, demand=replace(BUSY, output_tokens=8))
    found = weighed(of=declared(quick))
    answers = told(adapter_facts(BIRCH, quick, found, GOOD))["Answers"]
    assert "2 s are the aim of its latency class (" in answers


def test_a_server_tells_the_host_memory_of_what_it_may_list() -> None:
    account = weighed().account
    flags = A0.flags
    assert flags is not None
    assert host_memory(account, flags, PLAIN.versions, None) == (
        "1.0 MiB at most: 16 listed versions of up to 64.0 KiB"
    )
    two = replace(flags, tensor_parallel=2)
    assert host_memory(account, two, PLAIN.versions, 1 << 30) == (
        "2.0 MiB at most of 1.0 GiB that a declares: 16 listed versions of up to 64.0 KiB for "
        "each of 2 devices"
    )
    assert host_memory(account, flags, {}, None) == "nothing is listed whose size is known"


def test_a_server_tells_what_the_largest_rank_costs_the_others() -> None:
    of, large = with_rank(PLAIN, BIRCH, 64), also(server("a/gpu0", max_lora_rank=64))
    account = weighed(placement=large, of=of).account
    assert account.inflation is not None
    facts = told(server_facts(account))
    assert facts["Shape"] == "1 x h100_80g, 8 slots of rank 64"
    assert facts["Slots"] == "2 of 8 taken"
    assert facts["Rank"] == (
        "rank 64 of birch-support-llama-v1.0.0 raises 7 other slots from rank 8: 2.4 GiB in all; "
        f"moving it frees {account.inflation.kv_tokens:,} KV tokens"
    )
    assert facts["Worst hour"].startswith("00:00 UTC, 525 tokens/s: ")
    assert facts["Worst hour"].endswith(
        "at most 70 % allowed; 1.5 adapters active at a time (calibrated, residual 2.0 %)"
    )


@pytest.mark.parametrize(
    ("residency", "words"),
    [("pinned", "1 of 8 taken"), ("cached", "0 of 8 taken, 1 cached adapter beside them")],
)
def test_cached_adapters_take_no_slot_of_their_own(residency: str, words: str) -> None:
    of = declared(adapter(CEDAR, residency=residency))
    account = weighed(CEDAR, placement=placed({CEDAR: (A0.name,)}, A0), of=of).account
    facts = told(server_facts(account))
    assert facts["Slots"] == words
    assert facts["Worst hour"] == "no demand is declared for what it holds"


def test_explain_draws_on_the_placement_where_it_is_given() -> None:
    wanted = decide_rollouts(PLAIN, NOTHING, history(), NOON)
    scene = ExplainInput(
        fleet=PLAIN,
        plan=make_plan(PLAIN, NOTHING, history(), NOON),
        desired=desired_state_of(PLAIN, wanted, GOOD, NOTHING),
        live=State(),
        wanted=wanted,
        placement=GOOD,
    )
    assert "  Runner-up  llama-b-gpu0: +0.00 per hour" in explain(scene, BIRCH)
    assert "  Slots        2 of 8 taken\n" in explain(scene, f"server/{A0.name}")
    assert "Runner-up" not in explain(replace(scene, placement=None), BIRCH)


@pytest.mark.parametrize(
    ("share", "stays"),
    [
        (0.6, "nothing makes it move"),
        (0.7, "its server is asked for 70 %, 70 % are declared"),
        (0.97, "its server is asked for 97 %, 70 % are declared"),
    ],
)
def test_staying_is_not_called_free_on_a_server_above_its_limit(share: float, stays: str) -> None:
    plan = make_plan(PLAIN, NOTHING, history(), NOON)
    wanted = decide_rollouts(PLAIN, NOTHING, history(), NOON)
    live = desired_state_of(PLAIN, wanted, GOOD, NOTHING)
    use = DeviceUse(A0.name, "a", ("gpu0",), None, None, None, None, None, 8, 2, 2, 2, "", (share,))
    scene = ExplainInput(PLAIN, replace(plan, capacity=(use,)), live, live)
    text = explain(scene, f"adapter/{BIRCH}@{A0.name}")
    assert f"it is loaded here already; {stays} (2 servers of its base)" in text
