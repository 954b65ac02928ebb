"""Bytes that PyTorch's allocator takes of a card for tensors that stay."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.vllm.lora_slots import Taken, taken

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
