"""A fleet on a base without a chat template: versions are asked bare texts and get routes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import Project
from tests.fleetctl.rollouts.test_rollout_commands import declare


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """The quickstart fleet with a gateway; its base has no chat template."""
    made = Project.copy(tmp_path / "project", None)
    (made.root / "models/base/tiny/chat_template.jinja").unlink()
    assert call(made, "gateway", "start").returncode == 0
    yield made
    made.clean_up()


def complete(project: Project, prompt: str) -> str:
    """Return the answer of the gateway to a bare text."""
    document, _ = project.completion("/v1/completions", {"prompt": prompt})
    return str(document["choices"][0]["text"])


def test_every_version_gets_its_route_and_its_way_back(project: Project) -> None:
    """Red before: the first apply exited 4 with FC4003, and no alias was routed."""
    applied = call(project, "apply", "--auto", "--yes")
    assert applied.returncode == 0, applied.stderr
    assert complete(project, "hello")
    declare(project, "2.1.0", "2.2.0")
    assert call(project, "apply", "--auto", "--yes").returncode == 0
    back = call(project, "rollback", "acme-support", "--reason", "a test")
    assert (back.returncode, "smoke test passed" in back.stdout) == (0, True), back.stdout
