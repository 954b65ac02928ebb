"""Three checkouts with a database between them run servers on two boxes."""

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.beds.boxes import BoxBed
from tests.beds.checkouts import no_changes, servers_of
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


@contextmanager
def away(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let no command reach the database meanwhile."""
    with monkeypatch.context() as patch:
        patch.setenv("FLEET_DB", f"postgresql://x:{PASSWORD}@127.0.0.1:{free_port()}/x")
        yield


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
    with away(monkeypatch):
        back = third.run("rollback", "acme-support", "--reason", "home away")
    assert back.returncode == 0, back.stderr
    for checkout in (third, first, second):
        told = checkout.run("history", "acme-support", "--limit", "0").stdout
        assert told.count("home away") == 1, told
    assert len(plan_ids(checkouts)) == 1
    assert servers_of(bed) == servers


def test_a_server_that_ended_on_a_box_is_started_while_the_home_is_away(
    bed: BoxBed, checkouts: list[Project], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = checkouts
    done = second.run("apply", "--auto", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert third.run("drift").returncode == 0
    before = servers_of(bed)
    ended, kept = "fleetctl-tiny-box1-cpu0.service", "fleetctl-tiny-box2-cpu0.service"
    bed.do("ssh", "box1", f"systemctl --user stop {ended}")
    with away(monkeypatch):
        healed = third.run("reconcile", "--once")
    assert (healed.returncode, "FC5107" in healed.stderr) == (1, True), healed.stderr
    assert "Heals server/tiny-box1-cpu0: the server has ended" in healed.stderr
    after = servers_of(bed)
    assert after[kept] == before[kept]
    assert "ActiveState=active" in after[ended]
    for checkout in (third, first, second):
        assert checkout.run("drift").returncode == 0
    assert len(plan_ids(checkouts)) == 1
    assert no_changes(first)
