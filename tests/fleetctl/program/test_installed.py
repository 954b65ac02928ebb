"""fleetctl as people install it: from a wheel, in a folder that is no checkout."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.extensions import shipped
from tests.examples.test_demo import TOLD
from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import REPOSITORY, Project
from tests.installed import environment, install_wheel, stand_in

LIMIT = 120 * 2**20
"""Bytes that an environment with fleetctl and without extras may take."""
SHIPPED = ("locks", "examples")
"""Folders of the repository of which the wheel has files."""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program of an environment made from the wheel."""
    return install_wheel(tmp_path_factory.mktemp("installed"))


def run(
    program: Path, folder: Path, *words: str, **settings: str
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [program, *words],
        cwd=folder, env=environment() | settings, capture_output=True, text=True, check=False,
    )  # fmt: skip


def files(folder: Path) -> dict[Path, int]:
    """Return the apparent sizes of files; links and bytecode, which Python makes, not counted."""
    return {
        path: path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink() and "__pycache__" not in path.parts
    }


def test_the_environment_is_smaller_than_120_mib(program: Path) -> None:
    sizes = files(program.parents[1])
    assert len(sizes) > 1000
    assert sum(sizes.values()) < LIMIT, sorted(sizes.items(), key=lambda item: -item[1])[:20]


def test_the_wheel_has_the_files_that_commands_look_for_as_they_are_here(program: Path) -> None:
    (inside,) = program.parents[1].glob("lib/python3*/site-packages/runtime/shipped")
    assert {path.name for path in inside.iterdir()} == set(SHIPPED)
    for path in files(inside):
        assert path.read_bytes() == shipped(str(path.relative_to(inside))).read_bytes()
    models = REPOSITORY / "examples/quickstart/models"
    assert len(files(inside / "examples/quickstart/models")) == len(files(models))


def test_without_vllm_the_demo_names_both_ways_on(program: Path, tmp_path: Path) -> None:
    failed = run(program, tmp_path, "demo")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert "fleetctl demo --fake" in failed.stderr
    assert failed.stderr.endswith("\n    fleetctl vllm install --cpu\n")
    assert list(tmp_path.iterdir()) == []


def test_the_larger_model_is_played_in_a_checkout(program: Path, tmp_path: Path) -> None:
    failed = run(program, tmp_path, "demo", "--fake", "--model", "smollm2")
    assert failed.returncode == 64
    assert "smollm2 is not part of an installed fleetctl" in failed.stderr


def test_an_installed_fleetctl_installs_vllm_with_the_plugin(program: Path, tmp_path: Path) -> None:
    settings = {"UV_NO_INDEX": "1", "UV_FIND_LINKS": str(stand_in(tmp_path / "index"))}
    uv = {"PATH": f"{program.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = run(program, tmp_path, "vllm", "install", "--cuda", **settings, **uv)
    assert (done.returncode, done.stdout) == (0, "python: .venv-vllm/bin/python\n"), done.stderr
    assert list(tmp_path.glob(".venv-vllm/lib/python3*/site-packages/fleetctl_resolver/*.py"))


@pytest.mark.long
def test_the_story_plays_on_the_fake_engine_from_a_wheel(program: Path, tmp_path: Path) -> None:
    done = run(program, tmp_path, "demo", "--fake")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert [line for line in TOLD if line not in done.stdout] == []
    played = Project(tmp_path / ".demo" / "quickstart", ("--env", "fake"))
    assert call(played, "server", "list").stdout == ""
    assert [path.name for path in tmp_path.iterdir()] == [".demo"]
