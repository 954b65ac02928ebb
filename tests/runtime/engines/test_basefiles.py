"""A base's files tell which base it is, whatever its name and shape."""

from pathlib import Path

import pytest

from runtime.engines import observation
from runtime.engines.observation import base_digest

FILES = {"config.json": b"{}", "chat_template.jinja": b"{{ x }}", "model.safetensors": b"w" * 5000}


def base(folder: Path, **changes: bytes) -> str:
    folder.mkdir(exist_ok=True)
    for name, content in {**FILES, **changes}.items():
        (folder / name).write_bytes(content)
    return base_digest(folder)


@pytest.mark.parametrize("name", [*FILES, "tokenizer.json"])
def test_another_file_is_another_base_and_a_copy_is_the_same(tmp_path: Path, name: str) -> None:
    first = base(tmp_path / "a")
    assert first == base(tmp_path / "b")
    assert base(tmp_path / "b", **{name: FILES.get(name, b"")[:-1] + b"!"}) != first


def test_of_a_large_file_its_beginning_end_and_parts_between_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observation, "_BLOCK", 10)
    first = base(tmp_path / "a")
    for at in (0, 4999, 31 * 4990 // 63):
        other = bytearray(FILES["model.safetensors"])
        other[at] = 1
        assert base(tmp_path / "a", **{"model.safetensors": bytes(other)}) != first, at


def test_what_is_no_folder_here_is_not_known(tmp_path: Path) -> None:
    assert base_digest(tmp_path / "organisation/model") == ""
    assert base_digest(tmp_path) == ""
