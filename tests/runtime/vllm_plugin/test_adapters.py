"""The file of adapters as the plug-in reads it: exact names, right bytes, nothing else."""

import json
import os
from pathlib import Path

import pytest

from runtime.library import layout
from runtime.vllm_plugin.fleetctl_resolver.adapters import (
    SERVED_FILES,
    UntrustedAdapterError,
    folder_digest,
    trusted_folder,
)
from tests.runtime.vllm_plugin.hostile_names import NAME, hostile_names


def adapter(folder: Path, text: str) -> str:
    """Write an adapter, as far as a digest needs one; return its digest."""
    folder.mkdir(parents=True)
    for name in layout.SERVED_FILES:
        (folder / name).write_text(f"{name} of {text}", encoding="utf-8")
    return layout.folder_digest(folder)


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    return tmp_path / "store" / "mine"


@pytest.fixture
def file(tmp_path: Path, mine: Path) -> Path:
    """The file, with one adapter; another adapter lies beside it in the store."""
    adapter(tmp_path / "store" / "other", "another client")
    path = tmp_path / "adapters.json"
    entry = {"path": str(mine), "digest": adapter(mine, "mine")}
    path.write_text(json.dumps({NAME: entry}), encoding="utf-8")
    return path


@pytest.mark.parametrize("content", [b"", b"{}", b"\0" * 100_000, os.urandom(3_000_000)])
def test_both_digests_are_equal(tmp_path: Path, content: bytes) -> None:
    for place, name in enumerate(layout.SERVED_FILES):
        (tmp_path / name).write_bytes(content[place:])
    (tmp_path / "README.md").write_text("not served", encoding="utf-8")
    assert folder_digest(tmp_path) == layout.folder_digest(tmp_path)
    assert sorted(layout.SERVED_FILES) == list(SERVED_FILES)


def test_the_recorded_name_has_the_recorded_folder(file: Path, mine: Path) -> None:
    assert trusted_folder(file, NAME) == str(mine)


def test_no_other_name_has_a_folder(file: Path) -> None:
    names = hostile_names(file.parent / "store" / "other")
    assert len(set(names)) == len(names) >= 40
    found = {name: trusted_folder(file, name) for name in [*names, "\ud800", "😀" * 100]}
    assert {name: folder for name, folder in found.items() if folder is not None} == {}


@pytest.mark.parametrize("name", SERVED_FILES)
def test_changed_bytes_are_not_trusted(file: Path, mine: Path, name: str) -> None:
    with (mine / name).open("ab") as stream:
        stream.write(b"\0")
    with pytest.raises(UntrustedAdapterError, match="has digest"):
        trusted_folder(file, NAME)


@pytest.mark.parametrize("name", SERVED_FILES)
def test_a_missing_file_is_not_trusted(file: Path, mine: Path, name: str) -> None:
    (mine / name).unlink()
    with pytest.raises(UntrustedAdapterError, match="cannot be read"):
        trusted_folder(file, NAME)


def test_a_link_to_other_bytes_is_not_trusted(file: Path, mine: Path) -> None:
    mine.rename(mine.with_name("away"))
    mine.symlink_to("other")
    with pytest.raises(UntrustedAdapterError, match="has digest"):
        trusted_folder(file, NAME)


def test_without_a_file_no_name_has_a_folder(file: Path) -> None:
    file.unlink()
    assert trusted_folder(file, NAME) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        f'"{NAME}"',
        "null",
        "[" * 100_000,
        f'{{"{NAME}": "/store/mine"}}',
        f'{{"{NAME}": {{"path": "/store/mine"}}}}',
        f'{{"{NAME}": {{"path": "mine", "digest": "{"a" * 64}"}}}}',
        f'{{"{NAME}": {{"path": "../mine", "digest": "{"a" * 64}"}}}}',
        f'{{"{NAME}": {{"path": 1, "digest": 2}}}}',
        f'{{"{NAME}": {{"path": "/store\\u0000/mine", "digest": "{"a" * 64}"}}}}',
        f'{{"{NAME}": {{"path": "/\\ud800", "digest": "{"a" * 64}"}}}}',
    ],
)
def test_a_malformed_file_is_not_trusted(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UntrustedAdapterError):
        trusted_folder(file, NAME)


def test_bytes_that_are_no_text_are_not_trusted(file: Path) -> None:
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UntrustedAdapterError, match="cannot be read"):
        trusted_folder(file, NAME)
