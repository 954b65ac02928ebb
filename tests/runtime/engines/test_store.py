"""A folder arrives whole under its digest, wherever the run before was interrupted."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from shutil import which
from typing import Final

import pytest

from fleet.errors import EngineError
from runtime.engines.ray.shared_folder import SharedFolder
from runtime.engines.store import SourceFolder, check_script, finish_script
from runtime.library.layout import SERVED_FILES

_DIES: Final = """\
import asyncio, os, sys
from pathlib import Path
from runtime.engines.ray.shared_folder import SharedFolder

shared, source, steps = SharedFolder(Path(sys.argv[1]), "fleet"), Path(sys.argv[2]), 0
EFFECTS = {"open", "os.rename", "os.chmod", "os.mkdir", "tempfile.mkdtemp", "shutil.copyfile"}

def die(event, arguments):
    global steps
    if event in EFFECTS and any(str(shared.path) in str(word) for word in arguments):
        steps -= 1
        if steps < 0:
            os._exit(9)

def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}

for run in range(200):
    if not os.fork():
        steps = run
        sys.addaudithook(die)
        asyncio.run(shared.bring_good(source))
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.wait()[1])
    copies = [path for path in shared.path.iterdir() if path.name[0] != "."]
    assert all(content(copy) == content(source) for copy in copies), run
    print(status, len(copies), flush=True)
    if not status:
        break
    copy, digest = asyncio.run(shared.bring_good(source))
    assert copy.name == digest and content(copy) == content(source), run
    copy.chmod(0o755)
    copy.rename(shared.path / f".away-{run}")
"""
"""Brings a folder again and again, each run killed a step later than the run before."""
_KILLS: Final = """\
#!/bin/sh
echo >>{steps}
test "$(wc -l <{steps})" -le {limit} || kill -KILL 0
exec {program} "$@"
"""


@pytest.fixture
def source(tmp_path: Path) -> SourceFolder:
    folder = tmp_path / "version"
    folder.mkdir()
    for name in SERVED_FILES:
        (folder / name).write_bytes(os.urandom(5000))
    return SourceFolder.of(folder)


def test_a_copy_here_that_is_killed_at_any_step_is_absent_or_whole_and_the_next_run_brings_it(
    source: SourceFolder, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    store.mkdir()
    words = [sys.executable, "-W", "ignore", "-c", _DIES, str(store), str(source.folder)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    runs = done.stdout.splitlines()
    assert len(runs) > 10
    assert {*runs[:-1]} == {"9 0", "9 1"}
    assert runs[-1] == "0 1"


def test_a_finish_on_a_host_that_is_killed_before_any_program_is_taken_up_by_the_next_run(
    source: SourceFolder, tmp_path: Path
) -> None:
    store, programs = tmp_path / "store", tmp_path / "programs"
    part, copy, steps = store / f"{source.digest}.part", store / source.digest, tmp_path / "steps"
    part.mkdir(parents=True)
    programs.mkdir()
    for name in SERVED_FILES:
        (part / name).write_bytes((source.folder / name).read_bytes())
    script = check_script(source, str(part)) + finish_script(source.digest)
    variables = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
    limit = 0
    while not copy.is_dir():
        assert limit < 30
        for name in ("chmod", "find", "mv", "sha256sum", "sync"):
            text = _KILLS.format(steps=steps, limit=limit, program=which(name))
            (programs / name).write_text(text, encoding="ascii")
            (programs / name).chmod(0o755)
        steps.unlink(missing_ok=True)
        words = ["/bin/sh", "-c", script]
        done = subprocess.run(words, env=variables, check=False, start_new_session=True)
        assert done.returncode == -9
        limit += 1
    assert limit > 5
    assert not part.exists()
    assert SourceFolder.of(copy).manifest == source.manifest
    assert {path.stat().st_mode & 0o222 for path in (copy, *copy.iterdir())} == {0}


def test_damaged_copies_stay_for_their_readers_and_the_next_path_is_taken_until_there_is_none(
    source: SourceFolder, tmp_path: Path
) -> None:
    shared = SharedFolder(tmp_path, "fleet")
    for number in ("", "-2", "-3"):
        copy, digest = asyncio.run(shared.bring_good(source.folder))
        assert (copy, digest) == (tmp_path / f"{source.digest}{number}", source.digest)
        weights = copy / SERVED_FILES[1]
        weights.chmod(0o644)
        weights.write_bytes(b"other")
    with pytest.raises(EngineError) as raised:
        asyncio.run(shared.bring_good(source.folder))
    (problem,) = raised.value.diagnostics
    assert problem.code == "FC4099"
    assert problem.detail == (
        f"The copy of `{source.folder}` at `{copy}` has other bytes than its digest, again and "
        "again: files change here, or the shared folder's disk is faulty."
    )
    assert weights.read_bytes() == b"other"


def test_a_shared_folder_that_cannot_be_looked_into_is_an_error_with_its_path(
    source: SourceFolder, tmp_path: Path
) -> None:
    unreadable = tmp_path / ("x" * 300)  # the system refuses to look there
    with pytest.raises(EngineError) as raised:
        asyncio.run(SharedFolder(unreadable, "fleet").bring(source, 1))
    (problem,) = raised.value.diagnostics
    assert problem.code == "FC4124"
    assert str(unreadable) in problem.detail
