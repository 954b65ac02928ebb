"""The simulated traffic that placements are compared with, where the answer is known."""

from dataclasses import replace

import pytest

from fleet.capacity.decode_law import step_seconds
from fleet.capacity.demand import HOURS
from fleet.hardware import Speed
from tests.bench.peers.bench import RULES, before_and_after, moves, ours, synthetic, theirs
from tests.bench.peers.breaches import breaches
from tests.bench.peers.traffic import Caller, Machine, Request, _Batch, day, simulated

SPEED = Speed(0.010, 0.0001, 2.0, 0.01, 0.3)
ONE = Caller("acme-faq", (0.5,) * HOURS, prompt=30, output=100, deadline_s=10)
TWO = replace(ONE, alias="birch-faq")


def machine(*callers: Caller, slots: int = 8, batch: int = 64) -> Machine:
    return Machine("m", SPEED, slots, batch, callers)


def finished(of: Machine, *arrivals: tuple[float, Caller]) -> list[float]:
    requests = [Request(at, caller, number) for number, (at, caller) in enumerate(arrivals)]
    return [round(at, 6) for _, at in _Batch(of).run(requests)]


def test_a_request_alone_takes_its_prompts_steps_and_one_for_each_token() -> None:
    alone = 2 * step_seconds(SPEED, 15, 1) + 100 * step_seconds(SPEED, 1, 1)
    assert finished(machine(ONE), (5.0, ONE)) == [pytest.approx(5 + alone)]


def test_two_requests_at_a_time_share_each_step() -> None:
    both = 2 * step_seconds(SPEED, 30, 2) + 100 * step_seconds(SPEED, 2, 2)
    assert finished(machine(ONE, TWO), (0, ONE), (0, TWO)) == [pytest.approx(both)] * 2


@pytest.mark.parametrize(("slots", "batch"), [(1, 64), (8, 1)])
def test_without_a_slot_or_a_place_in_the_batch_a_request_waits(slots: int, batch: int) -> None:
    alone = 2 * step_seconds(SPEED, 15, 1) + 100 * step_seconds(SPEED, 1, 1)
    of = machine(ONE, TWO, slots=slots, batch=batch)
    assert finished(of, (0, ONE), (0, TWO)) == pytest.approx([alone, 2 * alone])


def test_an_adapter_in_a_slot_goes_first_however_long_another_waits() -> None:
    """As in vLLM: nothing lets a starved adapter in while another has requests."""
    of = machine(ONE, TWO, slots=1)
    arrivals = [(0.0, ONE), (0.1, TWO), *((0.2 + each, ONE) for each in range(5))]
    order = [each.caller.alias for each, _ in _Batch(of).run(_requests(arrivals))]
    assert order == ["acme-faq"] * 6 + ["birch-faq"]


def _requests(arrivals: list[tuple[float, Caller]]) -> list[Request]:
    return [Request(at, caller, number) for number, (at, caller) in enumerate(arrivals)]


def test_a_quiet_server_is_never_late_and_an_overloaded_one_nearly_always() -> None:
    quiet = simulated(machine(ONE), [0.5])
    assert quiet.requests["acme-faq"] > 40
    assert (quiet.part, quiet.broken) == (0, 0)
    crowd = simulated(machine(ONE), [50.0])
    assert crowd.part > 0.9
    assert crowd.broken == 1


def test_a_day_counts_every_hour_once() -> None:
    busy = replace(ONE, rates=(0.5,) * 6 + (0.0,) * 18)
    whole, part = day([machine(ONE)]), day([machine(busy)])
    assert 4 * part.requests["acme-faq"] == whole.requests["acme-faq"] > 0


def test_the_comparison_is_the_same_twice_and_every_rule_places_every_replica() -> None:
    fleets = before_and_after(synthetic(24, 8, 1))
    again = before_and_after(synthetic(24, 8, 1))
    assert ours(fleets) == ours(again)
    wanted = sum(each.replicas for each in fleets[0].adapters.values())
    for rule in RULES.values():
        placed = theirs(rule, fleets)
        assert placed == theirs(rule, again)
        assert sum(len(each.adapters) for each in placed[0]) >= wanted
        assert moves(fleets, placed) >= 0
        for pod in placed[0]:
            assert len(pod.adapters) == len(set(pod.adapters))


def test_breaches_are_counted_alike_for_everybody() -> None:
    fleet = synthetic(24, 8, 1)
    (pods,) = ours([fleet])
    assert breaches(fleet, pods) == {}
    alias, one = next(iter(fleet.adapters.items()))
    more = replace(fleet, adapters={**fleet.adapters, alias: replace(one, replicas=2)})
    assert breaches(more, pods) == {"apart": 1}
    crowd = replace(pods[0], adapters=[*fleet.adapters])
    narrow = replace(crowd, shape=replace(crowd.shape, slots=1))
    assert breaches(fleet, [*pods, narrow])["slots"] == 1
    assert breaches(fleet, 9 * pods)["stock"] > 0
    busy = {alias: replace(each, demand=replace(each.demand, peak_rpm=600))  # type: ignore[type-var]
            for alias, each in fleet.adapters.items()}  # fmt: skip
    assert breaches(replace(fleet, adapters=busy), pods)["load"] > 0
