"""Three checkouts with a database between them run servers on two boxes."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.beds.boxes import BoxBed
from tests.beds.checkouts import servers_of
from tests.fleetctl.project_on_disk import Project
from tests.ports import free_port
from tests.postgres import PASSWORD, FreshDatabase

pytestmark = [pytest.mark.boxes, pytest.mark.postgresql]


@pytest.fixture
def checkouts(
    checkout: Project, database: FreshDatabase, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[Project]]:
    """Checkouts of which none has applied anything; each reaches the gateway of the first."""
    monkeypatch.setenv("FLEET_DB", database.uri)
    monkeypatch.setenv("FLEET_OPERATOR", "the-operators-own-secret-of-this-fleet")
    file = checkout.root / "fleet.yaml"
    admin = f'admin: "http://127.0.0.1:{free_port()}", secret: env:FLEET_OPERATOR}}'
    text = file.read_text("utf-8")
    text = re.sub(r'main: \{listen: "([0-9.:]+)"\}', rf'main: {{listen: "\1", {admin}', text)
    file.write_text(f"{text}\nstate: {{postgresql: env:FLEET_DB}}\n", "utf-8")
    made = [checkout]
    for name in ("second", "third"):
        root = checkout.root.with_name(name)
        shutil.copytree(checkout.root, root)
        made.append(Project(root, ()))
    started = checkout.run("gateway", "start")
    assert started.returncode == 0, started.stderr
    yield made
    checkout.run("gateway", "stop")


def plan_ids(checkouts: list[Project]) -> set[str]:
    plans = [checkout.run("plan", "--format", "json") for checkout in checkouts]
    assert [plan.returncode for plan in plans] == [0] * len(plans), plans
    return {json.loads(plan.stdout)["plan_id"] for plan in plans}


def test_a_fleet_of_boxes_is_planned_applied_and_watched_from_three_checkouts(
    bed: BoxBed, checkouts: list[Project], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = checkouts
    file = str(tmp_path / "plan.json")
    for old, new in (("2.1.0", "2.1.0"), ("2.1.0", "2.2.0")):
        for checkout in checkouts:
            acme = checkout.root / "clients/acme.yaml"
            acme.write_text(acme.read_text("utf-8").replace(f'"{old}"', f'"{new}"'), "utf-8")
        assert first.run("plan", "--out", file).returncode == 0
        assert plan_ids(checkouts) == {json.loads(Path(file).read_text("utf-8"))["plan_id"]}
        done = second.run("apply", file, "--yes")
        assert done.returncode == 0, done.stdout + done.stderr
        for checkout in (first, third):
            drift = checkout.run("drift")
            assert drift.returncode == 0, drift.stdout
        assert len(plan_ids(checkouts)) == 1
    servers = servers_of(bed)
    assert len(servers) == 2
    with monkeypatch.context() as patch:
        closed = f"postgresql://x:{PASSWORD}@127.0.0.1:{free_port()}/x"
        patch.setenv("FLEET_DB", closed)
        back = third.run("rollback", "acme-support", "--reason", "home away")
    assert back.returncode == 0, back.stderr
    for checkout in (third, first, second):
        told = checkout.run("history", "acme-support", "--limit", "0").stdout
        assert told.count("home away") == 1, told
    assert len(plan_ids(checkouts)) == 1
    assert servers_of(bed) == servers
