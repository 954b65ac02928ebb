"""A rollback works, or says why not, whatever else is broken; run again it ends the same."""

import fcntl
import json
import os
import resource
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime.gateway.admin.state_dir import read_table
from runtime.processes import start_mark
from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import REPOSITORY, Project
from tests.ports import free_port

NEW, OLD = "acme-support-tiny-v2.2.0", "acme-support-tiny-v2.1.0"
BACK = {NEW: 0, OLD: 100}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The quickstart fleet behind two gateways, with a canary of acme-support at 10 %."""
    made = Project.copy(tmp_path_factory.mktemp("fleet") / "project", None)
    fleet, acme = made.root / "fleet.yaml", made.root / "clients/acme.yaml"
    text = fleet.read_text("utf-8")
    assert "\ngateways:\n" in text
    second = f'\ngateways:\n  second: {{listen: "127.0.0.1:{free_port()}"}}\n'
    fleet.write_text(text.replace("\ngateways:\n", second), "utf-8")
    for name in ("main", "second"):
        assert call(made, "gateway", "start", name).returncode == 0
    assert call(made, "apply", "--auto", "--yes").returncode == 0
    acme.write_text(acme.read_text("utf-8").replace('"2.1.0"', '"2.2.0"'), "utf-8")
    assert call(made, "apply", "--auto", "--yes").returncode == 0
    yield made
    call(made, "gateway", "stop", "second")
    made.clean_up()


@pytest.fixture
def canary(project: Project) -> None:
    forward = ("--to", "2.2.0", "--forward", "--reason", "again")
    assert call(project, "rollback", "acme-support", *forward).returncode == 0
    assert call(project, "release", "acme-support").returncode == 0


def shares(project: Project) -> dict[str, int]:
    table = read_table(project.root / ".fleetctl")
    assert table is not None
    return {each.adapter: each.percent for each in table.aliases["acme-support"].shares}


def served(project: Project) -> dict[str, Any]:
    """Return what the gateways themselves answer with, by full name, as status sees it."""
    document = json.loads(call(project, "status", "--client", "acme", "--format", "json").stdout)
    (support,) = (each for each in document["aliases"] if each["alias"] == "acme-support")
    held = [each["adapter"] for each in support["held"]]
    return {each["adapter"]: each["percent"] for each in support["versions"]} | {"held": held}


def gateway_process(project: Project, name: str) -> int:
    lock = project.root / ".fleetctl/gateways" / name / "run.lock"
    return int(json.loads(lock.read_text("utf-8"))["pid"])


@pytest.mark.usefixtures("canary")
def test_with_a_full_disk_the_gateways_serve_it_and_once_there_is_room_it_is_written_down(
    project: Project,
) -> None:
    done = subprocess.run(
        project.command("rollback", "acme-support"),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        # Nothing more can be written to any file, as on a disk that is full.
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)),
    )
    assert done.returncode == 0, done.stderr
    assert "acme-support back on 2.1.0 in" in done.stdout
    assert "(2 gateways acknowledged)" in done.stdout
    assert "the routes are served and could not be written to their file" in done.stderr
    assert "once that is mended run this again, which writes it down" in done.stderr
    assert shares(project) != BACK
    assert served(project) == BACK | {"held": []}
    assert call(project, "reconcile", "--once").returncode == 2  # no entry says why the route moved
    assert shares(project) == BACK
    again = call(project, "rollback", "acme-support")
    assert again.returncode == 0, again.stderr
    assert served(project) == BACK | {"held": [NEW]}


@pytest.mark.usefixtures("canary")
def test_a_process_that_keeps_the_routes_locked_keeps_no_rollback(
    project: Project,
) -> None:
    with (project.root / ".fleetctl/routes.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = call(project, "rollback", "acme-support")
        assert done.returncode == 0, done.stderr
        assert "acme-support back on 2.1.0 in" in done.stdout
        assert f"has been locked for 1 s by process {os.getpid()}" in " ".join(done.stderr.split())
        assert served(project) == BACK | {"held": [NEW]}
    assert call(project, "reconcile", "--once").returncode == 0
    assert shares(project) == BACK


@pytest.mark.usefixtures("canary")
def test_somebody_else_s_lease_is_not_waited_for(project: Project) -> None:
    lease = project.root / ".fleetctl/lease.json"
    held = {"token": 99, "holder": "ci", "expires": "2099-01-01T00:00:00+00:00"}
    held |= {"machine": "of a crashed apply", "pid": 1, "started": ""}
    before = lease.read_bytes()
    lease.write_text(json.dumps(held), "utf-8")
    try:
        assert call(project, "apply", "--auto", "--yes").returncode in (0, 5)
        done = call(project, "rollback", "acme-support")
    finally:
        lease.write_bytes(before)
    assert (done.returncode, done.stderr) == (0, "")
    assert served(project) == BACK | {"held": [NEW]}


@pytest.mark.usefixtures("canary")
def test_one_of_two_gateways_is_dead(project: Project) -> None:
    assert call(project, "gateway", "stop", "second").returncode == 0
    done = call(project, "rollback", "acme-support")
    assert (done.returncode, shares(project)) == (0, BACK)
    assert "(1 gateway acknowledged)" in done.stdout
    assert "Warning: gateway second is not running" in done.stderr
    assert call(project, "gateway", "start", "second").returncode == 0
    assert call(project, "reconcile", "--once").stderr.count("lags behind") == 0


@pytest.mark.usefixtures("canary")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_killed_between_the_flip_and_the_ledger_it_ends_the_same_when_run_again(
    project: Project, number: signal.Signals
) -> None:
    frozen = gateway_process(project, "second")
    entries = (project.root / ".fleetctl/ledger.jsonl").read_bytes()
    os.kill(frozen, signal.SIGSTOP)  # it is waited for; the other one has flipped meanwhile
    try:
        with subprocess.Popen(
            project.command("rollback", "acme-support"),
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as going:
            while shares(project) != BACK:
                os.sched_yield()
            going.send_signal(number)
            said, _ = going.communicate()
    finally:
        os.kill(frozen, signal.SIGCONT)
    assert going.returncode == (130 if number == signal.SIGINT else -number), said
    assert (project.root / ".fleetctl/ledger.jsonl").read_bytes() == entries
    assert start_mark(frozen) is not None
    again = call(project, "rollback", "acme-support")
    assert again.returncode == 0, again.stderr
    assert "(2 gateways acknowledged)" in again.stdout
    assert served(project) == BACK | {"held": [NEW]}
    assert call(project, "plan", "--detailed-exitcode").returncode == 0, "it stays out"


def test_without_a_state_folder_it_says_what_it_lacks(tmp_path: Path, project: Project) -> None:
    elsewhere = Project(tmp_path, project.options)
    (tmp_path / "fleet.yaml").write_text("fleet: [broken", "utf-8")
    done = call(elsewhere, "rollback", "acme-support")
    assert done.returncode == 1
    assert "`acme-support` is not in the routing table, which has 0 aliases" in done.stderr
    assert "Nothing was applied from this" in done.stderr
