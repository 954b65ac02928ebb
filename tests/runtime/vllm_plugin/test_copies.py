"""The folder that an adapter is read from: always one with the bytes that its name promises."""

import shutil
from pathlib import Path

import pytest

from runtime.library import layout
from runtime.state_folder import source_name
from runtime.vllm_plugin.fleetctl_resolver.adapters import UntrustedAdapterError
from runtime.vllm_plugin.fleetctl_resolver.copies import CheckedReads
from tests.runtime.vllm_plugin.test_adapters import adapter


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A served copy in a store, and the version that it is a copy of."""
    digest = adapter(tmp_path / "library" / "v1", "mine")
    return shutil.copytree(tmp_path / "library" / "v1", tmp_path / "store" / digest)


def weights(folder: str) -> str:
    return (Path(folder) / layout.SERVED_FILES[-1]).read_text(encoding="utf-8")


def overwrite(folder: Path) -> None:
    """Write other bytes of the same length, with the times of before."""
    file = folder / layout.SERVED_FILES[-1]
    file.write_text(file.read_text(encoding="utf-8").replace("mine", "evil"), encoding="utf-8")


def test_a_good_copy_is_read_where_it_lies(copy: Path) -> None:
    assert CheckedReads().read(str(copy), str) == str(copy)


def test_a_folder_that_no_digest_names_is_read_as_it_is(tmp_path: Path) -> None:
    adapter(tmp_path / "elsewhere", "a stranger's")
    assert CheckedReads().read(str(tmp_path / "elsewhere"), str) == str(tmp_path / "elsewhere")


def test_other_bytes_are_not_read(copy: Path) -> None:
    reads = CheckedReads()
    assert "mine" in reads.read(str(copy), weights)
    overwrite(copy)
    with pytest.raises(UntrustedAdapterError, match="has other bytes"):
        reads.read(str(copy), weights)


@pytest.mark.parametrize("fault", [overwrite, shutil.rmtree], ids=["overwritten", "deleted"])
def test_another_copy_or_the_version_is_read_instead(copy: Path, fault: object) -> None:
    version = copy.parent.parent / "library" / "v1"
    (copy.parent / source_name(copy.name)).symlink_to(version)
    fresh = shutil.copytree(version, copy.with_name(f"{copy.name}-2"))
    reads = CheckedReads()
    assert callable(fault)
    fault(copy)
    assert reads.read(str(copy), str) == str(fresh)
    overwrite(fresh)
    assert "mine" in reads.read(str(copy), weights)
    overwrite(version)
    with pytest.raises(UntrustedAdapterError, match="so has every other"):
        reads.read(str(copy), weights)


def test_what_changes_while_it_is_read_is_read_again(copy: Path) -> None:
    seen: list[str] = []

    def load(folder: str) -> str:
        if not seen:
            overwrite(copy)
        seen.append(weights(folder))
        return seen[-1]

    (copy.parent / source_name(copy.name)).symlink_to(copy.parent.parent / "library" / "v1")
    assert "mine" in CheckedReads().read(str(copy), load)
    assert "evil" in seen[0]
    assert len(seen) == 2


def test_a_copy_that_never_rests_is_refused(copy: Path) -> None:
    def load(folder: str) -> None:
        (Path(folder) / layout.SERVED_FILES[0]).touch()

    with pytest.raises(UntrustedAdapterError, match="changes while it is read"):
        CheckedReads().read(str(copy), load)
