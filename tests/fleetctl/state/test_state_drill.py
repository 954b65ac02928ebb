"""A drill of a backup brings its fleet back on the fake engine, beside the fleet that serves."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime.operations.state.state_drill import _fake
from runtime.project.load import load_project
from tests.broken.project import FLEET, valid, write
from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import Project, applied
from tests.witness import lay_out

CARD = "{kind: rtx4090_24g, memory: 24GiB}"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    yield from applied(tmp_path_factory.mktemp("fleet"))


def test_a_drill_brings_the_newest_backup_back_beside_the_fleet(
    project: Project, backup: Path
) -> None:
    assert call(project, "state", "restore", str(backup), "--force").returncode == 0
    none = call(project, "state", "drill")
    assert (none.returncode, "FC6074" in none.stderr) == (1, True)
    again = backup.with_name("newest.tar.gz")
    assert call(project, "state", "backup", str(again)).returncode == 0
    assert "never drilled" in call(project, "status").stdout
    servers = json.loads(call(project, "server", "list", "--format", "json").stdout)
    done = drilled(project)
    assert (done["complete"], len(done["served"]), done["failures"]) == (True, 8, [])
    assert (done["servers"], done["adapters"]) == (1, 8)
    assert done["file"] == str(again)
    assert json.loads(call(project, "server", "list", "--format", "json").stdout) == servers
    assert call(project, "drift").returncode == 0
    assert not (project.root / ".fleetctl/drill").exists()
    assert "aliases served: 8" in call(project, "history").stdout
    status = json.loads(call(project, "status", "--format", "json").stdout)
    assert status["backup"]["drill"]["complete"] is True
    assert ", restorable at " in call(project, "status").stdout


def drilled(project: Project, *arguments: str) -> dict[str, Any]:
    shown = call(project, "state", "drill", *arguments, "--format", "json")
    assert shown.stdout, shown.stderr
    document: dict[str, Any] = json.loads(shown.stdout)
    assert shown.returncode == (0 if document["complete"] else 1)
    return document


def test_a_drill_fails_where_the_library_lacks_a_version(project: Project, backup: Path) -> None:
    version = project.root / "models/adapters/acme/support-v2.1.0"
    aside = project.root / "aside"
    version.rename(aside)
    try:
        done = drilled(project, str(backup))
    finally:
        aside.rename(version)
    assert done["complete"] is False
    assert len(done["served"]) == 7
    assert any("acme-support" in failure for failure in done["failures"])


def test_servers_of_the_fleet_without_a_record_are_not_touched(tmp_path: Path) -> None:
    before = Path(__file__).parents[2] / "data" / "before_the_move"
    file = str(tmp_path / "fleet.tar.gz")
    with lay_out(before, tmp_path / "project").running() as witness:
        assert witness.call("state", "backup", file).returncode == 0
        shown = witness.call("state", "drill", "--format", "json")
        done = json.loads(shown.stdout)
        assert (done["complete"], len(done["served"]), done["servers"]) == (True, 5, 2), done
        assert witness.call("drift").returncode == 0


def test_a_drill_of_a_torn_backup_is_an_error(
    project: Project, backup: Path, tmp_path: Path
) -> None:
    torn = tmp_path / "torn.tar.gz"
    torn.write_bytes(backup.read_bytes()[:-40])
    refused = call(project, "state", "drill", str(torn))
    assert (refused.returncode, "FC6071" in refused.stderr) == (1, True)
    assert not (project.root / ".fleetctl/drill").exists()


def test_boxes_with_the_same_ports_are_drilled_at_addresses_of_their_own(tmp_path: Path) -> None:
    hosts = "hosts:\n"
    for name in ("box1", "box2"):
        hosts += f"  {name}: {{engine: ssh, address: {name}, devices: {{gpu0: {CARD}}}}}\n"
    write(tmp_path, valid() | {"fleet.yaml": FLEET.replace("hosts:\n", hosts)})
    made = _fake(load_project(tmp_path, None, {}).fleet, 1000).hosts
    assert {made[name].engine for name in made} == {"fake"}
    at = [(made[name].address, made[name].devices[0].port) for name in ("box1", "box2", "laptop")]
    assert len({*at}) == 3
