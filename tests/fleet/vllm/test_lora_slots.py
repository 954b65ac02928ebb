"""Bytes that PyTorch's allocator takes of a card for tensors that stay."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.hardware import BaseShape
from fleet.vllm.lora_slots import (
    GIB,
    Taken,
    assumption,
    host_bytes,
    kv_bytes_per_token,
    kv_dtype,
    least_kv_bytes,
    lora_dtype,
    release,
    reserve_bytes,
    slot_bytes,
    slot_tensors,
    taken,
    weight_bytes,
)
from tests.fleet.capacity.published import LLAMA_31_8B, QWEN25_7B
from tests.fleet.capacity.reference import LLAMA_70B_4BIT
from tests.fleet.planning.builders import base, device

KIB, MIB = 1 << 10, 1 << 20


@pytest.mark.parametrize(
    ("sizes", "allocated", "reserved"),
    [
        ([], 0, 0),
        ([1], 512, 2 * MIB),
        ([MIB, MIB], 2 * MIB, 2 * MIB),
        ([MIB + 1], MIB + 512, 20 * MIB),
        ([7 * MIB] * 2, 14 * MIB, 20 * MIB),
        ([7 * MIB] * 3, 21 * MIB, 40 * MIB),
        ([7 * MIB, 7 * MIB, 6 * MIB], 20 * MIB, 20 * MIB),
        ([10 * MIB - 512] * 2, 20 * MIB, 20 * MIB),
        ([10 * MIB], 10 * MIB, 10 * MIB),
        ([37 * MIB], 38 * MIB, 38 * MIB),
        ([MIB * 365 // 10], MIB * 365 // 10, 38 * MIB),
    ],
)
def test_tensors_lie_in_segments(sizes: list[int], allocated: int, reserved: int) -> None:
    assert taken(sizes) == Taken(allocated, reserved)


def test_a_rest_of_more_than_a_mebibyte_is_used_by_a_tensor_that_fits() -> None:
    odd = 36 * MIB + 512 * KIB
    assert taken([odd, MIB + 256 * KIB]).reserved == 38 * MIB


@given(st.lists(st.integers(1, 100 * MIB), max_size=60))
def test_nothing_is_taken_twice_or_for_less(sizes: list[int]) -> None:
    found = taken(sizes)
    assert sum(sizes) <= found.allocated <= found.reserved
    assert found.allocated <= sum(each + MIB + 512 for each in sizes)


QWEN3_17B = BaseShape("Qwen3ForCausalLM", 2048, 6144, 28, 16, 8, 128, 151936, 40960, 0)


@pytest.mark.parametrize(
    ("flags", "dtype", "bytes_per_token"),
    [
        ((), "bfloat16", 131_072),
        ((("kv-cache-dtype", "auto"),), "bfloat16", 131_072),
        ((("kv-cache-dtype", "fp8"),), "fp8", 65_536),
        ((("--kv_cache_dtype", "fp8_e5m2"),), "fp8_e5m2", 65_536),
        ((("quantization", "fp8"),), "bfloat16", 131_072),
    ],
)
def test_only_the_caches_own_dtype_halves_it(
    flags: tuple[tuple[str, str], ...], dtype: str, bytes_per_token: int
) -> None:
    one = replace(base(shape=LLAMA_31_8B), extra=flags)
    assert kv_dtype(one) == dtype
    assert kv_bytes_per_token(one) == bytes_per_token


def test_a_cache_of_floats_takes_twice_that_of_halves() -> None:
    one = base(shape=LLAMA_31_8B)
    assert kv_bytes_per_token(replace(one, dtype="float32")) == 2 * kv_bytes_per_token(one)
    assert kv_bytes_per_token(one) == kv_bytes_per_token(LLAMA_31_8B)


@pytest.mark.parametrize(
    ("cards", "bytes_per_token"), [(1, 131_072), (2, 65_536), (8, 16_384), (16, 16_384)]
)
def test_a_device_holds_one_key_value_head_at_least(cards: int, bytes_per_token: int) -> None:
    assert kv_bytes_per_token(base(shape=LLAMA_31_8B), cards) == bytes_per_token


def test_slots_keep_the_adapters_dtype_on_a_quantised_base() -> None:
    quantised = replace(base(shape=LLAMA_70B_4BIT), extra=(("quantization", "awq"),))
    assert lora_dtype(quantised) == "bfloat16"
    slot = slot_bytes(LLAMA_70B_4BIT, 16, lora_dtype(quantised))
    assert (slot or 0) / (1 << 20) == pytest.approx(403.3, abs=0.05)
    floats = replace(quantised, extra=(("lora-dtype", "float32"),))
    assert slot_bytes(LLAMA_70B_4BIT, 16, lora_dtype(floats)) == 2 * (slot or 0)


def test_weights_are_the_files_own_size_over_the_devices() -> None:
    assert weight_bytes(LLAMA_70B_4BIT) == 39_770_000_000
    assert weight_bytes(LLAMA_70B_4BIT, 4) == 9_942_500_000
    assert weight_bytes(replace(LLAMA_70B_4BIT, weight_bytes=5), 2) == 3


@pytest.mark.parametrize(
    ("cards", "sharded", "mib"), [(1, False, 403.3), (4, False, 212.1), (4, True, 107.1)]
)
def test_slots_of_a_70b_over_devices(cards: int, *, sharded: bool, mib: float) -> None:
    slot = slot_bytes(LLAMA_70B_4BIT, 16, "auto", cards, fully_sharded=sharded)
    assert (slot or 0) / (1 << 20) == pytest.approx(mib, abs=0.05)


def test_qwen3_has_slots_for_its_vocabulary_since_0_16() -> None:
    vocabulary = 2 * (151936 + 2048)
    newest = slot_tensors(QWEN3_17B)
    assert newest == slot_tensors(QWEN3_17B, vllm="0.16.0")
    assert newest == slot_tensors(QWEN3_17B, vllm="0.32.0+cpu")
    assert sum(newest) - sum(slot_tensors(QWEN3_17B, vllm="0.15.2")) == vocabulary


def test_before_0_12_slots_had_room_for_words_of_their_own() -> None:
    old, new = (slot_bytes(LLAMA_31_8B, 16, vllm=each) or 0 for each in ("0.11.2", "0.12.0"))
    assert old - new == 3 * 256 * 4096 * 2
    of_none = (slot_bytes(QWEN25_7B, 16, vllm=each) for each in ("0.8.5", "0.12.0"))
    assert len({*of_none}) == 1


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("0.32.0", ""), ("0.12.0", ""), ("0.20.2+cu128", ""),
        ("0.33.0", "vLLM 0.33.0 is newer than 0.32, whose layers are known"),
        ("0.11.0", "vLLM 0.11.0 is older than 0.12, whose layers are known"),
        ("0.1.dev6216+g1125ba0", "the layers of vLLM 0.32 assumed"),
        ("", "the layers of vLLM 0.32 assumed"),
    ],
)  # fmt: skip
def test_what_is_assumed_of_a_version_is_said(version: str, said: str) -> None:
    assert assumption(version) == said


@pytest.mark.parametrize(
    ("version", "minor"),
    [("0.32.0", (0, 32)), ("1.4", (1, 4)), ("", (0, 32)), ("dev", (0, 32)), ("v0.9.1", (0, 32))],
)
def test_a_version_that_says_nothing_counts_as_the_newest(
    version: str, minor: tuple[int, int]
) -> None:
    assert release(version) == minor


def test_a_measured_reserve_replaces_the_guess() -> None:
    card = device("gpu0", kind="h100_80g", memory=80 * GIB)
    assert (reserve_bytes(card), reserve_bytes(card, 7 * GIB)) == (5 * GIB, 7 * GIB)


def test_host_memory_holds_every_listed_adapter_once_per_worker() -> None:
    assert host_bytes(12, 83_886_080, 2) == 24 * 83_886_080


def test_the_least_cache_is_per_device() -> None:
    one = base(shape=LLAMA_31_8B, kv_cache_bytes=None, max_model_len=8192)
    assert least_kv_bytes(one) == GIB
    assert least_kv_bytes(one, 2) == GIB // 2
    assert least_kv_bytes(replace(one, min_kv_tokens=16384), 2) == GIB
    assert least_kv_bytes(base(kv_cache_bytes=5), 2) == 5


def test_an_unknown_shape_takes_no_known_cache() -> None:
    assert kv_bytes_per_token(base(shape=None)) == 0
