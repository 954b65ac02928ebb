"""Our laws against figures that others published of real GPUs."""

from collections import Counter
from operator import attrgetter

import pytest

from fleet.capacity.calibration import fit
from fleet.vllm.lora_slots import GIB, kv_bytes_per_token
from tests.fleet.capacity.published import (
    CONTEXTS,
    SHAPES,
    series,
    startups,
    starvation_runs,
    usable_bytes,
)
from tests.fleet.capacity.reference import A100, LLAMA_70B_4BIT, SETTINGS, Setting

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


def setting(what: str) -> Setting:
    return next(each for each in SETTINGS if what in each.what)


def test_an_rtx_4090_holds_an_8b_with_5_adapters_and_50_to_80_requests() -> None:
    one = setting("4090: Llama")
    assert (one.adapters, one.slots) == (5, 8)
    assert one.requests(700) == 51
    assert one.requests(512) == 69
    assert one.requests(450) == 79


def test_two_of_them_hold_100_to_160_requests_in_two_bases() -> None:
    one = setting("4090: Llama")
    assert (2 * one.requests(700), 2 * one.requests(450)) == (102, 158)


def test_a_base_with_fewer_key_value_heads_holds_more() -> None:
    assert setting("4090: Mistral").requests(512) == 94
    assert setting("4090: Qwen").requests(512) == 191


def test_an_a100_holds_a_70b_in_4_bit_with_14_adapters() -> None:
    assert setting("A100 80: 70B").slots == 16
    assert setting("A100 80: 70B").kv_tokens == 82_594


def test_200_requests_of_a_70b_need_short_contexts_or_a_cache_in_8_bit() -> None:
    """A token takes 320 KiB: the 200 hold up to 413 tokens on average, not 512."""
    assert setting("A100 80: 70B").requests(512) == 161
    assert setting("A100 80: 70B").requests(400) == 206
    assert setting("KV cache fp8").requests(512) == 322


@pytest.mark.parametrize(
    ("what", "adapters", "requests"),
    [
        ("2 x Llama", 12, 514),
        ("3 x Llama", 15, 183),
        ("3 x Qwen", 15, 514),
    ],
)
def test_an_a100_holds_small_bases_side_by_side(what: str, adapters: int, requests: int) -> None:
    one = setting(what)
    assert one.servers * one.adapters == adapters
    assert one.requests(512) == requests


def test_three_8b_bases_reach_200_requests_at_a_mean_context_of_465() -> None:
    assert setting("3 x Llama").requests(465) == 202


def test_a_second_70b_does_not_fit() -> None:
    assert Setting("", A100, LLAMA_70B_4BIT, 2, 4).kv_tokens < 0
