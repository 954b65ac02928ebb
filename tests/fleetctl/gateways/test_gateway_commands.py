"""`fleetctl gateway`, `rollback` and `key`: real processes, from the state folder alone."""

import asyncio
import hashlib
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fleet.errors import FleetError
from fleet.spec import GatewaySpec
from fleetctl.cli import main_group
from runtime.gateway.admin import state_dir
from runtime.gateway.admin.state_dir import run_dir
from runtime.gateway.control import supervisor
from runtime.gateway.control.control import LocalGateways
from tests.broken.project import valid, write
from tests.ports import free_port
from tests.runtime.gateway.stage import ACME, NEW, OLD, table

SERVERS = {"s1": "http://127.0.0.1:9"}


def fleetctl(folder: Path, *arguments: str) -> Result:
    result = CliRunner().invoke(main_group, ["-C", str(folder), *arguments])
    if isinstance(result.exception, FleetError):
        raise result.exception
    return result


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    """A folder without declarations whose state knows of a gateway on a free port."""
    state = tmp_path / ".fleetctl"
    gateway = GatewaySpec("main", f"127.0.0.1:{free_port()}", "")
    state_dir.remember(state, {"main": gateway})
    asyncio.run(LocalGateways(state).publish(table(SERVERS, new=10)))
    yield tmp_path
    supervisor.stop(state, "main")


def status(project: Path) -> dict[str, object]:
    (row,) = json.loads(fleetctl(project, "gateway", "status", "--format", "json").stdout)
    return dict(row)


def get(url: object, path: str, key: str = "") -> int:
    request = urllib.request.Request(f"{url}{path}", headers={"Authorization": f"Bearer {key}"})
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as error:
        return error.code


def post(url: object, alias: str, status: str = "503", key: str = ACME) -> None:
    """Ask for an answer, which no server is there to give."""
    body = json.dumps({"model": alias, "messages": [], "user": os.urandom(8).hex()}).encode()
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{url}/v1/chat/completions", body, headers)
    with pytest.raises(urllib.error.HTTPError, match=status):
        urllib.request.urlopen(request, timeout=60)


def test_a_gateway_starts_serves_its_table_and_stops(project: Path) -> None:
    assert (status(project)["pid"], status(project)["revision"]) == (None, None)
    assert "gateway main on http://127.0.0.1:" in fleetctl(project, "gateway", "start").stderr
    row = status(project)
    assert (row["revision"], row["newest"], row["in_flight"]) == (1, 1, 0)
    assert get(row["url"], "/healthz") == 200
    assert get(row["url"], "/v1/models", ACME) == 200
    assert get(row["url"], "/v1/models", "wrong") == 401
    post(row["url"], "acme-support", "401", "wrong")
    assert fleetctl(project, "gateway", "start").exit_code == 0  # it runs already: fine
    assert status(project)["pid"] == row["pid"]
    shown = fleetctl(project, "gateway", "status").stdout
    assert "running  pid" in shown
    assert "\n  1 refused or left, without a usage row: no valid key\n" in shown
    split = (
        "acme-support  2.2.0 10 % wanted, none seen; 2.1.0 90 % wanted, none seen  of 0 requests"
    )
    assert shown.splitlines()[-1] == split
    for _ in range(5):
        post(row["url"], "acme-support")
    assert "% seen  of 5 requests" in fleetctl(project, "gateway", "status").stdout
    assert "gateway main stopped" in fleetctl(project, "gateway", "stop").stderr
    assert status(project)["pid"] is None
    assert "was not running" in fleetctl(project, "gateway", "stop", "main").stderr


def test_a_killed_gateway_starts_again_with_the_last_table(project: Path) -> None:
    fleetctl(project, "gateway", "start")
    killed = status(project)
    os.kill(int(str(killed["pid"])), signal.SIGKILL)
    while supervisor.find_process(project / ".fleetctl", "main"):  # the kernel takes a moment
        os.sched_yield()
    asyncio.run(LocalGateways(project / ".fleetctl").publish(table(SERVERS, revision=5)))
    fleetctl(project, "gateway", "start", "main")
    row = status(project)
    assert row["pid"] != killed["pid"]
    assert row["revision"] == 5
    assert get(row["url"], "/v1/models", ACME) == 200


def test_a_gateway_in_a_terminal_is_found_without_its_folders(project: Path) -> None:
    state = project / ".fleetctl"
    command = [sys.executable, "-m", "fleetctl", "-C", str(project), "gateway", "run"]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert b"gateway main listens on http://127.0.0.1:" in process.stderr.readline()
        for folder in (state, run_dir(state, "main")):
            shutil.rmtree(folder)
        found = supervisor.find_process(state, "main")
        assert found is not None
        assert found.pid == process.pid
        process.send_signal(signal.SIGINT)
        process.stderr.read()
    assert process.returncode == 0


def test_a_taken_port_is_named(project: Path) -> None:
    listen = state_dir.known_gateways(project / ".fleetctl")["main"].listen
    with socket.create_server(("127.0.0.1", int(listen.rpartition(":")[2]))):
        with pytest.raises(FleetError, match=f"(?s)did not start.*{listen}"):
            fleetctl(project, "gateway", "start")
        assert status(project)["pid"] is None


def test_an_unknown_gateway_is_refused(project: Path) -> None:
    with pytest.raises(FleetError, match="`mian` is not declared"):
        fleetctl(project, "gateway", "start", "mian")


@pytest.mark.parametrize("command", ["start", "run"])
def test_broken_declarations_of_a_new_fleet_start_no_gateway(tmp_path: Path, command: str) -> None:
    """A typing error in `gateways:` had a gateway listen on 127.0.0.1:8080, which no file names."""
    write(tmp_path, valid())
    fleet = tmp_path / "fleet.yaml"
    text = fleet.read_text("utf-8").partition("gateways:")[0]
    fleet.write_text(f'{text}\ngateways: {{main: {{lisen: "127.0.0.1:{free_port()}"}}}}\n')
    with pytest.raises(FleetError) as refused:
        fleetctl(tmp_path, "gateway", command)
    assert "lisen" in str(refused.value)
    assert not (tmp_path / ".fleetctl/gateways").exists()


def test_broken_declarations_do_not_stop_an_operator(project: Path) -> None:
    (project / "fleet.yaml").write_text("fleet: [", encoding="utf-8")
    started = fleetctl(project, "gateway", "start")
    assert "declarations are broken" in started.stderr
    rolled = fleetctl(project, "rollback", "acme-support", "--reason", "test")
    assert "acme-support back on 2.1.0 in " in rolled.stdout
    assert "(1 gateway acknowledged)" in rolled.stdout
    assert fleetctl(project, "gateway", "stop").exit_code == 0


def test_a_rollback_as_json(project: Path) -> None:
    result = fleetctl(project, "rollback", "acme-support", "--format", "json", "--smoke", "hi")
    shown = json.loads(result.stdout)
    assert result.exit_code == 1  # no server answers the smoke test: traffic is back, look at it
    assert (shown["target"], shown["held"], shown["complete"]) == (OLD, [NEW], False)
    assert shown["smoke"]["total"] == 1
    assert "gateway main is not running" in result.stderr
    entries = (project / ".fleetctl/ledger.jsonl").read_text(encoding="utf-8").splitlines()
    kinds = [json.loads(entry)["kind"] for entry in entries]
    assert kinds == ["rolled_back", "rollback_checked"]


FLEET = """\
fleet: test
library: models
clients:
  acme:
    keys: {prod: "file:.fleetctl/keys/acme-prod", ci: "env:ACME_KEY"}
"""


@pytest.fixture
def declared(tmp_path: Path) -> Path:
    (tmp_path / "fleet.yaml").write_text(FLEET, encoding="utf-8")
    return tmp_path


def test_a_key_goes_to_the_file_that_the_declaration_names(declared: Path) -> None:
    done = fleetctl(declared, "key", "create", "acme/prod")
    path = declared / ".fleetctl/keys/acme-prod"
    secret = path.read_text(encoding="utf-8").strip()
    assert len(secret) >= 43
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert secret not in done.output
    digest = hashlib.sha256(secret.encode()).hexdigest()
    shown = hashlib.sha256(digest.encode()).hexdigest()[:12]
    from runtime.project.facts import secret_fingerprint  # noqa: PLC0415 (only here)

    assert secret_fingerprint(declared, "file:.fleetctl/keys/acme-prod") == shown
    with pytest.raises(FleetError, match="not overwritten"):
        fleetctl(declared, "key", "create", "acme/prod")
    assert path.read_text(encoding="utf-8").strip() == secret


def test_a_key_from_the_environment_is_printed_once(declared: Path) -> None:
    first, second = (fleetctl(declared, "key", "create", "acme/ci") for _ in range(2))
    assert first.stdout != second.stdout
    assert first.stdout.startswith("fctl_")
    assert "ACME_KEY" in first.stderr


def test_an_undeclared_key_is_refused_with_the_nearest_one(declared: Path) -> None:
    with pytest.raises(FleetError) as caught:
        fleetctl(declared, "key", "create", "acme/prd")
    assert caught.value.diagnostics[0].hint == "did you mean `acme/prod`?"
