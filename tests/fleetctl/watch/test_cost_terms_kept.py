"""A server that ends or hangs changes no terms of costs: ledger, plan and bill stay the same."""

import json
import os
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.request import Request, urlopen

import pytest

from fleet.costing import CostLine
from fleetctl.output import print_message
from runtime.engines import observation, vllm_api
from runtime.engines.launch_records import LOG
from runtime.operations.watch.costs import MonthBills
from tests.fleetctl.billed import At
from tests.fleetctl.in_process import Done, call
from tests.fleetctl.project_on_disk import Project
from tests.removal import remove_tree

PRICED = "price_per_hour: 1.5"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The quickstart fleet with a price, applied, whose silent servers are replaced soon."""
    made = Project.copy(tmp_path_factory.mktemp("terms") / "project", None)
    file = made.root / "fleet.yaml"
    text = file.read_text("utf-8")
    assert "price_per_hour: 0" in text
    text = text.replace("price_per_hour: 0", PRICED)
    file.write_text(text.replace("    port:", "    restart_after: 1s\n    port:", 1), "utf-8")
    done = call(made, "apply", "--auto", "--yes")
    assert done.returncode == 0, done.stderr
    yield made
    made.clean_up()


def entries(project: Project) -> list[dict[str, Any]]:
    """Return the entries of the ledger with terms of costs."""
    lines = (project.root / ".fleetctl/ledger.jsonl").read_text("utf-8").splitlines()
    found = map(json.loads, lines)
    return [entry for entry in found if entry["kind"] == "cost_terms"]


def told(project: Project) -> tuple[list[dict[str, Any]], Any, Any]:
    """Return the recorded terms, the change of costs in a plan, and the bill of tomorrow."""
    file = project.root / "plan.json"
    planned = call(project, "plan", "--out", str(file))
    assert planned.returncode == 0, planned.stderr
    costs = json.loads(file.read_text("utf-8"))["observations"].get("client_costs")
    return [entry["data"] for entry in entries(project)], costs, bill(project)


def bill(project: Project) -> tuple[CostLine, ...]:
    """Return the lines of the bill, a day after the terms were recorded for the first time."""
    with TemporaryDirectory() as folder:
        state = Path(folder) / "state"
        state.mkdir(mode=0o700)
        shutil.copy(project.root / ".fleetctl/ledger.jsonl", state)
        nothing: Any = None
        workspace = At(
            project.root, "fake", {}, state, print_message, nothing, nothing,
            time=datetime.fromisoformat(entries(project)[0]["time"]) + timedelta(days=1),
        )  # fmt: skip
        bills = MonthBills(workspace)
        return bills.compute(bills.month_of(bills.now)).lines


def kill(project: Project) -> None:
    project.kill_servers()


def freeze(project: Project) -> None:
    (pid,) = project.server_processes()
    os.kill(pid, signal.SIGSTOP)


def server_url(project: Project) -> str:
    (record,) = (project.root / ".fleetctl/servers").glob("*/launch.json")
    return str(json.loads(record.read_text("utf-8"))["url"])


def unload(project: Project) -> None:
    """Unload an adapter by hand."""
    url = server_url(project)
    body = json.dumps({"lora_name": "birch-units-tiny-v1.0.0"}).encode()
    headers = {"Content-Type": "application/json"}
    request = Request(f"{url}/v1/unload_lora_adapter", body, headers)
    with urlopen(request, timeout=60) as reply:
        assert reply.status == HTTPStatus.OK


def healing(project: Project) -> Done:
    """Return the first round that replaces a frozen server: silent for a second at least.

    Its looks wait a moment for a frozen server, which never answers. A server that runs has all
    the time in `told`: a busy machine answers late.
    """
    with pytest.MonkeyPatch.context() as impatient:
        impatient.setattr(vllm_api, "OBSERVE_DEADLINE_S", 0.2)
        impatient.setattr(observation, "HEALTH_S", 0.2)
        rounds = (call(project, "reconcile", "--once") for _ in range(100))
        return next(done for done in rounds if "Heals server/tiny-laptop-cpu0" in done.stderr)


@pytest.mark.parametrize("harm", [kill, freeze, unload])
def test_a_round_that_heals_records_the_terms_that_it_found_before(
    project: Project, harm: Callable[[Project], None]
) -> None:
    """Before, the look before the healing was recorded: `{server: null}` for a killed server.

    Plan and bill had these terms until the next round.
    """
    before = told(project)
    assert before[2]
    harm(project)
    assert healing(project).returncode == 0
    assert told(project) == before


def test_a_server_that_cannot_be_started_again_keeps_its_terms(project: Project) -> None:
    """Before, `{server: null}` was recorded at the end of each round, as long as it was down."""
    before = entries(project)
    port = int(server_url(project).rpartition(":")[2])
    project.kill_servers()
    with socket.create_server(("127.0.0.1", port)):
        assert call(project, "reconcile", "--once").returncode != 0
    assert entries(project) == before
    assert call(project, "reconcile", "--once").returncode == 0
    assert entries(project) == before


@contextmanager
def without(path: Path) -> Iterator[None]:
    """Take a folder away; what is in its place at the end goes."""
    aside = path.with_name(f"{path.name}-aside")
    path.rename(aside)
    yield
    if path.is_dir():
        remove_tree(path)
    aside.rename(path)


@pytest.mark.parametrize("harm", [kill, freeze])
def test_a_server_whose_start_fails_once_is_healed_by_the_next_round(
    project: Project, harm: Callable[[Project], None]
) -> None:
    """The stop of a frozen server was taken for its end.

    `{server: null}` was recorded, and three further rounds ended with code 2: "the ledger does not
    know how to start it". All 8 aliases stayed without an answer until an apply.
    """
    recorded, before = entries(project), told(project)
    harm(project)
    log = project.root / f".fleetctl/servers/tiny-laptop-cpu0/{LOG}.1"
    log.unlink(missing_ok=True)
    (log / "in-the-way").mkdir(parents=True)  # where a launch puts the log before
    done = healing(project)
    assert "start server tiny-laptop-cpu0: FAILED" in done.stderr
    assert (done.returncode, entries(project)) == (4, recorded), done.stderr
    remove_tree(log)
    drift = call(project, "drift")
    assert "the server has ended; 8 adapters are gone with it" in drift.stdout, drift.stdout
    done = call(project, "reconcile", "--once")
    assert (done.returncode, told(project)) == (0, before), done.stderr


def test_a_version_that_cannot_be_loaded_again_keeps_the_terms_of_its_server(
    project: Project,
) -> None:
    """Before, the round with code 4 recorded terms of the server without the version."""
    recorded, before = entries(project), told(project)
    unload(project)
    library, store = project.root / "models/adapters/birch", project.root / ".fleetctl/store"
    with without(library), without(store):
        done = call(project, "reconcile", "--once")
        assert "load adapter birch-units-tiny-v1.0.0 on tiny-laptop-cpu0: FAILED" in done.stderr
        assert (done.returncode, entries(project)) == (4, recorded), done.stderr
    done = call(project, "reconcile", "--once")
    assert (done.returncode, told(project)) == (0, before), done.stderr


def test_a_server_that_an_operator_stopped_has_no_terms(project: Project) -> None:
    before = told(project)
    port = int(server_url(project).rpartition(":")[2])
    assert call(project, "server", "stop", "--all").returncode == 0
    with socket.create_server(("127.0.0.1", port)):
        assert call(project, "reconcile", "--once").returncode != 0
    assert entries(project)[-1]["data"]["changed"] == {"server/tiny-laptop-cpu0": None}
    assert call(project, "reconcile", "--once").returncode == 0
    assert told(project)[1:] == before[1:]
