"""A ledger with an altered line: healing goes on, promotions do not, and the copy is put back."""

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import Project, applied

NAME = "acme-support-tiny-v2.1.0"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    yield from applied(tmp_path_factory.mktemp("fleet"))


def ledger_of(project: Project) -> Path:
    return project.root / ".fleetctl/ledger.jsonl"


def alter(project: Project, line: int) -> None:
    """Change the author in a line of the ledger."""
    lines = ledger_of(project).read_bytes().split(b"\n")
    lines[line] = lines[line].replace(b'"by":"me"', b'"by":"us"')
    ledger_of(project).write_bytes(b"\n".join(lines))


def unload(project: Project) -> None:
    """Unload a version from its server, by hand."""
    (url,) = (
        server["url"]
        for server in json.loads(call(project, "status", "--format", "json").stdout)["servers"]
    )
    for file in (project.root / ".fleetctl/servers").glob("*/adapters.json"):
        file.write_text("{}", "utf-8")
    body = json.dumps({"lora_name": NAME}).encode()
    request = urllib.request.Request(
        f"{url}/v1/unload_lora_adapter", body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as reply:
        assert reply.status == 200
    assert NAME not in listed(url)


def listed(url: str) -> set[str]:
    with urllib.request.urlopen(f"{url}/v1/models") as reply:
        return {model["id"] for model in json.load(reply)["data"]}


@pytest.mark.parametrize("line", [4, -2], ids=["before the last", "the last"])
def test_healing_goes_on_and_the_copy_is_put_back(project: Project, line: int) -> None:
    entries = len(ledger_of(project).read_bytes().splitlines())
    alter(project, line)
    unload(project)
    for command in ("plan", "apply --auto --yes", "history"):
        done = call(project, *command.split())
        assert done.returncode == 1
        assert "The ledger was tampered with [FC5102]" in done.stderr
        assert done.stderr.endswith("    fleetctl ledger restore\n")
    healed = call(project, "reconcile", "--once")
    assert healed.returncode == 1
    assert "Heals server/tiny-laptop-cpu0: adapters were unloaded by others" in healed.stderr
    assert healed.stderr.endswith("    fleetctl ledger restore\n")
    restored = call(project, "ledger", "restore")
    assert restored.returncode == 0, restored.stderr
    assert "could not be kept" not in restored.stderr
    assert list(ledger_of(project).parent.glob("ledger.damaged-*.jsonl"))
    assert call(project, "plan", "--detailed-exitcode").returncode == 0
    assert call(project, "drift").returncode == 0
    assert call(project, "evidence", "verify").returncode == 0
    assert len(ledger_of(project).read_bytes().splitlines()) > entries
    assert "restored from the local copy" in ledger_of(project).read_text("utf-8")
    again = call(project, "ledger", "restore")
    assert (again.returncode, again.stderr) == (0, "The ledger is whole: nothing was changed.\n")


def test_without_a_whole_copy_nothing_is_changed(project: Project) -> None:
    copy = ledger_of(project).with_name("ledger-as-last-read.jsonl")
    kept = copy.read_bytes(), ledger_of(project).read_bytes()
    alter(project, 4)
    altered = ledger_of(project).read_bytes()
    copy.write_bytes(kept[0].replace(b'"by":"me"', b'"by":"us"', 1))
    done = call(project, "ledger", "restore")
    assert done.returncode == 1
    assert "There is no whole copy of the ledger [FC5181]" in done.stderr
    copy.write_bytes(b"")
    assert call(project, "ledger", "restore").returncode == 1
    assert ledger_of(project).read_bytes() == altered
    copy.write_bytes(kept[0])
    ledger_of(project).write_bytes(kept[1])
    assert call(project, "history").returncode == 0
