"""Slot memory against the bytes that a real vLLM 0.32 allocated."""

from dataclasses import replace

import pytest

from fleet.hardware import BaseShape
from fleet.vllm.lora_slots import (
    kv_bytes_per_token,
    least_kv_bytes,
    rank_bucket,
    reserve_bytes,
    slot_bytes,
    slot_tensors,
    slots_bucket,
)
from tests.fleet.planning.builders import GIB, LLAMA_8B, MIB, TINY, base, device

MISTRAL_7B = BaseShape("MistralForCausalLM", 4096, 14336, 32, 32, 8, 128, 32768, 32768, 0)
QWEN25_7B = BaseShape("Qwen2ForCausalLM", 3584, 18944, 28, 28, 4, 128, 152064, 32768, 0)
QWEN25_05B = BaseShape("Qwen2ForCausalLM", 896, 4864, 24, 14, 2, 64, 151936, 32768, 0)
QWEN3_17B = BaseShape("Qwen3ForCausalLM", 2048, 6144, 28, 16, 8, 128, 151936, 40960, 0)
QWEN3_8B = BaseShape("Qwen3ForCausalLM", 4096, 12288, 36, 32, 8, 128, 151936, 40960, 0)
LLAMA_1B = BaseShape("LlamaForCausalLM", 2048, 8192, 16, 32, 8, 64, 128256, 131072, 0)
LLAMA_70B = BaseShape("LlamaForCausalLM", 8192, 28672, 80, 64, 8, 128, 128256, 8192, 0)


@pytest.mark.parametrize(
    ("slots", "rank", "measured"),
    [(1, 8, 86_016), (4, 16, 688_128), (8, 64, 5_505_024), (2, 320, 6_881_280)],
)
def test_a_tiny_llama_takes_what_was_measured(slots: int, rank: int, measured: int) -> None:
    assert slots * (slot_bytes(TINY, rank) or 0) == measured


@pytest.mark.parametrize(
    ("shape", "measured"),
    [
        (LLAMA_8B, 22_183_936),
        (MISTRAL_7B, 5_242_880),
        (QWEN25_7B, 5_767_168),
        (QWEN25_05B, 1_466_368),
        (LLAMA_1B, 19_496_960),
        (QWEN3_17B, 22_200_320),
    ],
)
def test_one_layer_and_two_slots_of_rank_16_take_what_was_measured(
    shape: BaseShape, measured: int
) -> None:
    assert 2 * (slot_bytes(replace(shape, num_hidden_layers=1), 16) or 0) == measured


@pytest.mark.parametrize(
    ("shape", "rank", "mib"),
    [
        (LLAMA_8B, 8, 44.0),
        (LLAMA_8B, 16, 88.1),
        (LLAMA_8B, 64, 352.3),
        (MISTRAL_7B, 16, 80.0),
        (QWEN25_7B, 16, 77.0),
        (QWEN3_8B, 16, 92.8),
        (LLAMA_70B, 16, 403.3),
    ],
)
def test_a_slot_of_a_whole_model(shape: BaseShape, rank: int, mib: float) -> None:
    assert round((slot_bytes(shape, rank) or 0) / MIB, 1) == mib


@pytest.mark.parametrize(
    ("shape", "parts", "sharded", "size"),
    [
        (TINY, 2, False, 540_672),
        (TINY, 2, True, 425_984),
        (replace(LLAMA_70B), 4, False, None),
    ],
)
def test_tensor_parallel_divides_only_part_of_a_slot(
    shape: BaseShape, parts: int, *, sharded: bool, size: int | None
) -> None:
    elements = sum(slot_tensors(shape, parts, fully_sharded=sharded))
    if size is None:
        assert round(elements * 16 * 2 / MIB, 1) == 212.1
    else:
        assert elements * 4 * 16 * 2 == size


@pytest.mark.parametrize("architecture", ["MambaForCausalLM", "MixtralForCausalLM", ""])
def test_an_unknown_architecture_has_no_figure(architecture: str) -> None:
    assert slot_bytes(replace(TINY, architecture=architecture), 16) is None


@pytest.mark.parametrize(
    ("shape", "size"),
    [(LLAMA_8B, 131_072), (MISTRAL_7B, 131_072), (QWEN25_7B, 57_344), (QWEN3_8B, 147_456)],
)
def test_kv_cache_of_a_token(shape: BaseShape, size: int) -> None:
    assert kv_bytes_per_token(shape) == size


@pytest.mark.parametrize(
    ("rank", "rung"),
    [(1, 1), (2, 8), (8, 8), (9, 16), (24, 32), (257, 320), (512, 512), (513, None)],
)
def test_ranks_are_rounded_up_to_what_vllm_takes(rank: int, rung: int | None) -> None:
    assert rank_bucket(rank) == rung


def test_slots_are_rounded_up_along_their_ladder() -> None:
    assert [slots_bucket(each) for each in (0, 4, 5, 128, 129)] == [4, 4, 8, 128, None]


def test_the_reserve_grows_with_the_card() -> None:
    cards = [device("d", kind="x", memory=each * GIB) for each in (24, 48, 80)]
    assert [reserve_bytes(each) // GIB for each in cards] == [2, 3, 5]
    assert reserve_bytes(device("cpu0", memory=64 * GIB)) == GIB


def test_the_least_kv_cache_holds_one_whole_request() -> None:
    assert least_kv_bytes(base(kv_cache_bytes=5)) == 5
    assert least_kv_bytes(base(kv_cache_bytes=None)) == 512 * kv_bytes_per_token(TINY)
    assert least_kv_bytes(base(kv_cache_bytes=None, max_model_len=None, shape=None)) == 0
