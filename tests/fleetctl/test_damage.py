"""What drift and reconcile do about damaged copies and lost records, on the fake server."""

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.config.lockfile import parse_lock
from runtime.engines.launch_records import LaunchRecords
from runtime.json_client import JsonClient
from runtime.library.layout import folder_digest
from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import Project, applied

NAME = "acme-support-tiny-v2.1.0"
SERVER = "tiny-laptop-cpu0"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The quickstart fleet, applied; tests leave it applied and whole."""
    yield from applied(tmp_path_factory.mktemp("fleet"))


def digest(project: Project) -> str:
    return parse_lock((project.root / "fleet.lock").read_text("utf-8")).adapters[NAME].digest


def tamper(folder: Path) -> None:
    weights = folder / "adapter_model.safetensors"
    weights.chmod(0o644)
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")


def test_a_changed_byte_in_a_served_copy_is_drift_until_reconcile_repairs_it(
    project: Project,
) -> None:
    copy = project.root / ".fleetctl" / "store" / digest(project)
    tamper(copy)
    before = folder_digest(copy)
    drift = call(project, "drift")
    assert drift.returncode == 2
    assert f"the served copy of {NAME} has other bytes than its digest" in drift.stdout
    assert f"adapter/{NAME}@{SERVER}" in drift.stdout
    assert folder_digest(copy) == before
    verified = call(project, "adapter", "verify", "--format", "json")
    (row,) = [each for each in json.loads(verified.stdout) if each["state"] != "ok"]
    assert verified.returncode == 1
    assert (row["adapter"], row["served_copy"], row["folder"]) == (NAME, True, str(copy))
    assert "fleetctl reconcile --once" in row["detail"]

    done = call(project, "reconcile", "--once")
    assert done.returncode == 0
    assert f"Repaired the served copy of {NAME} from the library" in done.stderr
    assert f"Left to you: {SERVER}: " in done.stderr
    assert folder_digest(copy) == copy.name
    assert call(project, "drift").returncode == 0
    assert call(project, "adapter", "verify").returncode == 0
    assert "note: repaired the served copy" in call(project, "history", "--limit", "1").stdout


def test_a_copy_that_the_library_cannot_repair_is_left_and_told(project: Project) -> None:
    copy = project.root / ".fleetctl" / "store" / digest(project)
    original = project.root / "models" / "adapters" / "acme" / "support-v2.1.0"
    aside = original.with_name("aside")
    original.rename(aside)
    tamper(copy)
    done = call(project, "reconcile", "--once")
    assert f"Cannot repair `{copy}`" in done.stderr
    assert "Left alone: store/" in done.stderr
    assert call(project, "drift").returncode == 2
    aside.rename(original)
    assert call(project, "reconcile", "--once").returncode == 0
    assert call(project, "drift").returncode == 0


def test_a_server_whose_launch_record_was_deleted_is_no_drift(project: Project) -> None:
    before = call(project, "server", "list").stdout
    (project.root / ".fleetctl" / "servers" / SERVER / "launch.json").unlink()
    drift = call(project, "drift")
    assert drift.returncode == 0, drift.stdout
    assert call(project, "plan", "--detailed-exitcode").returncode == 0
    assert call(project, "server", "list").stdout == before
    assert "running  pid" in before


@pytest.mark.parametrize("heals", [("reconcile", "--once"), ("apply", "--auto", "--yes")])
def test_lost_routes_come_back_as_they_were_with_the_addresses_of_their_servers(
    project: Project, heals: tuple[str, ...]
) -> None:
    file = project.root / ".fleetctl" / "routes.json"
    before = json.loads(file.read_text(encoding="utf-8"))
    file.unlink()
    done = call(project, *heals)
    assert done.returncode == 0, done.stderr
    after = json.loads(file.read_text(encoding="utf-8"))
    assert {each: after[each] for each in ("servers", "aliases")} == {
        each: before[each] for each in ("servers", "aliases")
    }
    assert after["servers"].keys() == {SERVER}

    del after["digest"]  # an older one has none
    file.write_text(json.dumps({**after, "servers": {}}), encoding="utf-8")
    assert f"no address of server {SERVER}" in call(project, "drift").stdout
    assert call(project, *heals).returncode == 0
    assert json.loads(file.read_text(encoding="utf-8"))["servers"] == after["servers"]


def test_an_adapter_under_the_right_digest_outside_the_store_is_other_bytes(
    project: Project,
) -> None:
    record = LaunchRecords(project.root / ".fleetctl" / "servers").read(SERVER)
    assert record is not None
    elsewhere = project.root / "anywhere" / digest(project)
    shutil.copytree(project.root / ".fleetctl" / "store" / digest(project), elsewhere)

    async def swap() -> None:
        async with JsonClient(record.url) as server:
            await server.post("/v1/unload_lora_adapter", {"lora_name": NAME})
            body = {"lora_name": NAME, "lora_path": str(elsewhere)}
            await server.post("/v1/load_lora_adapter", body)

    asyncio.run(swap())
    drift = call(project, "drift")
    assert drift.returncode == 2
    assert f"other bytes answer under this name, from {elsewhere}" in drift.stdout
    planned = call(project, "plan", "--detailed-exitcode")
    assert planned.returncode == 2
    assert "it is loaded from other bytes than fleet.lock pins" in planned.stdout
    assert call(project, "apply", "--auto", "--yes").returncode == 0
    assert call(project, "drift").returncode == 0
