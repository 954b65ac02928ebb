"""Keys without files, a stopped holder of the ledger's lock, a lost lease, a healed version."""

import fcntl
import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runtime.gateway.admin import state_dir
from runtime.ledger import file as ledger_file
from runtime.ledger import lease as leases
from runtime.processes import is_stopped
from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import CLIENTS, Project, applied

NAME = "acme-support-tiny-v2.1.0"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    yield from applied(tmp_path_factory.mktemp("fleet"))


def keys_of(project: Project) -> Path:
    return project.root / ".fleetctl/keys"


@pytest.fixture
def lost_keys(project: Project) -> Iterator[dict[str, str]]:
    """The secrets of acme and birch, whose files are gone until the test is over."""
    files = {name: keys_of(project) / name for name in ("acme-prod", "birch-prod")}
    secrets = {name: path.read_text("utf-8") for name, path in files.items()}
    for path in files.values():
        path.unlink()
    yield secrets
    for name, secret in secrets.items():
        files[name].write_text(secret, "utf-8")


@pytest.mark.parametrize("arguments", [("--all",), ("acme/prod",)])
def test_no_key_takes_the_place_of_one_whose_file_is_missing(
    project: Project, lost_keys: dict[str, str], arguments: tuple[str, ...]
) -> None:
    done = call(project, "key", "create", *arguments)
    assert done.returncode == 1
    assert "A key that clients use has no file here [FC6061]" in done.stderr
    assert "fleetctl key create acme/prod --replace" in done.stderr
    assert ("birch/prod" in done.stderr) == (arguments == ("--all",))
    assert sorted(path.name for path in keys_of(project).iterdir()) == [
        f"{client}-prod" for client in sorted({*CLIENTS} - {"acme", "birch"})
    ]
    planned = call(project, "plan", "--detailed-exitcode")
    assert planned.returncode == 0, planned.stdout
    assert call(project, "apply", "--auto", "--yes").returncode == 0
    for name, secret in lost_keys.items():
        (keys_of(project) / name).write_text(secret, "utf-8")
    assert call(project, "key", "create", "--all").returncode == 0
    assert call(project, "plan", "--detailed-exitcode").returncode == 0


@pytest.mark.usefixtures("lost_keys")
def test_a_key_is_replaced_on_purpose(project: Project) -> None:
    done = call(project, "key", "create", "birch/prod", "--replace")
    assert done.returncode == 0, done.stderr
    planned = call(project, "plan", "--detailed-exitcode")
    assert planned.returncode == 2
    assert "key/birch/prod" in planned.stdout
    assert "key/acme/prod: file:.fleetctl/keys/acme-prod is not readable here" in planned.stdout


@contextmanager
def stopped_holder(lock: Path) -> Iterator[int]:
    """Let a process hold a lock and be stopped while the block runs."""
    holding = "import fcntl, sys, time; f = open(sys.argv[1]); fcntl.flock(f, fcntl.LOCK_EX); "
    command = [sys.executable, "-c", holding + "print(flush=True); time.sleep(600)", str(lock)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGSTOP)
        while not is_stopped(process.pid):
            os.sched_yield()
        try:
            yield process.pid
        finally:
            process.kill()


def test_a_stopped_process_that_holds_the_ledger_is_named(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_file, "LOCK_S", 0.1)
    lock = project.root / ".fleetctl/ledger.lock"
    with stopped_holder(lock) as pid:
        done = call(project, "adopt")
        assert done.returncode == 1
        words = " ".join(done.stderr.split())
        assert f"by process {pid}, `{sys.executable} -c" in words
        assert "which is stopped (SIGSTOP)" in words
        assert done.stderr.endswith(f"    kill -CONT {pid}\n")
    with lock.open() as free:
        fcntl.flock(free, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held = call(project, "adopt")
        assert f"by process {os.getpid()}, " in " ".join(held.stderr.split())
        assert "SIGSTOP" not in held.stderr


def test_a_process_that_keeps_the_routes_locked_is_named(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_dir, "LOCK_S", 0.1)
    lock, table = (project.root / f".fleetctl/routes.{end}" for end in ("lock", "json"))
    table.unlink()
    with stopped_holder(lock) as pid:
        done = call(project, "apply", "--auto", "--yes")
        assert done.returncode == 4, done.stderr
        words = " ".join(done.stderr.split())
        assert f"has been locked for 0.1 s by process {pid}" in words
        assert f"kill -CONT {pid}" in done.stderr
        assert not table.exists()
    assert call(project, "apply", "--auto", "--yes").returncode == 0
    assert table.exists()


def take_over_lease(project: Project) -> None:
    """Give the lease to another run, as that run would: under the lock, and whole."""
    folder = project.root / ".fleetctl"
    with ledger_file.locked_ledger(folder):
        held = leases.read(folder)
        assert held is not None
        leases.write(folder, replace(held, token=held.token + 1, holder="another run"))


@pytest.mark.parametrize("form", ["text", "json"])
def test_after_a_lost_lease_no_line_claims_success(tmp_path: Path, form: str) -> None:
    project = Project.copy(tmp_path / "project", None)
    command = project.command("apply", "--auto", "--yes", "--format", form)
    usurped = False
    lines = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as applying:
        assert applying.stdout is not None
        for line in applying.stdout:
            lines.append(line)
            if not usurped and "tiny-laptop-cpu0" in line:
                usurped = True
                take_over_lease(project)
    project.clean_up()
    text = "".join(lines)
    assert applying.returncode == 5, text
    last = text[text.index("Error: The lease was lost [FC5105]") :]
    assert last.endswith("Wait for the other run, then plan again.\n")
    if form == "text":
        assert "Stopped half-way." in text
        assert not [
            word for word in ("as planned", "Plan again", "Note:", "goes on") if word in text
        ]
    else:
        events = [json.loads(line) for line in lines if line.startswith("{")]
        types = [event["type"] for event in events]
        assert types[types.index("lock_lost") :].count("verified") == 0
        assert (events[-1]["type"], events[-1]["result"]) == ("run_complete", "lease_lost")


def ask(url: str, path: str, key: str, body: Any) -> int:
    connection = http.client.HTTPConnection(url.removeprefix("http://"))
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    connection.request("POST", path, json.dumps(body), headers)
    reply = connection.getresponse()
    reply.read()
    connection.close()
    return reply.status


def test_a_version_that_was_loaded_again_is_no_drift(project: Project) -> None:
    """The gateway had got 404 for it, from the server that lists it again."""
    assert call(project, "gateway", "start").returncode == 0
    (gateway,) = json.loads(call(project, "gateway", "status", "--format", "json").stdout)
    shown = json.loads(call(project, "status", "--format", "json").stdout)
    key = (keys_of(project) / "acme-prod").read_text("utf-8").strip()
    body = {"model": "acme-support", "prompt": "Hello", "max_tokens": 1}
    assert ask(gateway["url"], "/v1/completions", key, body) == 200
    server = shown["servers"][0]["url"]
    for file in (project.root / ".fleetctl/servers").glob("*/adapters.json"):
        file.write_text("{}", "utf-8")  # else the server loads what it is asked for by itself
    assert ask(server, "/v1/unload_lora_adapter", "", {"lora_name": NAME}) == 200
    assert ask(gateway["url"], "/v1/completions", key, body) != 200
    (row,) = json.loads(call(project, "gateway", "status", "--format", "json").stdout)
    assert [missing["adapter"] for missing in row["missing"]] == [NAME]
    healed = call(project, "reconcile", "--once")
    assert healed.returncode == 0, healed.stderr
    drift = call(project, "drift")
    assert drift.returncode == 0, drift.stdout
