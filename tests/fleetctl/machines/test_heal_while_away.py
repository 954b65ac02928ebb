"""Servers that end or hang while the ledger's home is away are started again where they were."""

import json
import os
import shutil
import signal
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from runtime.gateway.admin.state_dir import read_table
from runtime.gateway.table.table import RoutingTable
from runtime.processes import start_mark
from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import Project
from tests.fleetctl.state.test_declared_home import SharedFleet, fleet

__all__ = ["fleet"]

SERVER = "tiny-laptop-cpu0"


def table(fleet: SharedFleet) -> RoutingTable:
    found = read_table(fleet.state)
    assert found is not None
    return found


def loaded(fleet: SharedFleet) -> set[str]:
    """Return the adapters that the server lists."""
    record = json.loads((fleet.state / "servers" / SERVER / "launch.json").read_text("utf-8"))
    with urllib.request.urlopen(f"{record['url']}/v1/models", timeout=60) as reply:
        shown = json.load(reply)["data"]
    return {model["id"] for model in shown if model.get("parent")}


@pytest.fixture(autouse=True)
def in_order(fleet: SharedFleet) -> Iterator[None]:
    yield
    healed = call(fleet.project, "reconcile", "--once")
    assert healed.returncode == 0, healed.stderr
    assert call(fleet.project, "plan", "--detailed-exitcode").returncode == 0


def test_a_server_that_ended_comes_back_with_its_adapters_and_routes_stay(
    fleet: SharedFleet,
) -> None:
    before, had = table(fleet), loaded(fleet)
    fleet.project.kill_servers()
    with fleet.away():
        done = call(fleet.project, "reconcile", "--once")
        assert (done.returncode, "FC5107" in done.stderr) == (1, True), done.stderr
        assert f"Heals server/{SERVER}: the server has ended" in done.stderr
        again = call(fleet.project, "reconcile", "--once")
        assert "Heals" not in again.stderr, again.stderr
    after = table(fleet)
    assert (after.aliases, after.token) == (before.aliases, before.token)
    assert after.launches != before.launches, "the gateways know the new launch"
    assert had
    assert loaded(fleet) == had
    for _ in range(2):
        told = call(fleet.project, "history", "--steps", "--limit", "0").stdout
        assert told.count(f"done  start server/{SERVER}") == 2, told
    assert call(fleet.project, "evidence", "verify").returncode == 0
    assert call(fleet.project, "drift").returncode == 0


def test_a_server_that_was_stopped_on_purpose_stays_stopped(fleet: SharedFleet) -> None:
    assert call(fleet.project, "server", "stop", SERVER).returncode == 0
    with fleet.away():
        done = call(fleet.project, "reconcile", "--once")
        assert f"Left alone: server/{SERVER}" in done.stderr
        assert fleet.project.server_processes() == []


@pytest.mark.long
def test_a_server_that_hangs_is_replaced_where_it_is(fleet: SharedFleet) -> None:
    file, before = fleet.project.root / "fleet.yaml", table(fleet)
    kept = file.read_text("utf-8")
    file.write_text(kept.replace("    port:", "    restart_after: 1s\n    port:", 1), "utf-8")
    (pid,) = fleet.project.server_processes()
    os.kill(pid, signal.SIGSTOP)
    with fleet.away():
        done = [call(fleet.project, "reconcile", "--once") for _ in range(2)]
        told = [its.stderr for its in done]
        assert any(f"Heals server/{SERVER}: does not answer" in text for text in told), told
    file.write_text(kept, "utf-8")
    assert start_mark(pid) is None
    assert loaded(fleet)
    assert table(fleet).aliases == before.aliases


@pytest.mark.long
@pytest.mark.parametrize(  # the folder of a copied project would be another home
    "fleet", [pytest.param("postgresql", marks=pytest.mark.postgresql)], indirect=True
)
def test_of_two_checkouts_that_lack_the_home_one_starts_the_server(fleet: SharedFleet) -> None:
    other = Project(fleet.project.root.with_name("other"), fleet.project.options)
    shutil.copytree(fleet.project.root, other.root)
    fleet.project.kill_servers()
    with fleet.away(), ThreadPoolExecutor() as at_once:
        rounds = at_once.map(lambda its: its.run("reconcile", "--once"), (fleet.project, other))
        told = [done.stderr for done in rounds]
    assert any(f"Heals server/{SERVER}" in text for text in told), told
    pids = {pid for its in (fleet.project, other) for pid in its.server_processes()}
    (running,) = (pid for pid in pids if start_mark(pid) is not None)
    assert loaded(fleet), running
    for project in (other, fleet.project):
        assert call(project, "history").returncode == 0
        call(project, "server", "stop", "--all")
    assert start_mark(running) is None
