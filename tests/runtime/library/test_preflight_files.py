"""Files that are no whole safetensors file, and no JSON object."""

import json
from pathlib import Path

import pytest

from fleet.errors import LibraryError
from runtime.library.inspect import inspect
from tests.runtime.library.synthetic import (
    BASE,
    codes,
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


@pytest.mark.parametrize("dtype", ["F64", "I8", "I32", "F8_E4M3", "U4", "", "f32"])
def test_a_type_of_tensor_that_is_not_served(tmp_path: Path, dtype: str) -> None:
    header = json.loads(WHOLE[8 : 8 + HEADER])
    header[A]["dtype"] = dtype
    weights = framed(header, WHOLE[8 + HEADER :])
    assert codes(write(tmp_path / "a", config(), weights)) == {"FC3124"}


@pytest.mark.parametrize(
    ("weights", "code"),
    [
        (b"", "FC3114"),
        (WHOLE[:7], "FC3114"),
        (WHOLE[:8], "FC3114"),
        (WHOLE[: 8 + HEADER - 1], "FC3114"),
        (WHOLE[: 8 + HEADER], "FC3126"),
        (WHOLE[:-1], "FC3126"),
        (WHOLE + b"\0", "FC3126"),
        (b"\xff" * 200, "FC3114"),
        (b"PK\x03\x04" + bytes(200), "FC3114"),
        (bytes(200), "FC3115"),
        (framed([], b""), "FC3115"),
        (framed({}, b""), "FC3120"),
        (framed({"__metadata__": {}}, b""), "FC3120"),
        (framed({"a": 1}, b""), "FC3115"),
        (framed({"a": {"dtype": "F32", "shape": [1]}}, b""), "FC3115"),
        (framed({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0]}}, b""), "FC3115"),
        (framed({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}, b""), "FC3115"),
        (framed({"a": {"dtype": "F32", "shape": [1.0], "data_offsets": [0, 4]}}, b""), "FC3115"),
        (b"\x02\0\0\0\0\0\0\0{\xff", "FC3115"),
    ],
)
def test_a_file_that_is_no_whole_safetensors_file(
    tmp_path: Path, weights: bytes, code: str
) -> None:
    assert code in codes(write(tmp_path / "a", config(), weights))


def test_a_tensor_named_twice_in_the_header(tmp_path: Path) -> None:
    tensor = {"dtype": "F32", "shape": [4, 32], "data_offsets": [0, 512]}
    entry = f"{json.dumps(A)}: {json.dumps(tensor)}"
    text = f"{{{entry}, {entry}}}".encode()
    weights = len(text).to_bytes(8, "little") + text + bytes(512)
    assert codes(write(tmp_path / "a", config(), weights)) == {"FC3115"}


@pytest.mark.parametrize(
    "offsets", [[[0, 512], [256, 768]], [[0, 512], [600, 1112]], [[0, 1024], [0, 512]]]
)
def test_offsets_that_overlap_or_leave_a_gap(tmp_path: Path, offsets: list[list[int]]) -> None:
    header = {
        name: {"dtype": "F32", "shape": shape, "data_offsets": its}
        for name, shape, its in zip((A, B), ([4, 32], [32, 4]), offsets, strict=True)
    }
    weights = framed(header, bytes(max(end for _, end in offsets)))
    assert "FC3125" in codes(write(tmp_path / "a", config(), weights))


@pytest.mark.parametrize("name", ["adapter_model.bin", "adapter_model.pt"])
def test_a_pickle_is_named_and_not_read(tmp_path: Path, name: str) -> None:
    folder = write(tmp_path / "a", config(), None)
    (folder / name).write_bytes(b"cos\nsystem\n(S'touch /tmp/owned'\ntR.")
    with pytest.raises(LibraryError, match="pickle, which can run code") as caught:
        inspect(folder, BASE, "tiny")
    assert {each.code for each in caught.value.diagnostics} == {"FC3113"}


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "nope", "[" * 100_000, '{"r": ' + "9" * 5000 + "}"]
)
def test_a_configuration_that_is_no_json_object(tmp_path: Path, text: str) -> None:
    assert codes(write(tmp_path / "a", text, WHOLE)) == {"FC3112"}


def test_a_configuration_in_another_encoding(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", config(), WHOLE)
    (folder / "adapter_config.json").write_bytes(b'{"r": "\xff\xfe"}')
    assert codes(folder) == {"FC3112"}


def test_a_file_an_empty_folder_or_nothing_in_place_of_the_adapter(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(WHOLE)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert codes(file) == codes(empty) == codes(tmp_path / "nothing") == {"FC3111"}


def test_a_folder_in_place_of_a_file(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", config(), None)
    (folder / "adapter_model.safetensors").mkdir()
    assert codes(folder) == {"FC3113"}
