"""What drift and reconcile do about damaged copies and lost records, on the fake server."""

import asyncio
import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fleet.config.files.lockfile import parse_lock
from fleet.history import EvalFinished
from runtime.engines.launch_records import LaunchRecords
from runtime.json_client import JsonClient
from runtime.ledger.file import FileLedger
from runtime.library.layout import folder_digest
from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import Project, applied
from tests.removal import remove_tree

NAME = "acme-support-tiny-v2.1.0"
SERVER = "tiny-laptop-cpu0"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The quickstart fleet, applied; tests leave it applied and whole."""
    yield from applied(tmp_path_factory.mktemp("fleet"))


def digest(project: Project) -> str:
    return parse_lock((project.root / "fleet.lock").read_text("utf-8")).adapters[NAME].digest


def listed(project: Project) -> Path:
    """Return the copy that the server lists."""
    record = LaunchRecords(project.root / ".fleetctl" / "servers").read(SERVER)
    assert record is not None

    async def root() -> Path:
        async with JsonClient(record.url) as http:
            shown = (await http.get("/v1/models"))["data"]
        return Path(next(model["root"] for model in shown if model["id"] == NAME))

    return asyncio.run(root())


def tamper(folder: Path) -> None:
    weights = folder / "adapter_model.safetensors"
    weights.chmod(0o644)
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")


def test_a_changed_byte_in_a_served_copy_is_drift_until_reconcile_repairs_it(
    project: Project,
) -> None:
    copy = listed(project)
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
    assert f"Heals adapter/{NAME}@{SERVER}: it may answer other bytes" in done.stderr
    assert folder_digest(copy) == copy.name
    assert listed(project) == copy.with_name(f"{copy.name}-2")
    assert call(project, "drift").returncode == 0
    assert call(project, "adapter", "verify").returncode == 0
    history = call(project, "history", "--limit", "4").stdout
    assert "note: repaired the served copy" in history
    assert f"has other bytes than its digest; may have been read by {SERVER}" in history


def test_a_copy_that_the_library_cannot_repair_is_left_and_told(project: Project) -> None:
    copy = listed(project)
    original = project.root / "models" / "adapters" / "acme" / "support-v2.1.0"
    aside = original.with_name("aside")
    original.rename(aside)
    tamper(copy)
    done = call(project, "reconcile", "--once")
    assert (done.returncode, f"Cannot repair `{copy}`" in done.stderr) == (2, True)
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


def ask(project: Project) -> str:
    """Return the answer of the version, from its server itself."""
    record = LaunchRecords(project.root / ".fleetctl" / "servers").read(SERVER)
    assert record is not None

    async def answer() -> str:
        async with JsonClient(record.url) as http:
            body = {"model": NAME, "messages": [{"role": "user", "content": "a"}], "max_tokens": 8}
            shown = await http.post("/v1/chat/completions", body)
        return str(shown["choices"][0]["message"]["content"])

    return asyncio.run(answer())


def evict(project: Project) -> None:
    """Load more versions by hand than the server keeps in memory, and unload them again."""
    record = LaunchRecords(project.root / ".fleetctl" / "servers").read(SERVER)
    assert record is not None
    folder = str(project.root / "models" / "adapters" / "acme" / "triage-v1.0.0")

    async def crowd() -> None:
        async with JsonClient(record.url) as http:
            names = [f"crowd-{number}" for number in range(64)]
            for name in names:
                await http.post("/v1/load_lora_adapter", {"lora_name": name, "lora_path": folder})
            for name in names:
                await http.post("/v1/unload_lora_adapter", {"lora_name": name})

    asyncio.run(crowd())


def restore(project: Project, copy: Path) -> None:
    """Put the right bytes back by hand: no trace is left on the disk."""
    original = project.root / "models" / "adapters" / "acme" / "support-v2.1.0"
    copy.chmod(0o755)
    shutil.copyfile(original / "adapter_model.safetensors", copy / "adapter_model.safetensors")
    assert folder_digest(copy) == digest(project)


@pytest.mark.parametrize("heals", [("reconcile", "--once"), ("apply", "--auto", "--yes")])
def test_weights_that_a_server_read_from_a_damaged_copy_are_replaced(
    project: Project, heals: tuple[str, ...]
) -> None:
    right, copy = ask(project), listed(project)
    evict(project)
    tamper(copy)
    assert ask(project) != right  # it was read again
    planned = call(project, "plan", "--detailed-exitcode")
    assert planned.returncode == 2
    assert f"~ reload  adapter/{NAME}@{SERVER}" in planned.stdout
    assert "it may answer other bytes: its copy was damaged" in planned.stdout
    assert "requests to acme-support will wait for about" in planned.stdout
    done = call(project, *heals)
    assert done.returncode == 0, done.stderr
    assert (ask(project), listed(project) != copy) == (right, True)
    assert call(project, "drift").returncode == 0
    assert call(project, "plan", "--detailed-exitcode").returncode == 0


def test_a_copy_put_right_by_hand_stays_drift_until_the_version_is_loaded_afresh(
    project: Project,
) -> None:
    right, copy = ask(project), listed(project)
    original = project.root / "models" / "adapters" / "acme" / "support-v2.1.0"
    evict(project)
    tamper(copy)
    wrong = ask(project)
    original.rename(original.with_name("aside"))  # nothing can be made good
    assert "Cannot repair" in call(project, "reconcile", "--once").stderr
    original.with_name("aside").rename(original)
    restore(project, copy)
    assert ask(project) == wrong != right
    assert call(project, "adapter", "verify", NAME).returncode == 0
    drift = call(project, "drift")
    assert drift.returncode == 2
    assert f"[heal] adapter/{NAME}@{SERVER}: it may answer other bytes" in drift.stdout
    assert call(project, "plan", "--detailed-exitcode").returncode == 2
    assert call(project, "apply", "--auto", "--yes").returncode == 0
    assert (ask(project), call(project, "drift").returncode) == (right, 0)


@pytest.mark.parametrize("deleted", [False, True], ids=["restored", "deleted"])
def test_a_restarted_server_has_read_no_damaged_copy(project: Project, *, deleted: bool) -> None:
    copy = listed(project)
    original = project.root / "models" / "adapters" / "acme" / "support-v2.1.0"
    tamper(copy)
    original.rename(original.with_name("aside"))
    call(project, "reconcile", "--once")
    original.with_name("aside").rename(original)
    if deleted:
        copy.chmod(0o755)
        remove_tree(copy)
    else:
        restore(project, copy)
    assert call(project, "drift").returncode == 2
    project.kill_servers()
    assert call(project, "reconcile", "--once").returncode == 0
    assert call(project, "drift").returncode == 0
    assert listed(project) != copy


def test_a_copy_that_was_deleted_while_listed_may_have_been_damaged_before(
    project: Project,
) -> None:
    copy = listed(project)
    copy.chmod(0o755)
    remove_tree(copy)
    planned = call(project, "plan", "--detailed-exitcode")
    assert (planned.returncode, "may answer other bytes" in planned.stdout) == (2, True)
    assert call(project, "reconcile", "--once").returncode == 0
    assert listed(project) != copy
    assert call(project, "drift").returncode == 0


def test_gc_deletes_the_copies_that_a_fresh_path_has_replaced(project: Project) -> None:
    assert call(project, "gc", "--yes").returncode == 0
    store = project.root / ".fleetctl" / "store"
    assert [copy.name for copy in store.glob(f"{digest(project)}*")] == [listed(project).name]
    assert call(project, "adapter", "verify").returncode == 0
    assert call(project, "drift").returncode == 0


def test_a_version_that_answers_far_worse_than_its_library_says_is_drift(project: Project) -> None:
    ledger = FileLedger(
        project.root / ".fleetctl", run="r", by="me", clock=lambda: datetime.now(UTC)
    )

    def evaluated(good: float) -> None:
        summary = {
            "valid": True,
            "levels": {"accuracy": {"good": good, "n": 200}},
            "library": {"good": 200.0, "n": 200},
            "golden": "golden/support.jsonl",
        }
        ledger.append([EvalFinished("e1", "acme-support", NAME, "anchor", summary, "")])

    evaluated(0.0)
    drift = call(project, "drift")
    assert drift.returncode == 2
    assert f"[alert] route/acme-support: {NAME} answers with an accuracy of 0.0%" in drift.stdout
    assert "The likely cause is wrong bytes" in drift.stdout
    assert f"DRIFT {NAME}: serving, accuracy: 0.0%" in call(project, "status").stdout
    evaluated(197.0)
    assert call(project, "drift").returncode == 0
