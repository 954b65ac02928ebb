"""A server that a supervisor restarts, as the fleet and its clients see it; on the fake server."""

import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from runtime.engines.adapters_file import AdapterEntry
from runtime.engines.launch_records import LaunchRecord, LaunchRecords
from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import Project, applied
from tests.removal import remove_tree_in_use
from tests.supervisor import kill_and_restart

SERVER = "tiny-laptop-cpu0"
ADAPTERS = 8


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """The quickstart fleet, applied, with its gateway."""
    for made in applied(tmp_path):
        assert call(made, "gateway", "start").returncode == 0
        yield made


def record(project: Project) -> LaunchRecord:
    found = LaunchRecords(project.root / ".fleetctl" / "servers").read(SERVER)
    assert found is not None
    return found


def listed(project: Project) -> list[str]:
    """Return the adapters that the server lists."""
    with urllib.request.urlopen(f"{record(project).url}/v1/models") as answer:
        return [card["id"] for card in json.load(answer)["data"] if card["parent"]]


def restart(project: Project) -> "subprocess.Popen[bytes]":
    """Kill the server and start it again as others do; return once the new process answers."""
    records = LaunchRecords(project.root / ".fleetctl" / "servers")
    child = kill_and_restart(record(project), project.root, records.log(SERVER))
    while True:
        assert child.poll() is None
        with suppress(OSError):
            listed(project)
            return child


def ask(project: Project) -> tuple[int, str]:
    """Return status and text of an answer of `acme-support` through the gateway."""
    declared = (project.root / "fleet.yaml").read_text(encoding="utf-8")
    listen = declared.partition('listen: "')[2].partition('"')[0]
    key = (project.root / ".fleetctl/keys/acme-prod").read_text(encoding="utf-8").strip()
    body = {"model": "acme-support", "messages": [{"role": "user", "content": "Hello"}]}
    request = urllib.request.Request(
        f"http://{listen}/v1/chat/completions",
        data=json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:
        return answer.status, json.load(answer)["choices"][0]["message"]["content"]


def test_clients_are_answered_before_the_adapters_are_loaded_again(project: Project) -> None:
    before = ask(project)
    child = restart(project)
    try:
        assert listed(project) == []
        assert ask(project) == before
        assert listed(project) == ["acme-support-tiny-v2.1.0"]

        drift = call(project, "drift")
        assert drift.returncode == 2
        number = ADAPTERS - 1
        text = f"was restarted; {number} adapters are answered by the resolver until loaded again"
        assert text in drift.stdout

        healed = call(project, "reconcile", "--once")
        assert healed.returncode == 0, healed.stderr
        assert len(listed(project)) == ADAPTERS
        assert call(project, "drift").returncode == 0
        assert ask(project) == before
    finally:
        child.kill()
        child.wait()


def entries(project: Project) -> set[str]:
    """Return the names in the server's file of adapters."""
    records = LaunchRecords(project.root / ".fleetctl" / "servers")
    return set(records.adapters(SERVER).read())


def test_a_version_that_is_retired_after_a_restart_does_not_come_back(project: Project) -> None:
    """The server does not list the version then, so there is nothing to unload."""
    gone = "globe-language-tiny-v1.0.0"
    assert entries(project) == set(listed(project))
    child = restart(project)
    try:
        (project.root / "clients" / "globe.yaml").unlink()
        done = call(project, "apply", "--auto", "--yes")
        assert done.returncode == 0, done.stderr
        assert gone not in listed(project)
        assert entries(project) == set(listed(project))
        assert len(entries(project)) == ADAPTERS - 1
        assert status(project, gone) == 404
    finally:
        child.kill()
        child.wait()


def status(project: Project, model: str) -> int:
    """Return the status of the server's answer to a request for a model."""
    body = json.dumps({"model": model, "prompt": "Hello"}).encode()
    request = urllib.request.Request(
        f"{record(project).url}/v1/completions", body, {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_an_apply_ends_with_what_is_loaded_in_the_file_and_nothing_else(project: Project) -> None:
    """As after a run that was killed between a load and its entry, or an edit by hand."""
    records = LaunchRecords(project.root / ".fleetctl" / "servers")
    file = records.adapters(SERVER)
    file.remove("acme-support-tiny-v2.1.0")
    file.add("evil-test-tiny-v1.0.0", AdapterEntry("/tmp/evil", "0" * 64))  # noqa: S108 (a name)
    (project.root / "clients" / "globe.yaml").unlink()
    assert call(project, "apply", "--auto", "--yes").returncode == 0
    assert entries(project) == set(listed(project))
    assert len(entries(project)) == ADAPTERS - 1


def test_after_the_loss_of_the_state_folder_adopt_writes_the_file_again(project: Project) -> None:
    before = entries(project)
    remove_tree_in_use(project.root / ".fleetctl")
    assert entries(project) == set()
    assert call(project, "adopt").returncode == 0
    assert entries(project) == before
