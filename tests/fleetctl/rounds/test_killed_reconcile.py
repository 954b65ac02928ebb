"""A reconcile that dies half-way: `status` and `watch` tell the clients without an answer."""

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import REPOSITORY, Project


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    made = Project.copy(tmp_path / "project", None)
    yield made
    made.clean_up()


def kill_reconcile_after_the_start(project: Project) -> None:
    """Kill a round once its server runs, before any adapter is loaded."""
    command = project.command("reconcile", "--once")
    with subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stderr is not None
        for line in running.stderr:
            if "start server" in line and "done" in line:
                running.send_signal(signal.SIGKILL)
                return
    raise AssertionError("no server was started")


def test_a_server_without_the_routed_versions_is_an_outage(project: Project) -> None:
    """Birch and its neighbours got 503, and both commands said nothing, with exit code 0."""
    assert call(project, "apply", "--auto", "--yes").returncode == 0
    assert call(project, "status", "--check").returncode == 0
    project.kill_servers()
    kill_reconcile_after_the_start(project)
    status = call(project, "status", "--check", "--format", "json")
    assert status.returncode == 2
    (outage,) = json.loads(status.stdout)["outages"]
    assert outage["subject"] == "server/tiny-laptop-cpu0"
    assert "birch-units" in outage["unanswered"]
    assert call(project, "watch", "--once").returncode == 2
    assert call(project, "reconcile", "--once").returncode == 0
    assert call(project, "status", "--check").returncode == 0
    assert call(project, "watch", "--once").returncode == 0
