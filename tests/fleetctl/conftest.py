"""Fixtures on the `project` that a file of tests makes."""

from pathlib import Path

import pytest

from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import Project


@pytest.fixture(scope="module")
def backup(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a backup of the project's state folder."""
    file = tmp_path_factory.mktemp("backups") / "fleet.tar.gz"
    done = call(project, "state", "backup", str(file))
    assert done.returncode == 0, done.stderr
    return file


@pytest.fixture
def elsewhere(project: Project, tmp_path: Path) -> Project:
    """Return the same project with an empty state folder."""
    options = (*project.options, "--state-dir", str(tmp_path / "state"))
    return Project(project.root, options)
