"""Our laws against figures that others published of real GPUs."""

import pytest

from fleet.budget import GIB, kv_bytes_per_token
from fleet.throughput import fit
from tests.fleet.physics.published import (
    CONTEXTS,
    SHAPES,
    series,
    startups,
    starvation_runs,
    usable_bytes,
)


def test_weights_and_slots_of_eleven_start_ups_are_right_within_one_percent() -> None:
    checked = [each for each in startups() if each.loaded_bytes is not None]
    assert len(checked) == 11
    errors = [each.law_loaded / (each.loaded_bytes or 1) - 1 for each in checked]
    assert max(map(abs, errors)) < 0.0085
    assert max(errors) < 0  # the allocator rounds up; we never promise memory that is not there


@pytest.mark.parametrize("model", sorted(SHAPES))
def test_weights_slots_and_kv_cache_add_up_to_the_same_on_every_start(model: str) -> None:
    usable = usable_bytes(model)
    errors = [
        (each.law_loaded + each.kv_bytes) / usable - 1
        for each in startups()
        if each.model == model and each.kv_bytes is not None
    ]
    assert len(errors) == {"llama-3.1-8b": 28, "qwen-2.5-7b": 4}[model]
    assert max(map(abs, errors)) < 0.005


def test_the_kv_cache_that_is_left_is_right_within_one_percent_where_it_is_not_tiny() -> None:
    errors = [
        (usable_bytes(each.model) - each.law_loaded) / each.kv_bytes - 1
        for each in startups()
        if each.kv_bytes is not None and each.kv_bytes > 10 * GIB
    ]
    assert len(errors) == 28
    assert max(map(abs, errors)) < 0.01


def test_the_law_tells_which_servers_start() -> None:
    for each in startups():
        shape = SHAPES[each.model]
        left = (usable_bytes(each.model) - each.law_loaded) / kv_bytes_per_token(shape)
        assert (left >= CONTEXTS[each.model]) is each.started


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
