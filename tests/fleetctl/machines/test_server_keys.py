"""Keys of servers from end to end on the fake server: derived, sent, refused, rotated.

That they stand in no output and no file: `test_canary.py`.
"""

import json
from collections.abc import Iterator
from urllib.request import Request, urlopen

import pytest

from fleet.environment import SERVER_KEY, server_key
from runtime.engines.launch_records import LaunchRecord, LaunchRecords
from runtime.json_client import SERVER_KEYS
from runtime.processes import environment
from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import Project

SERVER = "tiny-laptop-cpu0"
SECRET, OTHER = "planted-secret-of-all-servers", "another-secret-of-all-servers"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The quickstart fleet with keys of servers, applied, with its gateway; tests leave it so."""
    made = Project.copy(tmp_path_factory.mktemp("keys") / "project", None)
    with (made.root / "fleet.yaml").open("a") as file:
        file.write("\nservers_secret: file:servers.secret\n")
    write_secret(made, SECRET)
    try:
        done = call(made, "apply", "--auto", "--yes")
        assert done.returncode == 0, done.stderr
        assert call(made, "gateway", "start").returncode == 0
        yield made
    finally:
        made.clean_up()


def write_secret(project: Project, secret: str) -> None:
    path = project.root / "servers.secret"
    path.write_text(secret + "\n")
    path.chmod(0o600)


def record(project: Project) -> LaunchRecord:
    found = LaunchRecords(project.root / ".fleetctl" / "servers").read(SERVER)
    assert found is not None
    return found


def key(project: Project, secret: str = SECRET) -> str:
    return server_key(secret, SERVER, record(project).served_launch)


def status(url: str, shown: str, body: object = None) -> int:
    headers = {"Content-Type": "application/json"}
    headers |= {"Authorization": f"Bearer {shown}"} if shown else {}
    data = None if body is None else json.dumps(body).encode()
    try:
        return int(urlopen(Request(url, data, headers), timeout=60).status)
    except OSError as error:
        return int(getattr(error, "code", 0))


def ask(project: Project) -> int:
    """Ask through the gateway, with a client's key, and return the status."""
    client = (project.root / ".fleetctl/keys/acme-prod").read_text().strip()
    (row,) = json.loads(call(project, "gateway", "status", "--format", "json").stdout)
    body = {"model": "acme-support", "messages": [{"role": "user", "content": "hello"}]}
    return status(f"{row['url']}/v1/chat/completions", client, body)


def test_a_server_answers_the_gateway_and_refuses_all_without_its_key(project: Project) -> None:
    url = record(project).url
    assert ask(project) == 200
    client = (project.root / ".fleetctl/keys/acme-prod").read_text().strip()
    for path, body in (
        ("models", None),
        ("load_lora_adapter", {"lora_name": "x", "lora_path": "/"}),
        ("chat/completions", {"model": "tiny", "messages": []}),
    ):
        shown = ("", SECRET, client, server_key(SECRET, SERVER, "0" * 12))
        assert [status(f"{url}/v1/{path}", wrong, body) for wrong in shown] == [401] * 4
    assert status(f"{url}/v1/models", key(project)) == 200
    assert [status(f"{url}{path}", "") for path in ("/health", "/version", "/metrics")] == [200] * 3

    assert call(project, "gateway", "stop").returncode == 0
    assert call(project, "gateway", "start").returncode == 0
    assert ask(project) == 200
    assert call(project, "drift").returncode == 0
    lists = call(project, "server", "list")
    assert (lists.returncode, SERVER in lists.stdout) == (0, True)


def test_a_new_launch_has_another_key_that_the_gateway_knows(project: Project) -> None:
    first = key(project)
    project.kill_servers()
    assert call(project, "reconcile", "--once").returncode == 0
    assert key(project) != first
    assert environment(record(project).pid)[SERVER_KEY] == key(project)
    assert status(f"{record(project).url}/v1/models", first) == 401
    assert ask(project) == 200


def test_a_rollback_without_declarations_asks_servers_with_their_keys(project: Project) -> None:
    declared = project.root / "fleet.yaml"
    hidden = declared.rename(project.root / "hidden")
    SERVER_KEYS.clear()
    call(Project(project.root, ()), "rollback", "acme-support")
    assert {record(project).url: key(project)} == SERVER_KEYS
    hidden.rename(declared)


def test_another_secret_is_named_and_a_stopped_server_takes_the_new_key(project: Project) -> None:
    write_secret(project, OTHER)
    drift = call(project, "drift")
    assert drift.returncode == 2
    assert "asks for another key than `servers_secret` gives (FC4024)" in drift.stdout
    assert f"fleetctl server stop {SERVER}" in drift.stdout
    assert "has ended" not in drift.stdout
    planned = call(project, "plan")
    assert "asks for another key" in planned.stdout + planned.stderr
    assert ask(project) == 200  # the gateway has read the secret of before
    assert "gateway/main: has another secret of `servers_secret`" in drift.stdout
    assert call(project, "server", "stop", SERVER).returncode == 0
    refused = call(project, "apply", "--auto", "--yes")
    assert (refused.returncode, "FC4026" in refused.stderr) == (1, True)
    assert call(project, "server", "list", "--format", "json").stdout.strip() == "[]"

    assert call(project, "gateway", "stop").returncode == 0
    assert call(project, "gateway", "start").returncode == 0
    assert ask(project) == 503  # no 401: the client's key is right
    done = call(project, "apply", "--auto", "--yes")
    assert done.returncode == 0, done.stderr
    assert environment(record(project).pid)[SERVER_KEY] == key(project, OTHER)
    assert ask(project) == 200
    assert call(project, "drift").returncode == 0


def test_a_gateway_that_began_without_the_declared_secret_is_named(project: Project) -> None:
    file = project.root / "fleet.yaml"
    before = file.read_text()
    file.write_text(before.replace("servers.secret", "other.secret"))
    (project.root / "other.secret").write_text(OTHER)
    drift = call(project, "drift")
    file.write_text(before)
    assert "with `servers_secret: file:servers.secret`, not as declared" in drift.stdout
    assert "fleetctl gateway stop main && fleetctl gateway start main" in drift.stdout


def test_without_the_secret_nothing_is_started(project: Project) -> None:
    project.kill_servers()
    (project.root / "servers.secret").unlink()
    done = call(project, "apply", "--auto", "--yes")
    assert done.returncode != 0
    assert "FC4025" in done.stderr
    assert call(project, "gateway", "stop").returncode == 0
    started = call(project, "gateway", "start")
    assert (started.returncode, "FC4025" in started.stderr) == (1, True)
