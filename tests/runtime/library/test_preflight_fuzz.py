"""Whatever the bytes, there is an error for people and never a traceback."""

import contextlib
import json
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleet.errors import LibraryError
from runtime.library.inspect import inspect
from tests.drawn import drawn, examples
from tests.runtime.library.synthetic import (
    BASE,
    config,
    framed,
    safetensors,
    tensor_name,
    tensors,
    write,
)

A, B = tensor_name(0, "q_proj", "A"), tensor_name(0, "q_proj", "B")
WHOLE = safetensors(tensors())
HEADER = int.from_bytes(WHOLE[:8], "little")


SLOW = settings(
    max_examples=examples(50, 150), suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def only_library_errors(folder: Path) -> None:
    with contextlib.suppress(LibraryError):
        inspect(folder, BASE, "tiny")


@drawn
@SLOW
@given(weights=st.binary(max_size=300))
def test_any_bytes_as_weights_end_in_an_error_for_people(tmp_path: Path, weights: bytes) -> None:
    only_library_errors(write(tmp_path / "a", config(), weights))


@drawn
@SLOW
@given(at=st.integers(0, 8 + HEADER), byte=st.integers(0, 255))
def test_any_byte_of_the_header_may_be_damaged(tmp_path: Path, at: int, byte: int) -> None:
    damaged = WHOLE[:at] + bytes([byte]) + WHOLE[at + 1 :]
    only_library_errors(write(tmp_path / "a", config(), damaged))


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@drawn
@SLOW
@given(
    changes=st.dictionaries(
        st.sampled_from(
            [
                *config(),
                "rank_pattern",
                "alpha_pattern",
                "layers_to_transform",
                "modules_to_save",
                "init_lora_weights",
                "lora_bias",
            ]
        ),
        values,
        max_size=4,
    )
)
def test_any_values_in_the_configuration_end_in_an_error_for_people(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    only_library_errors(write(tmp_path / "a", json.dumps({**config(), **changes}), WHOLE))


@drawn
@SLOW
@given(header=st.dictionaries(st.sampled_from([A, B, "x"]), values, max_size=3))
def test_any_values_in_the_header_end_in_an_error_for_people(
    tmp_path: Path, header: dict[str, Any]
) -> None:
    only_library_errors(write(tmp_path / "a", config(), framed(header, bytes(8))))
