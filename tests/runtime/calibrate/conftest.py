"""The quickstart fleet, applied: one server with eight adapters, fake or real."""

import shutil
from collections.abc import Iterator

import pytest

from tests.fleetctl.project_on_disk import Project


@pytest.fixture(
    scope="package",  # no fleet of this name may run beside those of other tests
    params=["fake", pytest.param("vllm", marks=[pytest.mark.live, pytest.mark.long])],
)
def applied(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Project]:
    """The fleet that all tests here measure."""
    live = request.param == "vllm"
    python = request.getfixturevalue("vllm_python") if live else None
    made = Project.copy(tmp_path_factory.mktemp("calibrate") / "project", python)
    done = made.run("apply", "--auto", "--yes")
    assert done.returncode == 0, done.stderr
    yield made
    made.clean_up()


@pytest.fixture
def project(applied: Project) -> Project:
    """The fleet without a profile."""
    shutil.rmtree(applied.root / "calibration", ignore_errors=True)
    return applied
