"""Our laws against figures that others published of real GPUs."""

from collections import Counter
from operator import attrgetter

import pytest

from fleet.capacity.calibration import fit
from fleet.vllm.memory import GIB, kv_bytes_per_token
from tests.fleet.capacity.published import (
    CONTEXTS,
    SHAPES,
    series,
    startups,
    starvation_runs,
    usable_bytes,
)

law, tensors = attrgetter("law"), attrgetter("tensors")


def test_all_84_published_start_ups_are_looked_at() -> None:
    assert len(startups()) == 84
    assert Counter(each.started for each in startups()) == {True: 65, False: 19}
    assert len({(each.model, each.max_loras, each.max_lora_rank) for each in startups()}) == 84


def test_what_a_server_says_its_weights_and_slots_took_is_right_to_a_fortieth_of_a_percent() -> (
    None
):
    errors = [each.allocated / each.loaded_bytes - 1 for each in startups() if each.loaded_bytes]
    assert len(errors) == 56
    assert max(map(abs, errors)) < 0.00025


def test_without_the_allocator_it_would_be_off_by_more_than_one_percent() -> None:
    errors = [each.tensors / each.loaded_bytes - 1 for each in startups() if each.loaded_bytes]
    assert -0.0136 < min(errors) < -0.013
    assert max(errors) < 0  # what the tensors alone take is never more


@pytest.mark.parametrize("model", sorted(SHAPES))
def test_weights_slots_and_kv_cache_add_up_to_the_same_on_every_start(model: str) -> None:
    sums = [
        each.law + each.kv_bytes
        for each in startups()
        if each.model == model and each.kv_bytes is not None
    ]
    assert len(sums) == {"llama-3.1-8b": 36, "qwen-2.5-7b": 37}[model]
    assert max(sums) - min(sums) < 0.035 * GIB


def test_the_kv_cache_that_is_left_is_right_to_an_eighth_of_a_percent_however_small() -> None:
    left = [each for each in startups() if each.kv_bytes is not None]
    errors = [(usable_bytes(e.model, law) - e.law) / (e.kv_bytes or 1) - 1 for e in left]
    assert len(errors) == 73
    assert max(map(abs, errors)) < 0.0012
    assert min(each.kv_bytes or 0 for each in left) < 2.4 * GIB


def test_with_the_tensors_alone_the_kv_cache_is_off_by_up_to_a_tenth() -> None:
    errors = [
        (usable_bytes(each.model, tensors) - each.tensors) / each.kv_bytes - 1
        for each in startups()
        if each.kv_bytes is not None
    ]
    assert max(map(abs, errors)) > 0.09


def test_the_law_tells_which_servers_start() -> None:
    for each in startups():
        left = usable_bytes(each.model, law) - each.law
        assert (left / kv_bytes_per_token(SHAPES[each.model]) >= CONTEXTS[each.model]) is (
            each.started
        )


def test_the_throughput_law_fits_44_published_points_within_three_percent() -> None:
    assert sum(len(each.points) for each in series()) == 44
    residuals = {(each.model, each.output_tokens): fit(each.points)[1] for each in series()}
    assert max(residuals.values()) < 0.027
    assert sorted(residuals) == [
        ("llama-3.1-8b", 100), ("llama-3.1-8b", 200), ("qwen-2.5-7b", 100), ("qwen-2.5-7b", 400),
    ]  # fmt: skip


def test_one_spread_fits_all_four_series() -> None:
    spreads = [fit(each.points)[0].spread for each in series()]
    assert min(spreads) == pytest.approx(0.00898, rel=0.01)
    assert max(spreads) == pytest.approx(0.00941, rel=0.01)


def test_with_residents_in_the_place_of_active_adapters_it_would_not_fit() -> None:
    assert min(fit(each.residents)[1] for each in series()) > 0.09


def test_more_busy_adapters_than_slots_is_when_they_wait() -> None:
    runs = starvation_runs()
    slow = [each for each in runs if each.slow]
    assert (len(runs), len(slow)) == (119, 52)
    caught = [each for each in slow if each.busy > each.max_loras]
    false_alarms = [each for each in runs if not each.slow and each.busy > each.max_loras]
    assert (len(caught), len(false_alarms)) == (51, 11)


def test_with_a_tenth_of_the_slots_kept_free_no_starvation_is_missed() -> None:
    slow = [each for each in starvation_runs() if each.slow]
    assert all(each.busy > 0.9 * each.max_loras for each in slow)


def test_counting_residents_refuses_three_times_as_many_fine_servers() -> None:
    runs = starvation_runs()
    false_alarms = [each for each in runs if not each.slow and each.adapters > each.max_loras]
    assert len(false_alarms) == 35
