"""`fleetctl vllm install` with a package of vLLM's name, in place of gigabytes of the real one."""

import ctypes
import fcntl
import os
import shutil
import signal
import subprocess
import sys
from ctypes.util import find_library
from pathlib import Path

import pytest

from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import REPOSITORY, Project
from tests.installed import stand_in

LINE = "python: .venv-vllm/bin/python\n"
PLUGIN = "fleetctl_resolver/resolver.py"


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """A folder of packages in which vLLM is small."""
    return stand_in(tmp_path / "index")


def install(
    root: Path, index: Path, *options: str, **settings: str
) -> "subprocess.CompletedProcess[str]":
    environment = os.environ | {"UV_NO_INDEX": "1", "UV_FIND_LINKS": str(index)} | settings
    command = [sys.executable, "-m", "fleetctl", "-C", str(root), "vllm", "install"]
    return subprocess.run(
        [*command, *options],
        cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def refused(root: Path, *options: str) -> str:
    """Return the error of an installation that begins nothing, on one line."""
    failed = call(Project(root, ()), "vllm", "install", *options)
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr.startswith("Error: vLLM cannot be installed [FC4027]")
    return " ".join(failed.stderr.split())


def module(root: Path, name: str) -> Path:
    (packages,) = root.glob(".venv-vllm/lib/python3*/site-packages")
    return packages / name


def test_an_installation_that_was_killed_goes_on_and_is_whole(tmp_path: Path, index: Path) -> None:
    killed = install(tmp_path, index, "--cuda", KILL="1")
    assert (killed.returncode, killed.stdout) == (-signal.SIGKILL, "")
    module(tmp_path, "vllm/engine.py").unlink()  # as if the copying had been under way

    done = install(tmp_path, index, "--cuda")
    assert (done.returncode, done.stdout) == (0, LINE), done.stderr
    assert "vLLM 0.32.9 is ready." in done.stderr
    assert module(tmp_path, "vllm/engine.py").exists()
    ignored = (tmp_path / ".venv-vllm" / ".gitignore").read_text(encoding="utf-8")
    assert ignored.endswith("*\n")  # since Python 3.13, `venv` writes a comment above
    assert (
        module(tmp_path, PLUGIN).read_bytes()
        == (REPOSITORY / "runtime" / "vllm_plugin" / PLUGIN).read_bytes()
    )

    if sys.platform == "linux" and find_library("numa"):
        assert "has a vLLM for other devices" in refused(tmp_path, "--cpu")


def test_a_second_run_installs_the_plugin_alone_and_needs_no_index(
    tmp_path: Path, index: Path
) -> None:
    assert install(tmp_path, index, "--cuda").returncode == 0
    module(tmp_path, PLUGIN).unlink()
    (tmp_path / "empty").mkdir()
    done = install(tmp_path, tmp_path / "empty", "--cuda", KILL="1")
    assert (done.returncode, done.stdout) == (0, LINE)
    assert "Installing" not in done.stderr
    assert module(tmp_path, PLUGIN).exists()


def test_a_folder_elsewhere_is_declared_by_its_whole_path(tmp_path: Path, index: Path) -> None:
    (tmp_path / "project").mkdir()
    into = tmp_path / "elsewhere"
    done = install(tmp_path / "project", index, "--cuda", "--into", str(into))
    assert (done.returncode, done.stdout) == (0, f"python: {into}/bin/python\n")


def test_without_a_way_to_the_index_the_error_names_mirrors(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    failed = install(tmp_path, tmp_path / "empty", "--cuda", UV_OFFLINE="1")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert "network was disabled" in failed.stderr  # uv's words
    assert "vLLM cannot be installed [FC4027]" in failed.stderr
    assert "UV_DEFAULT_INDEX" in failed.stderr


def test_an_interpreter_that_vllm_does_not_fit_is_named(tmp_path: Path) -> None:
    old = tmp_path / "python2"
    old.write_text("#!/bin/sh\necho Python 2.7.18\n", encoding="utf-8")
    old.chmod(0o700)
    for program, found in ((old, "is 2.7"), (tmp_path / "nothing", "does not run")):
        said = refused(tmp_path / "project", "--cuda", "--python", str(program))
        assert f"vLLM needs Python 3.11 to 3.14, and `{program}` {found}." in said
        assert said.endswith("fleetctl vllm install --python python3.12")


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "me.jpg").touch()
    for folder in (tmp_path / "photos", Path(sys.prefix)):
        before = sorted(folder.iterdir())
        assert "`--into`" in refused(tmp_path, "--cuda", "--into", str(folder))
        assert sorted(folder.iterdir()) == before


def test_two_installations_into_a_folder_do_not_meet(tmp_path: Path) -> None:
    (tmp_path / ".venv-vllm").mkdir()
    with (tmp_path / ".venv-vllm" / ".fleetctl-vllm").open("w", encoding="utf-8") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert "Another run installs into" in refused(tmp_path, "--cuda")


def test_rocm_asks_for_an_index_with_its_wheels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    assert "UV_INDEX" in refused(tmp_path, "--rocm")


def test_too_small_a_disk_is_told_before_anything_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1 << 30)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    said = refused(tmp_path, "--cuda")
    assert "has 1.0 GiB left, and vLLM takes about 12 GiB" in said
    assert not (tmp_path / ".venv-vllm" / "bin").exists()


def test_a_missing_libnuma_is_told_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert refused(tmp_path, "--cpu").endswith("sudo apt-get install libnuma1")
    assert list(tmp_path.iterdir()) == []
