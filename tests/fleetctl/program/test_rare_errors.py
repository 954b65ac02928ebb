"""Errors of rare situations: the catalogue's example of a code is what the situation prints."""

import asyncio
import errno
import json
import os
import re
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.costing import Terms
from fleet.errors import Diagnostic, FleetError, PlacementError
from fleet.history import History
from fleet.planning import pipeline
from fleet.resources import Server, State
from fleet.spec import GatewaySpec
from fleetctl.catalogue import entries
from runtime.calibrate.measure import CalibrationTarget, require_adapters
from runtime.engine_conformance import write_adapter
from runtime.engines.launching import flags_of
from runtime.evals.context import through_gateway
from runtime.files import try_lock
from runtime.gateway.admin.state_dir import gateway_dir
from runtime.gateway.envoy.files import become_envoy, not_started_here
from runtime.json_client import JsonClient
from runtime.library.inspect import inspect
from runtime.project.load import load_project
from runtime.web.snapshot import FleetSnapshot, SnapshotReader
from tests.broken.project import FLEET, valid, write
from tests.fleet.placement.test_verify import FAULTS
from tests.fleet.planning.builders import NOON, base, device, host
from tests.fleet.planning.test_set_aside import TWO, WHY, declared, draining
from tests.fleet.planning.test_set_aside import applied as applied_in_memory
from tests.fleetctl.hand_started import hand_started
from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import QUICKSTART, Project, applied

ENVOY = GatewaySpec("edge", "127.0.0.1:8080", "admin.sock", kind="envoy")
NEW = ("--base", "tiny", "--version", "1.0.0")
HOME = "/home/ann/fleet"
ADAPTER = QUICKSTART / "models/adapters/acme/support-v2.1.0"
VERSION = "birch-units-tiny-v1.0.0"
PORT = "cpu0: {kind: cpu, memory: 8GiB, price_per_hour: 0"
"""In the declarations, a device whose port is the usual one."""


def _unmeasurable(_: Path) -> None:
    given = ("tiny-laptop-cpu0", "http://127.0.0.1:1", base("tiny"), None, "h100_80g", 1, 4, 16)
    require_adapters(CalibrationTarget(*given), ())


def _faulty_disk(_: Path) -> None:
    def scan(path: Path, _: object) -> Iterator[Diagnostic]:
        raise OSError(errno.EIO, os.strerror(errno.EIO), f"{HOME}/{path.relative_to(ADAPTER)}")

    shape = load_project(QUICKSTART, "fake", {}).fleet.bases["tiny"].shape
    assert shape is not None
    inspect(ADAPTER, shape, "tiny", scan=scan)


def _without_flags(_: Path) -> None:
    flags_of(Server("tiny-laptop-cpu0", "tiny", "laptop", ("cpu0",), 8100, digest=""))


def _terms_of_others(_: Path) -> None:
    Terms.of_documents({"fleet": {"currency": "EUR", "timezone": 1}})


def _envoy_that_is_not_installed(folder: Path) -> None:
    bootstrap = gateway_dir(folder.resolve(), ENVOY.name) / "envoy.json"
    bootstrap.parent.mkdir(parents=True)
    bootstrap.write_text("{}", "utf-8")
    become_envoy(folder, ENVOY)


def _started_envoy(_: Path) -> None:
    raise not_started_here(ENVOY)


def _no_reading(_: Path) -> None:
    def reading(_: FleetSnapshot | None) -> FleetSnapshot:
        raise FleetError.of("FC1010", "No fleet here", f"`{HOME}` holds no `fleet.yaml`.")

    async def read() -> None:
        reader = SnapshotReader(reading)
        task = asyncio.create_task(reader.run())
        try:
            await reader.latest()
        finally:
            task.cancel()

    asyncio.run(read())


def _unsound_placement(_: Path) -> None:
    declared, placement = FAULTS["more pinned versions than slots"][1:]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "place", lambda *_: placement)
        pipeline.make_plan(declared, State(), History(), NOON)


def _client_that_cannot_stay(_: Path) -> None:
    world = applied_in_memory()
    spec = draining(declared(hosts=(*TWO, host("c", device("gpu0")))))
    pipeline.make_plan(replace(spec, set_aside=WHY), world.live(), world.history(), NOON)


def test_a_mistake_of_the_planner_is_not_told_as_a_fleet_that_does_not_fit(tmp_path: Path) -> None:
    with pytest.raises(FleetError) as caught:
        _unsound_placement(tmp_path)
    assert not isinstance(caught.value, PlacementError)


RAISED: dict[str, Callable[[Path], object]] = {
    "FC2012": _client_that_cannot_stay,
    "FC2090": _unsound_placement,
    "FC3118": _faulty_disk,
    "FC4015": _without_flags,
    "FC4062": _unmeasurable,
    "FC4534": lambda folder: through_gateway((ENVOY,), folder),
    "FC6054": _started_envoy,
    "FC6055": _envoy_that_is_not_installed,
    "FC6089": _terms_of_others,
    "FC6110": _no_reading,
}


@pytest.mark.parametrize("code", RAISED)
def test_a_situation_gives_the_example_of_its_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(FleetError) as raised:
        RAISED[code](tmp_path)
    (told,) = raised.value.diagnostics
    assert (told.code, told.detail) == (code, entries()[code].example)


def _far_apart(text: str) -> str:
    """Declare two devices whose ports no shift brings below the highest port."""
    far = "{kind: cpu, memory: 8GiB, price_per_hour: 0, port: 65000}"
    return text.replace(f"{PORT}}}", f"{PORT}, port: 1100}}\n      cpu1: {far}")


def printed(project: Path | Project, *arguments: str, code: int = 1) -> str:
    """Return what a command prints that fails, in one line, with the paths of the catalogue."""
    its = project if isinstance(project, Project) else Project(project, ())
    done = call(its, *arguments)
    assert done.returncode == code
    return " ".join(done.stderr.replace(str(its.root), HOME).split())


def test_two_drills_at_once_and_ports_too_far_apart(tmp_path: Path) -> None:
    write(tmp_path, valid() | {"fleet.yaml": _far_apart(FLEET)})
    backup = str(tmp_path / "fleet.tar.gz")
    assert call(Project(tmp_path, ()), "state", "backup", backup).returncode == 0
    said = {"FC6077": printed(tmp_path, "state", "drill", backup)}
    with try_lock(tmp_path / ".fleetctl/drill.lock") as ours:
        assert ours
        said["FC6076"] = printed(tmp_path, "state", "drill", backup)
    _require_examples(said)


def test_a_backup_names_its_fleet_a_client_is_declared_and_a_port_is_free(tmp_path: Path) -> None:
    write(tmp_path, valid())
    said = {"FC6032": printed(tmp_path, "scaffold", "adapter", "globe/support", *NEW)}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        text = printed(tmp_path, "dashboard", "--listen", address)
        said["FC6111"] = text.replace(address, "127.0.0.1:8090")
    write(tmp_path, {"fleet.yaml": "fleet: [", "clients/acme.yaml": ""})
    said["FC6075"] = printed(tmp_path, "state", "backup", str(tmp_path / "fleet.tar.gz"))
    _require_examples(said)


def test_a_server_of_unknown_devices_is_not_measured(tmp_path: Path) -> None:
    with hand_started(tmp_path / "theirs", None, ()) as url:
        declared = FLEET.replace("http://10.0.0.5:8000", url)
        write(tmp_path, valid() | {"fleet.yaml": declared})
        _require_examples({"FC4064": printed(tmp_path, "calibrate", "llama_a")})


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    yield from applied(tmp_path_factory.mktemp("fleet"))


def test_a_plan_is_stale_where_other_hands_have_changed_all_of_it(project: Project) -> None:
    (server,) = json.loads(call(project, "server", "list", "--format", "json").stdout)
    asyncio.run(_by_hand(server["url"], "unload"))
    assert call(project, "plan", "--out", str(project.root / "plan.json")).returncode == 0
    write_adapter(project.root / "theirs", rank=4, seed="theirs")
    asyncio.run(_by_hand(server["url"], "load", lora_path=str(project.root / "theirs")))
    done = ("apply", str(project.root / "plan.json"), "--yes")
    said = re.sub(
        "plan [0-9a-f]{16} would", "plan 2e72816cb2e59deb would", printed(project, *done, code=5)
    )
    _require_examples({"FC5121": said})


async def _by_hand(url: str, verb: str, **more: str) -> None:
    async with JsonClient(url) as http:
        await http.post(f"/v1/{verb}_lora_adapter", {"lora_name": VERSION, **more})


def test_a_plan_is_carried_out_once(project: Project) -> None:
    acme, plan = project.root / "clients/acme.yaml", str(project.root / "once.json")
    text = acme.read_text("utf-8")
    acme.write_text(text.replace('"2.1.0"', '"2.2.0"'), "utf-8")
    assert call(project, "plan", "--out", plan).returncode == 0
    assert call(project, "apply", plan, "--yes").returncode == 0
    acme.write_text(text, "utf-8")
    assert call(project, "apply", "--auto", "--yes").returncode == 0
    said = printed(project, "apply", plan, "--yes", code=5)
    done = "Plan 2e72816cb2e59deb was done at 2026-03-02 16:40"
    _require_examples({"FC5125": re.sub("Plan [0-9a-f]{16} was done at [0-9 :-]{16}", done, said)})


def test_without_a_routing_table_no_key_is_made_and_without_a_golden_set_nothing_is_asked(
    project: Project,
) -> None:
    delta = project.root / "clients/delta.yaml"
    lines = delta.read_text("utf-8").splitlines(keepends=True)
    delta.write_text("".join(line for line in lines if "golden" not in line), "utf-8")
    said = {"FC6701": printed(project, "eval", "run", "delta-orders")}
    (project.root / ".fleetctl/keys/acme-prod").unlink()
    (project.root / ".fleetctl/routes.json").write_text("{", "utf-8")
    said["FC6062"] = printed(project, "key", "create", "acme/prod")
    _require_examples(said)


def _require_examples(said: dict[str, str]) -> None:
    shown = {code: " ".join(entries()[code].example.split()) for code in said}
    assert {code: text for code, text in said.items() if shown[code] not in text} == {}
    assert all(shown.values())
