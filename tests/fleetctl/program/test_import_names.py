"""Packages of other projects under the names of ours are found before they are imported."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fleetctl.import_names import OURS

REPOSITORY = Path(__file__).parents[3]


@pytest.mark.parametrize("name", OURS)
def test_another_projects_package_of_our_name_is_told_at_start(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("raise RuntimeError('was imported')\n", "utf-8")
    path = os.pathsep.join((str(tmp_path), str(REPOSITORY)))
    told = subprocess.run(
        [sys.executable, "-m", "fleetctl", "--version"],
        env=os.environ | {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (told.returncode, told.stdout) == (1, "")
    assert f"the package `{name}` that Python finds is another project's" in told.stderr
    assert str(tmp_path / name / "__init__.py") in told.stderr
    assert "uv tool install WHEEL" in told.stderr


def test_a_folder_of_a_project_with_our_name_hides_nothing(tmp_path: Path) -> None:
    for name in OURS:
        (tmp_path / name).mkdir()
    told = subprocess.run(
        [sys.executable, "-m", "fleetctl", "--version"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.startswith("fleetctl, version ")
