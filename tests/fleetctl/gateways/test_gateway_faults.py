"""A gateway that died, hangs, or runs otherwise than declared is told by whoever looks."""

import json
import os
import signal
from collections.abc import Iterator

import pytest

from runtime.gateway.control.supervisor import find_process
from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import Project, applied
from tests.ports import free_port


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The quickstart fleet, applied; its gateway was never started."""
    yield from applied(tmp_path_factory.mktemp("fleet"))


def pid_of(project: Project) -> int:
    running = find_process(project.root / ".fleetctl", "main")
    assert running is not None
    return running.pid


def causes(project: Project, code: int) -> list[tuple[str, str]]:
    done = call(project, "drift", "--format", "json")
    assert done.returncode == code, done.stdout
    found = json.loads(done.stdout)["causes"]
    return [(each["subject"], each["command"]) for each in found]


def test_one_that_was_never_started_is_a_note(project: Project) -> None:
    assert causes(project, 0) == []
    for command in ("plan", "reconcile --once"):
        shown = call(project, *command.split())
        assert shown.returncode == 0
        assert "Note: gateway main is not running and answers no client" in shown.stderr


def test_one_that_died_is_told_by_everything_with_the_command_that_helps(project: Project) -> None:
    assert call(project, "gateway", "start").returncode == 0
    assert causes(project, 0) == []
    os.kill(pid_of(project), signal.SIGKILL)
    while find_process(project.root / ".fleetctl", "main"):  # the kernel takes a moment
        os.sched_yield()
    assert causes(project, 2) == [("gateway/main", "fleetctl gateway start main")]
    assert call(project, "drift", "--ignore", "gateway/*").returncode == 0
    told = "is not running and answers no client"
    assert f"gateway main {told}: fleetctl gateway start main" in call(project, "plan").stderr
    assert call(project, "status").stdout.startswith(f"OUTAGE gateway/main: {told}\n")
    assert call(project, "gateway", "start").returncode == 0
    assert causes(project, 0) == []


def test_one_that_hangs_does_not_answer(project: Project) -> None:
    call(project, "gateway", "start")
    pid = pid_of(project)
    os.kill(pid, signal.SIGSTOP)
    try:
        assert causes(project, 2) == [("gateway/main", "fleetctl gateway status")]
    finally:
        os.kill(pid, signal.SIGCONT)


def test_one_that_listens_elsewhere_than_declared_is_told(project: Project) -> None:
    call(project, "gateway", "start")
    again = "fleetctl gateway stop main && fleetctl gateway start main"
    file = project.root / "fleet.yaml"
    before = file.read_text("utf-8")
    port = before.partition('main: {listen: "127.0.0.1:')[2].partition('"')[0]
    moved = free_port()
    file.write_text(before.replace(f"127.0.0.1:{port}", f"127.0.0.1:{moved}"), "utf-8")
    assert causes(project, 2) == [("gateway/main", again)]
    said = f"runs on 127.0.0.1:{port} and is declared on 127.0.0.1:{moved}"
    assert said in call(project, "plan").stderr
    assert said in call(project, "status").stdout
    started = call(project, "gateway", "start")
    assert (started.returncode, again in started.stderr) == (1, True)
    file.write_text(before.replace("main: {listen", "other: {listen"), "utf-8")
    assert ("gateway/main", "fleetctl gateway stop main") in causes(project, 2)
    file.write_text(before, "utf-8")
    assert causes(project, 0) == []
