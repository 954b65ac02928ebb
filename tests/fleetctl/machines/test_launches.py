"""Launches from end to end on the fake server: routed, fenced, started by hand, stale."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from fleet.names import Stamps
from runtime.engines.launch_records import LaunchRecords
from runtime.gateway.control.control import LocalGateways
from runtime.processes import start_mark
from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import REPOSITORY, Project, applied

SERVER = "tiny-laptop-cpu0"


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """The quickstart fleet, applied, with its gateway."""
    for made in applied(tmp_path):
        assert call(made, "gateway", "start").returncode == 0
        yield made


def table(project: Project) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = json.loads(
        (project.root / ".fleetctl/routes.json").read_text()
    )
    return found


def records(project: Project) -> LaunchRecords:
    return LaunchRecords(project.root / ".fleetctl" / "servers")


def launch(project: Project) -> str:
    record = records(project).read(SERVER)
    assert record is not None
    return record.served_launch


@contextmanager
def by_hand(project: Project) -> Iterator[int]:
    """Run the server of the plan as `compile` prints it; give its process number."""
    (line,) = json.loads(call(project, "compile", "--format", "json").stdout)
    environment = {**os.environ, **line["environment"], "PYTHONPATH": str(REPOSITORY)}
    words = [sys.executable, *line["arguments"][1:]]
    with subprocess.Popen(words, env=environment, cwd="/") as process:
        url = f"http://127.0.0.1:{line['port']}/v1/models"
        try:
            while process.poll() is None:
                try:
                    urlopen(url).read()
                except OSError:
                    os.sched_yield()
                else:
                    break
            yield process.pid
        finally:
            process.kill()


@contextmanager
def starting(project: Project, tmp_path: Path) -> Iterator[int]:
    """Run the server of the plan as `by_hand`, with an interpreter that waits for a file."""
    (line,) = json.loads(call(project, "compile", "--format", "json").stdout)
    code = (
        "import pathlib, runpy, sys, time\n"
        f"while not pathlib.Path({str(tmp_path / 'go')!r}).exists(): time.sleep(0.01)\n"
        "del sys.argv[0]; sys.argv[0] = 'server'\n"
        "runpy.run_module('runtime.fake_vllm.server', run_name='__main__')\n"
    )
    environment = {**os.environ, **line["environment"], "PYTHONPATH": str(REPOSITORY)}
    words = [sys.executable, "-c", code, *line["arguments"][2:]]
    with subprocess.Popen(words, env=environment, cwd="/") as process:
        try:
            yield process.pid
        finally:
            process.kill()


def status_of_a_request(project: Project) -> int:
    secret = (project.root / ".fleetctl/keys/acme-prod").read_text().strip()
    (row,) = json.loads(call(project, "gateway", "status", "--format", "json").stdout)
    body = {"model": "acme-support", "messages": [{"role": "user", "content": "hello"}]}
    headers = {"Authorization": f"Bearer {secret}", "Content-Type": "application/json"}
    request = Request(f"{row['url']}/v1/chat/completions", json.dumps(body).encode(), headers)
    try:
        return int(urlopen(request).status)
    except OSError as error:
        return int(getattr(error, "code", 0))


def test_the_routes_name_the_launch_of_each_start(project: Project) -> None:
    first = launch(project)
    assert table(project)["launches"] == {SERVER: first}
    assert status_of_a_request(project) == 200
    project.kill_servers()
    assert call(project, "reconcile", "--once").returncode == 0
    assert launch(project) != first
    assert table(project)["launches"] == {SERVER: launch(project)}
    assert status_of_a_request(project) == 200
    assert call(project, "drift").returncode == 0


def test_a_server_restarted_by_hand_is_fenced_named_adopted_and_healed(project: Project) -> None:
    project.kill_servers()
    (project.root / ".fleetctl" / "servers" / SERVER / "launch.json").unlink()
    with by_hand(project) as pid:
        drift = call(project, "drift")
        assert drift.returncode == 2
        assert "missing; the routes name launch" in drift.stdout
        assert "kill" not in drift.stdout
        assert status_of_a_request(project) == 503
        assert "server tiny-laptop-cpu0 is stale: another launch answers" in (
            call(project, "gateway", "status").stdout
        )
        assert f"runs without a launch record, as process {pid}" in call(project, "plan").stderr
        adopted = call(project, "adopt")
        assert f"Launch record of {SERVER} written, from process {pid}" in adopted.stderr
        assert f"pid {pid}" in call(project, "server", "list").stdout

        healed = call(project, "reconcile", "--once")
        assert healed.returncode == 0, healed.stderr
        assert table(project)["launches"] == {SERVER: launch(project)}
        assert call(project, "drift").returncode == 0
        assert call(project, "plan", "--detailed-exitcode").returncode == 0
        assert status_of_a_request(project) == 200
        assert start_mark(pid) is not None


def test_a_server_that_a_supervisor_starts_is_joined_and_not_started_twice(
    project: Project, tmp_path: Path
) -> None:
    """A unit of systemd starts the process; vLLM listens much later."""
    project.kill_servers()
    with starting(project, tmp_path) as pid, ThreadPoolExecutor(1) as pool:
        round_ = pool.submit(project.run, "reconcile", "--once")
        file = records(project).folder / SERVER / "launch.json"
        while json.loads(file.read_text())["pid"] != pid:
            assert not round_.done(), round_.result().stderr
            os.sched_yield()
        assert project.server_processes() == [pid]
        (tmp_path / "go").touch()
        assert round_.result().returncode == 0, round_.result().stderr
        assert project.server_processes() == [pid]
        assert status_of_a_request(project) == 200
        assert call(project, "drift").returncode == 0


def test_a_launch_that_is_not_the_newest_is_drift_of_its_own(project: Project) -> None:
    record = records(project).read(SERVER)
    assert record is not None
    newest = "0123456789ab"
    words = tuple(word.replace(record.served_launch, newest) for word in record.arguments)
    assert Stamps.among(words).launch == newest
    records(project).write(record.model_copy(update={"arguments": words}))
    drift = call(project, "drift")
    assert drift.returncode == 2
    assert f"stale launch: launch {record.served_launch} answers at its address" in drift.stdout
    assert f"fleetctl server stop {SERVER}" in drift.stdout
    assert "Left alone: server/" in call(project, "reconcile", "--once").stderr
    assert call(project, "server", "stop", SERVER).returncode == 0
    assert call(project, "reconcile", "--once").returncode == 0
    assert call(project, "drift").returncode == 0
    assert status_of_a_request(project) == 200


def test_a_gateway_that_starts_anew_asks_the_launch_before_its_first_request(
    project: Project,
) -> None:
    assert call(project, "gateway", "stop").returncode == 0
    assert call(project, "gateway", "start").returncode == 0
    assert status_of_a_request(project) == 200


def test_a_start_whose_routes_were_not_written_is_fenced_and_healed(project: Project) -> None:
    """As after an apply that was killed between the start of a server and its routes."""

    async def publish() -> None:
        async with LocalGateways(project.root / ".fleetctl") as gateways:
            newest, _ = await gateways.read_table()
            update = {"launches": {SERVER: "0123456789ab"}, "revision": newest.revision + 1}
            assert await gateways.publish(newest.model_copy(update=update)) == ()

    asyncio.run(publish())
    assert status_of_a_request(project) == 503
    drift = call(project, "drift")
    assert drift.returncode == 2
    assert "the routes name launch 0123456789ab" in drift.stdout
    assert call(project, "reconcile", "--once").returncode == 0
    assert table(project)["launches"] == {SERVER: launch(project)}
    assert status_of_a_request(project) == 200
    assert call(project, "drift").returncode == 0
