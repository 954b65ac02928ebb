"""A state folder that is lost while the fleet serves: found again by `adopt`, without an outage."""

import http.client
import json
import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from runtime.files import is_locked
from runtime.gateway.admin.state_dir import LOCK, gateway_dir, known_gateways, read_table, run_dir
from runtime.gateway.control.supervisor import find_process
from runtime.processes import start_mark
from tests.fleetctl.in_process import Done, call
from tests.fleetctl.project_on_disk import Project
from tests.removal import remove_tree_in_use

ALIAS = "acme-support"


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """The quickstart fleet, applied and behind a running gateway."""
    made = Project.copy(tmp_path / "project", None)
    assert call(made, "apply", "--auto", "--yes").returncode == 0
    assert call(made, "gateway", "start").returncode == 0
    yield made
    made.clean_up()


def state_of(project: Project) -> Path:
    return project.root / ".fleetctl"


def lose_state(project: Project) -> None:
    """Remove the folder, also where the gateway makes a file meanwhile."""
    remove_tree_in_use(state_of(project))


@contextmanager
def steady_client(project: Project) -> Iterator[Counter[str]]:
    """Send a request after the other while the block runs; give the answers, counted."""
    (row,) = json.loads(call(project, "gateway", "status", "--format", "json").stdout)
    key = (state_of(project) / "keys/acme-prod").read_text("utf-8").strip()
    answers, stop = Counter[str](), threading.Event()

    def send() -> None:
        body = json.dumps({"model": ALIAS, "prompt": "Where is my parcel?", "max_tokens": 2})
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        while not stop.is_set():
            connection = http.client.HTTPConnection(row["url"].removeprefix("http://"))
            try:
                connection.request("POST", "/v1/completions", body, headers)
                reply = connection.getresponse()
                answers[str(reply.status)] += bool(reply.read())
            except OSError as error:
                answers[repr(error)] += 1
            finally:
                connection.close()

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield answers
    finally:
        stop.set()
        sender.join()


def document(done: Done) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_adopt_goes_on_without_an_outage(project: Project) -> None:
    state, servers = state_of(project), project.server_processes()
    before = document(call(project, "status", "--format", "json"))
    copies = sorted(path.name for path in (state / "store").iterdir())
    gateway = find_process(state, "main")
    (resolved,) = (state / "servers").glob("*/adapters.json")
    entries = json.loads(resolved.read_text("utf-8"))
    assert len(entries) == 8
    secrets = {path.name: path.read_bytes() for path in (state / "keys").iterdir()}
    with steady_client(project) as answers:
        lose_state(project)
        plan = call(project, "plan")
        assert (plan.returncode, "8 of its versions loaded" in plan.stdout) == (0, True)
        assert "if they were lost: fleetctl adopt" in plan.stdout
        assert call(project, "plan", "--detailed-exitcode").returncode == 0
        for command in ("apply --auto --yes", "reconcile --once"):
            done = call(project, *command.split())
            assert done.returncode == 1
            assert "1 server and 8 routes of this fleet serve" in done.stderr
            assert done.stderr.endswith("    fleetctl adopt\n")
        drift = call(project, "drift", "--format", "json")
        assert drift.returncode == 2
        causes = {cause["subject"]: cause for cause in json.loads(drift.stdout)["causes"]}
        assert causes["ledger"]["command"] == "fleetctl adopt"
        assert "the ledger knows none of what runs here" in call(project, "status").stdout

        done = call(project, "adopt")
        assert done.returncode == 0, done.stderr
        assert "24 resources adopted." in done.stderr
        assert "operator.secret" in done.stderr
        assert "acme-prod" in done.stderr
        assert "kill" not in done.stderr
        assert sorted(path.name for path in (state / "store").iterdir()) == copies
        assert project.server_processes() == servers
        assert json.loads(resolved.read_text("utf-8")) == entries
        assert "No changes. 24 resources are as declared." in call(project, "plan").stdout
        assert call(project, "plan", "--detailed-exitcode").returncode == 0
        left = json.loads(call(project, "drift", "--format", "json").stdout)["causes"]
        assert {cause["subject"].partition("/")[0] for cause in left} == {"key"}
        (state / "keys").mkdir()
        for name, secret in secrets.items():  # from where clients keep theirs
            (state / "keys" / name).write_bytes(secret)
        assert call(project, "drift").returncode == 0
        assert call(project, "apply", "--auto", "--yes").returncode == 0
        assert call(project, "reconcile", "--once").returncode == 0
        assert find_process(state, "main") == gateway
    after = document(call(project, "status", "--format", "json"))
    assert (after["aliases"][0]["versions"], after["servers"]) == (
        before["aliases"][0]["versions"],
        before["servers"],
    )
    assert set(answers) == {"200"}


def test_a_rollback_works_before_and_a_change_after_the_adoption(project: Project) -> None:
    acme = project.root / "clients/acme.yaml"
    acme.write_text(acme.read_text("utf-8").replace('"2.1.0"', '"2.2.0"'), "utf-8")
    assert call(project, "apply", "--auto", "--yes").returncode == 0
    table = read_table(state_of(project))
    assert table is not None
    with steady_client(project) as answers:
        lose_state(project)
        done = call(project, "rollback", ALIAS)
        assert done.returncode == 0, done.stderr
        assert call(project, "adopt").returncode == 0
        second = "keys:\n      staging: file:.fleetctl/keys/acme-staging\n"
        acme.write_text(acme.read_text("utf-8").replace("keys:\n", second), "utf-8")
        assert call(project, "key", "create", "acme/staging").returncode == 0
        done = call(project, "apply", "--auto", "--yes")
        assert done.returncode == 0, done.stderr
        assert call(project, "plan", "--detailed-exitcode").returncode == 0
    assert set(answers) == {"200"}
    newest = read_table(state_of(project))
    assert newest is not None
    assert (newest.revision, newest.token) > (table.revision, table.token)
    assert newest.token > table.token


def test_without_the_folder_a_gateway_is_found_and_stopped(project: Project) -> None:
    state = state_of(project)
    running = find_process(state, "main")
    assert running is not None
    assert is_locked(run_dir(state, "main") / LOCK)
    lose_state(project)
    assert find_process(state, "main") == running
    assert known_gateways(state)["main"].listen == running.url.removeprefix("http://")
    started = call(project, "gateway", "start")
    assert started.returncode == 0
    assert f"(pid {running.pid})" in started.stderr
    for folder in (run_dir(state, "main"), gateway_dir(state, "main")):
        shutil.rmtree(folder, ignore_errors=True)
    found = find_process(state, "main")
    assert found is not None
    assert (found.pid, found.url) == (running.pid, running.url)
    assert "gateway main stopped" in call(project, "gateway", "stop").stderr
    assert start_mark(running.pid) is None
