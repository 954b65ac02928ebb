"""Why a fleet does not fit is named, with numbers, and what would help is planned with."""

from dataclasses import replace
from functools import cache

import pytest

from fleet.advice.candidates import Advice, Diagnosis
from fleet.advice.changes import what_if
from fleet.advice.remedies import candidates_of
from fleet.advice.trial import changed, diagnose
from fleet.errors import PlacementError
from fleet.placement.model.causes import Limit
from fleet.placement.model.state import SearchLimits
from fleet.placement.search import attempt
from fleet.placement.unplaced import causes_of
from fleet.planning.pipeline import make_plan
from fleet.rollouts.decide import decide_rollouts
from tests.fleet.placement.infeasible_fleets import FLEETS, Planted, only, several
from tests.fleet.placement.infeasible_fleets import made as made_fleet
from tests.fleet.placement.placements import GOOD, PLAIN, card
from tests.fleet.planning.builders import NOON, adapter, history, state


@cache
def diagnosed(name: str) -> Diagnosis:
    planted = FLEETS[name]
    return diagnose(planted.fleet, planted.live, history(), NOON)


def fleet_with(planted: Planted, remedy: Advice) -> object:
    """Make a remedy's change again, from its text alone where that is possible."""
    if remedy.what_if:
        return what_if(planted.fleet, remedy.what_if)
    wanted = decide_rollouts(planted.fleet, planted.live, history(), NOON)
    board, failed = attempt(planted.fleet, wanted, planted.live, SearchLimits())
    rungs = candidates_of(planted.fleet, causes_of(board, failed))
    (candidate,) = [one for each in rungs for one in each if one.text == remedy.text]
    return changed(planted.fleet, candidate)


@pytest.mark.parametrize("name", FLEETS)
def test_the_planted_cause_is_named_first_and_alone(name: str) -> None:
    planted, found = FLEETS[name], diagnosed(name)
    assert not found.fits
    first = [each for each in found.causes if each.primary]
    assert [each.limit for each in first] == [planted.limit]
    assert first[0].hour == planted.hour
    assert first[0].need > first[0].have or planted.limit in (Limit.DEVICES, Limit.PIN)
    assert set(first[0].adapters) <= set(found.lacking)


@pytest.mark.parametrize("name", FLEETS)
def test_a_way_out_is_found_and_each_is_planned_with(name: str) -> None:
    planted, found = FLEETS[name], diagnosed(name)
    assert planted.fix in [each.text for each in found.remedies]
    for remedy in found.remedies:
        fleet = fleet_with(planted, remedy)
        plan = make_plan(fleet, planted.live, history(), NOON)  # type: ignore[arg-type]
        assert plan.changes
    costs = [each.added_per_hour for each in found.remedies if each.added_per_hour is not None]
    assert costs == sorted(costs)
    assert found.tried >= len(found.remedies)


@pytest.mark.parametrize("name", FLEETS)
def test_the_error_of_a_plan_names_the_same_cause_and_the_command(name: str) -> None:
    planted = FLEETS[name]
    with pytest.raises(PlacementError) as caught:
        make_plan(planted.fleet, planted.live, history(), NOON)
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.command == "fleetctl diagnose"
    (first,) = [each for each in diagnosed(name).causes if each.primary]
    assert first.text[1:] in diagnostic.detail


def test_numbers_are_told_in_the_words_of_the_cause() -> None:
    def text(name: str) -> str:
        return diagnosed(name).causes[0].text

    assert text("max_loras declared too low") == (
        "`llama-a-gpu0` has 4 versions in 4 slots, and base `llama` declares max_loras 4"
    )
    assert text("replicas over hosts") == (
        "it wants 2 replicas on distinct hosts, and 1 may hold one"
    )
    assert text("a batch window that collides with a peak").endswith(
        "(acme-faq 2917, birch-faq (batch window) 2917, cedar-faq 2917)"
    )
    assert "at 16:00 UTC and may carry" in text(
        "throughput of one hour, where two clients' peaks collide"
    )
    assert "KV cache 16.0 GiB" in text("KV cache for max_model_len")


def test_each_version_is_tried_alone_on_each_kind_of_device() -> None:
    found = diagnosed("too few of the only kind that holds the base")
    trials = {trial.kind: trial for trial in found.trials}
    assert trials["h100_80g"].obstacle is None
    small = trials["l4_8g"].obstacle
    assert small is not None
    assert small.limit is Limit.MEMORY
    assert small.need > small.have == int(8 * (1 << 30) * 0.92)


def test_totals_show_what_is_asked_and_what_is_there() -> None:
    (total,) = diagnosed("max_loras declared too low").totals
    assert (total.replicas, total.placed, total.slots, total.devices, total.usable) == (
        5, 4, 4, 1, 1,
    )  # fmt: skip
    (busy,) = diagnosed("throughput of one hour, where two clients' peaks collide").totals
    assert busy.hour == 16
    assert busy.tokens == pytest.approx(3 * 2917, rel=1e-3)
    assert busy.carried < busy.tokens


def test_more_devices_are_tried_until_they_are_enough() -> None:
    crowd = made_fleet(
        *[replace(each, isolation="client", name=replace(each.name, client=f"c{number}"))
          for number, each in enumerate(several(3))],
        hosts=[only()],
    )  # fmt: skip
    found = diagnose(crowd, state(), history(), NOON)
    more = {each.text: each for each in found.remedies}
    assert "1 more h100_80g" not in more
    assert more["2 more h100_80g"].added_per_hour == 4.0
    assert more["2 more h100_80g"].what_if == ("gpu h100_80g +2",)


def test_a_larger_rank_of_the_base_is_tried() -> None:
    found = diagnosed("rank")
    assert "max_lora_rank 64 on base llama" in [advice.text for advice in found.remedies]


def test_a_fleet_that_fits_is_said_to_and_where_it_is_tightest() -> None:
    found = diagnose(PLAIN, state(), history(), NOON)
    assert found.fits
    assert (found.causes, found.remedies, found.tried) == ((), (), 0)
    by_name = {each.resource: each for each in found.tightest}
    slots, throughput, latency = (by_name[each] for each in ("slots", "throughput", "latency"))
    assert found.tightest[0].used == max(each.used for each in found.tightest)
    assert "are the aim of its latency class (calibrated, residual 2.0 %)" in latency.text
    assert (slots.resource, slots.used) == ("slots", 0.5)
    assert throughput.resource == "throughput"
    assert 0 < throughput.used < slots.used
    assert "tokens/s at 00:00 UTC" in throughput.text
    assert len(GOOD.servers) == 2


def test_of_two_remedies_at_one_price_the_one_that_buys_less_comes_first() -> None:
    first, second = diagnosed("a cordoned device").remedies
    assert (first.text, first.devices) == ("a/gpu0 active again", 0)
    assert (second.text, second.devices) == ("1 more h100_80g", 1)
    assert first.added_per_hour == second.added_per_hour == 2.0


def test_what_waits_for_a_silent_server_is_not_called_infeasible() -> None:
    of = made_fleet(adapter("acme-faq-llama-v1.0.0"), hosts=[only(card("gpu0"))])
    live = state(unknown_servers={"llama-a-gpu0": "timed out"})
    assert diagnose(of, live, history(), NOON).fits
