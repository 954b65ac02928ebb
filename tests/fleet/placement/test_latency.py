"""Answers later than promised: warned of, and forbidden where declared and measured."""

from dataclasses import replace

import numpy as np
import pytest

from fleet.advice.trial import diagnose
from fleet.capacity.decode_law import step_under_load
from fleet.errors import PlacementError
from fleet.hardware import Profile, Speed
from fleet.placement.model.state import PlacementState, SearchLimits, by_name
from fleet.placement.phases.consolidate import cost
from fleet.placement.phases.latency import DANGER, LatencyRisk, keep_promises, latency_risk_of
from fleet.placement.search import attempt, place
from fleet.placement.verify import verify_placement
from fleet.placement.verify.view import Constraint
from fleet.plan import LateAliases, Plan
from fleet.planning.pipeline import make_plan
from fleet.resources import State
from fleet.rollouts.decide import decide_rollouts
from fleet.spec import AdapterSpec, DemandSpec, FleetSpec
from plans.render.verdict import judge
from tests.bench.peers.bench import synthetic
from tests.fleet.placement.placements import A0, ACME, LLAMA, card, placed
from tests.fleet.placement.test_verify import paced
from tests.fleet.planning.builders import NOON, adapter, fleet, history, host, loaded, state
from tests.fleet.planning.simulator import World

ASKED = DemandSpec(peak_rpm=6, hours=(9, 17), prompt_tokens=100, output_tokens=100)
SLOW = Speed(step_s=0.02, request_s=0.0, lora_factor=1.5, spread=0.01, prompt_weight=0.1)
QUICK = replace(SLOW, step_s=0.002)
"""100 tokens of one adapter take 3 s, and 0.3 s."""


def measured(kind: str, speed: Speed) -> Profile:
    return Profile("llama", kind, 1, 16, "0.32.0", LLAMA.dtype, speed, 0.0)


def asked(*, slo_s: float = 1.0, promised: bool = True) -> AdapterSpec:
    return adapter(ACME, demand=ASKED, slo_s=slo_s, promised=promised)


def on(*profiles: Profile, who: AdapterSpec, kinds: tuple[str, ...] = ("h100_80g",)) -> FleetSpec:
    cards = [
        replace(card(f"gpu{place}", 8000 + place), kind=kind, price_per_hour=1.0 + place)
        for place, kind in enumerate(kinds)
    ]
    hosts = [host(name, each) for name, each in zip("abc", cards, strict=False)]
    return replace(fleet(who, bases=[LLAMA], hosts=hosts), profiles=profiles)


def planned(of: FleetSpec, live: State | None = None) -> Plan:
    return make_plan(of, live or state(), history(), NOON)


def told(plan: Plan) -> list[str]:
    return [note.text for note in plan.warnings if note.text.startswith("FC2011")]


def test_an_estimate_warns_and_says_to_measure() -> None:
    late = asked(slo_s=0.05)
    [warning] = told(planned(on(who=late)))
    assert "acme-support is promised within 0.05 s, and on llama-a-gpu0 100 tokens take" in warning
    assert "(uncalibrated)" in warning
    assert warning.endswith(": fleetctl calibrate llama-a-gpu0")


def test_an_estimate_of_what_nobody_promised_is_no_warning_and_is_counted() -> None:
    plan = planned(on(who=asked(slo_s=0.05, promised=False)))
    assert not told(plan)
    assert plan.late == LateAliases(1, aimed=("acme-support",))
    assert (
        judge(plan).reasons[-1]
        == "1 of 1 adapter will be later than its latency class aims at (an estimate)"
    )


def test_an_aim_that_a_tier_drops_is_not_missed() -> None:
    who = replace(asked(slo_s=0.05, promised=False), aimed=False)
    assert planned(on(who=who)).late is None


def test_a_promise_that_will_be_broken_is_a_reason_to_look() -> None:
    plan = planned(on(who=asked(slo_s=0.05)))
    assert plan.late == LateAliases(1, promised=("acme-support",))
    assert "answers will come later than promised: acme-support" in judge(plan).reasons


def test_a_plan_whose_answers_are_all_in_time_counts_none() -> None:
    assert planned(on(who=asked(slo_s=60))).late is None


@pytest.mark.parametrize("promised", [False, True])
def test_what_is_in_time_is_not_told_of(*, promised: bool) -> None:
    assert not told(planned(on(who=asked(slo_s=60, promised=promised))))
    assert not told(planned(on(measured("h100_80g", QUICK), who=asked(promised=promised))))


def test_a_class_that_nobody_promised_warns_though_it_was_measured() -> None:
    [warning] = told(planned(on(measured("h100_80g", SLOW), who=asked(promised=False))))
    assert "acme-support is due, as its latency class aims at, within 1 s" in warning
    assert "100 tokens take 3 s at 09:00 UTC (calibrated, residual 0.0 %)" in warning
    assert warning.endswith(f"fleetctl explain adapter/{ACME}@llama-a-gpu0")


def test_a_declared_promise_that_a_measured_device_misses_even_idle_is_refused() -> None:
    of = on(measured("h100_80g", SLOW), who=asked())
    with pytest.raises(PlacementError) as caught:
        planned(of)
    [found] = caught.value.diagnostics
    assert found.code == "FC2010"
    assert "100 tokens take 3 s on an idle server of `h100_80g`, as measured" in found.detail
    assert "promises 1 s" in found.detail


@pytest.mark.parametrize(("prompt", "refused"), [(8000, True), (5000, False)])
def test_a_prompt_that_takes_longer_to_read_than_is_promised_is_told(
    prompt: int, *, refused: bool
) -> None:
    """A token of it takes 0.16 ms, and one step is all that the answer needs."""
    speed = replace(QUICK, request_s=0.0001, prompt_weight=1.0)
    who = replace(asked(), demand=replace(ASKED, prompt_tokens=prompt, output_tokens=1))
    of = on(measured("h100_80g", speed), who=who)
    if refused:
        with pytest.raises(PlacementError, match="No device keeps a promised latency"):
            planned(of)
    assert bool(told(planned(of, state(A0, loaded(ACME, A0.name))))) == refused


def test_the_ways_out_are_planned_with() -> None:
    found = diagnose(on(measured("h100_80g", SLOW), who=asked()), state(), history(), NOON)
    assert [each.text for each in found.remedies if each.added_per_hour is not None] == [
        "at most 29 tokens an answer of acme-support", "slo 3.2 s for acme-support",
    ]  # fmt: skip
    assert any(each.text.startswith("a faster device, such as 1 ") for each in found.remedies)


def test_a_dearer_device_that_keeps_it_is_chosen() -> None:
    both = on(
        measured("h100_80g", SLOW), measured("a100_80g", QUICK),
        who=asked(), kinds=("h100_80g", "a100_80g"),
    )  # fmt: skip
    [use] = planned(both).capacity
    assert use.server == "llama-b-gpu1"
    cheap = replace(both, adapters={"acme-support": asked(promised=False)})
    assert planned(cheap).capacity[0].server == "llama-a-gpu0"


def test_a_device_that_was_not_measured_may_take_it() -> None:
    both = on(measured("h100_80g", SLOW), who=asked(), kinds=("h100_80g", "a100_80g"))
    assert planned(both).capacity[0].server == "llama-b-gpu1"


def test_what_runs_there_already_stays_and_is_told_of() -> None:
    of = on(measured("h100_80g", SLOW), who=asked())
    plan = planned(of, state(A0, loaded(ACME, A0.name)))
    assert not plan.moves
    assert "100 tokens take 3 s" in told(plan)[0]


def test_the_check_finds_what_comes_to_a_device_that_is_too_slow() -> None:
    of = on(measured("h100_80g", SLOW), who=asked())
    bad = placed({ACME: (A0.name,)}, A0)
    found = verify_placement(of, paced(of, state()), state(), bad)
    assert [each.constraint for each in found] == [Constraint.LATENCY]
    live = state(A0, loaded(ACME, A0.name))
    assert not verify_placement(of, paced(of, live), live, bad)
    assert not verify_placement(on(who=asked()), paced(of, state()), state(), bad)


def test_a_fleet_that_fits_tells_its_slowest_answer() -> None:
    found = diagnose(on(measured("h100_80g", QUICK), who=asked()), state(), history(), NOON)
    [latency] = [each for each in found.tightest if each.resource == "latency"]
    assert latency.used == pytest.approx(0.3, abs=0.01)
    assert "100 tokens take 0.3 s at 09:00 UTC, and 1 s are promised" in latency.text


@pytest.fixture(scope="module")
def bench_fleet() -> FleetSpec:
    return synthetic(50, 16, 3)


def bought(bench_fleet: FleetSpec) -> PlacementState:
    board, failed = attempt(
        bench_fleet, decide_rollouts(bench_fleet, State(), history(), NOON), State(), SearchLimits()
    )
    assert failed == []
    return board


def seated(board: PlacementState) -> list[LatencyRisk]:
    groups = {each.base.name for each in board.drafts.values()}
    bins = [[each for each in by_name(board.drafts.values()) if each.base.name == name]
            for name in sorted(groups)]  # fmt: skip
    found = [latency_risk_of(board.hardware, each) for each in bins]
    return [each for each in found if each is not None]


def in_danger(board: PlacementState) -> int:
    return sum(int(each.present().sum()) for each in seated(board))


def test_exchanges_lower_the_danger_and_change_neither_servers_nor_price(
    bench_fleet: FleetSpec,
) -> None:
    board = bought(bench_fleet)
    before, price = in_danger(board), cost(board)
    flags = {name: (each.slots, each.rank, each.devices) for name, each in board.drafts.items()}
    keep_promises(board)
    assert in_danger(board) < 0.9 * before
    assert cost(board) == price
    assert flags == {
        name: (each.slots, each.rank, each.devices) for name, each in board.drafts.items()
    }
    assert all(len(board.bound[name]) == each.replicas for name, each in board.items.items())
    wanted = decide_rollouts(bench_fleet, State(), history(), NOON)
    assert verify_placement(bench_fleet, wanted, State(), place(bench_fleet, wanted, State())) == ()


def test_what_runs_stays_however_late_it_is(bench_fleet: FleetSpec) -> None:
    """Half of the promises are ten times as strict: other places would be better for them."""
    world = World(NOON)
    world.apply(world.plan(bench_fleet))
    strict = {
        alias: replace(each, slo_s=each.slo_s / 10) if number % 2 else each
        for number, (alias, each) in enumerate(bench_fleet.adapters.items())
    }
    assert world.plan(replace(bench_fleet, adapters=strict)).moves == ()


def test_the_danger_is_that_of_the_law(bench_fleet: FleetSpec) -> None:
    """Of the answers' expected time by the law, without the scatter, none in danger is short."""
    for seats in seated(bought(bench_fleet)):
        for server, bin_ in enumerate(seats.drafts):
            speed = seats.speeds[server]
            for item in seats.members(server).tolist():
                asked = seats.items[item].load.tokens > 0
                steps = [
                    step_under_load(speed, bin_.tokens[hour] / 10, bin_.active[hour] / 1e6)
                    for hour in np.flatnonzero(asked).tolist()
                ]
                part = max(steps, default=0.0) * seats.length[item]
                part /= max(seats.promised[item], 3 * seats.length[item] * speed.adapted[0])
                part *= 1 + seats.length[item] ** -0.5
                expected = DANGER * min(max((part - 0.6) / 0.2, 0), 1)
                assert abs(int(seats.danger[item, server]) - expected) <= 1


def test_a_first_placement_leaves_more_room_where_that_is_no_dearer() -> None:
    """Seven servers are needed for the slots and replicas alone; 70 % may be asked of each.

    Swaps for promised answers may then take a little of the room.
    """
    few = synthetic(100, 10, 3)
    plan = World(NOON).plan(few)
    assert plan.cost_after == pytest.approx(7 * 3.0)
    assert max(max(each.load) for each in plan.capacity) <= 0.87 * few.policy.utilization
