"""A host that leaves the declarations while its servers run."""

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import Project
from tests.ports import free_port

SERVER = "tiny-desk-cpu0"
DESK = "  desk: {{engine: fake, port: {port}, devices: {{cpu0: {{kind: cpu, memory: 6GiB}}}}}}\n"
CLOSED = "  laptop: {engine: fake, devices: {cpu0: {kind: cpu, memory: 6GiB, state: draining}}}\n"
OPEN = "hosts:\n  laptop: {engine: fake}\n"


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """The quickstart fleet on the host `desk`, which then leaves the declarations."""
    made = Project.copy(tmp_path / "project", None)
    hosts = made.root / "env" / "fake.yaml"
    hosts.write_text("hosts:\n" + CLOSED + DESK.format(port=free_port()))
    try:
        done = call(made, "apply", "--auto", "--yes")
        assert done.returncode == 0, done.stderr
        assert list(running(made)) == [SERVER]
        hosts.write_text(OPEN)
        yield made
    finally:
        made.clean_up()


def running(project: Project) -> dict[str, int]:
    shown = json.loads(call(project, "server", "list", "--format", "json").stdout)
    return {server["server"]: server["pid"] for server in shown}


def test_its_versions_move_and_its_servers_are_stopped(project: Project) -> None:
    drift = call(project, "drift")
    assert drift.returncode == 0, drift.stdout  # it serves as the last apply left it
    plan = call(project, "plan").stdout
    assert f"2.1.0 moves from {SERVER} to tiny-laptop-cpu0" in plan
    assert "acme-support-tiny-v2.1.0: `desk/cpu0` is no longer declared" in plan
    assert f"- stop    server/{SERVER}\n              its host is no longer declared" in plan

    done = call(project, "apply", "--auto", "--yes")
    assert done.returncode == 0, done.stderr
    assert list(running(project)) == ["tiny-laptop-cpu0"]
    assert call(project, "plan").stdout.startswith("No changes.")
    assert list(json.loads((project.root / ".fleetctl" / "hosts.json").read_text())) == ["laptop"]


def test_a_pull_request_plans_from_the_live_file_what_is_planned_with_access(
    project: Project, tmp_path: Path
) -> None:
    file = str(tmp_path / "live.json")
    plan = call(project, "plan", "--save-live", file, "--format", "json")
    clone = Project(tmp_path / "clone", project.options)
    shutil.copytree(project.root, clone.root, ignore=shutil.ignore_patterns(".fleetctl"))
    seen = call(clone, "plan", "--offline", "--live", file, "--format", "json")
    assert json.loads(seen.stdout)["plan_id"] == json.loads(plan.stdout)["plan_id"]
    text = call(clone, "plan", "--offline", "--live", file).stdout
    assert f"2.1.0 moves from {SERVER} to tiny-laptop-cpu0" in text
    assert f"- stop    server/{SERVER}\n              its host is no longer declared" in text


def test_servers_that_do_not_answer_stay_and_may_run(project: Project) -> None:
    pid = running(project)[SERVER]
    os.kill(pid, signal.SIGSTOP)
    try:
        plan = call(project, "plan").stdout
    finally:
        os.kill(pid, signal.SIGCONT)
    assert "`desk` is no longer declared, and the server may still run there." in plan
    assert f"stop    server/{SERVER}" not in plan


def test_a_host_that_comes_back_keeps_its_servers(project: Project) -> None:
    port = json.loads((project.root / ".fleetctl" / "hosts.json").read_text())["desk"]
    hosts = project.root / "env" / "fake.yaml"
    hosts.write_text("hosts:\n" + CLOSED + DESK.format(port=port["devices"][0]["port"]))
    assert call(project, "plan").stdout.startswith("No changes.")


def test_a_server_on_a_device_that_left_counts_with_its_price_until_it_stops(
    project: Project,
) -> None:
    hosts = project.root / "env" / "fake.yaml"
    port = json.loads((project.root / ".fleetctl" / "hosts.json").read_text())["desk"]
    used = f"cpu0: {{kind: cpu, memory: 6GiB, price_per_hour: 3, port: {port['devices'][0]['port']}"
    desk = "  desk: {engine: fake, billing: in_use, devices: {"
    spare = f"cpu1: {{kind: cpu, memory: 6GiB, price_per_hour: 2, port: {free_port()}"
    hosts.write_text(f"hosts:\n{CLOSED}{desk}{used}}}, {spare}, state: cordoned}}}}}}\n")
    done = call(project, "apply", "--auto", "--yes")
    assert done.returncode == 0, done.stderr
    assert list(running(project)) == [SERVER]
    hosts.write_text(f"hosts:\n{CLOSED}{desk}{spare}}}}}}}\n")
    plan = call(project, "plan").stdout
    assert "Cost: 3.00 -> 2.00 per hour" in plan
    assert f"2.1.0 moves from {SERVER} to tiny-desk-cpu1" in plan
    assert f"- stop    server/{SERVER}\n              its device is no longer declared" in plan


def test_a_server_of_a_removed_base_that_does_not_answer_is_named(project: Project) -> None:
    pid, main = running(project)[SERVER], project.root / "fleet.yaml"
    main.write_text(main.read_text("utf-8").replace("  tiny:\n", "  small:\n"), "utf-8")
    for file in (project.root / "clients").glob("*.yaml"):
        file.unlink()
    hosts = project.root / "env" / "fake.yaml"
    port = json.loads((project.root / ".fleetctl" / "hosts.json").read_text())["desk"]
    hosts.write_text("hosts:\n" + CLOSED + DESK.format(port=port["devices"][0]["port"]))
    assert f"- stop    server/{SERVER}\n              base `tiny`" in call(project, "plan").stdout
    os.kill(pid, signal.SIGSTOP)
    try:
        plan = call(project, "plan").stdout
    finally:
        os.kill(pid, signal.SIGCONT)
    assert "`tiny` is no longer declared, and the server may still run there." in plan
