"""Reference hardware: how many adapters and requests it holds, and at which mean context.

The rules of thumb say: an RTX 4090 holds one 7-8B base with 3-5 adapters and 50-80 requests, two
of them twice that; an A100 with 80 GB one 70B in 4 bit, or 2-3 small bases with 10-15 adapters,
and 200 requests or more.
"""

import pytest

from tests.fleet.capacity.reference import A100, LLAMA_70B_4BIT, SETTINGS, Setting


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
