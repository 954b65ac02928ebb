"""Folders to bring to hosts, and the progress that `rsync` prints."""

import subprocess
from pathlib import Path

import pytest

from runtime.engines.remote.copies import progress_in
from runtime.engines.store import SourceFolder
from runtime.library.layout import SERVED_FILES, folder_digest


@pytest.fixture
def source(tmp_path: Path) -> SourceFolder:
    for name in SERVED_FILES:
        (tmp_path / name).write_text(name, encoding="ascii")
    (tmp_path / "notes").write_text("not served", encoding="ascii")
    return SourceFolder.of(tmp_path, SERVED_FILES)


def test_a_folder_has_the_digest_that_the_lock_pins(source: SourceFolder) -> None:
    assert source.digest == folder_digest(source.folder)
    assert source.size == sum(map(len, SERVED_FILES))
    assert source.names == sorted(SERVED_FILES)


def test_sha256sum_judges_a_copy_by_the_manifest(source: SourceFolder) -> None:
    judge = ["sha256sum", "--check", "--strict", "--quiet"]
    given = source.manifest.encode()
    assert subprocess.run(judge, cwd=source.folder, input=given, check=False).returncode == 0
    (source.folder / SERVED_FILES[0]).write_text("other", encoding="ascii")
    assert subprocess.run(judge, cwd=source.folder, input=given, check=False).returncode == 1


def test_a_file_that_is_not_there_or_is_a_link_is_refused(source: SourceFolder) -> None:
    with pytest.raises(FileNotFoundError):
        SourceFolder.of(source.folder, ["absent"])
    (source.folder / "link").symlink_to("notes")
    with pytest.raises(OSError, match="It is a link"):
        SourceFolder.of(source.folder, ["link"])


def test_progress_is_read_whole_from_parts_of_any_size() -> None:
    printed = b"\r         32768   0%    0.00kB/s    0:00:00  \r      41944050 100%  115.23MB/s\n"
    for cut in range(len(printed)):
        stdout, seen = bytearray(), list[int]()
        for part in (printed[:cut], printed[cut:]):
            stdout += part
            seen += [done for done in [progress_in(stdout)] if done is not None]
        assert seen[-1] == 41944050
        assert set(seen) <= {32768, 41944050}
