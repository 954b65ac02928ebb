"""Every outage is named by drift, status and reconcile, and healed where fleetctl can."""

import json
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runtime.engines import observation, vllm_api
from runtime.gateway.control.control import LocalGateways
from runtime.gateway.control.supervisor import WANTED, find_process
from tests.fleetctl.in_process import Done, call
from tests.fleetctl.outage_checks import left, outages, state, the_outage
from tests.fleetctl.project_on_disk import Project, applied


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The quickstart fleet, applied, with a gateway that fleetctl started."""
    for made in applied(tmp_path_factory.mktemp("fleet")):
        assert call(made, "gateway", "start").returncode == 0
        yield made


def gateway_pid(project: Project) -> int:
    running = find_process(state(project), "main")
    assert running is not None
    return running.pid


def kill_gateway(project: Project) -> int:
    pid = gateway_pid(project)
    os.kill(pid, signal.SIGKILL)
    while find_process(state(project), "main"):
        os.sched_yield()
    return pid


def reconcile(project: Project, code: int) -> Done:
    done = call(project, "reconcile", "--once")
    assert done.returncode == code, done.stderr
    return done


def test_a_fleet_in_order_has_no_outage(project: Project) -> None:
    assert outages(project) == []
    assert left(project) == []


def test_a_gateway_that_was_killed_is_started_again_and_noted(project: Project) -> None:
    before = kill_gateway(project)
    told = ("gateway_down", "gateway/main", "is not running and answers no client")
    assert the_outage(project) == told
    checked = call(project, "status", "--check")
    assert checked.returncode == 2
    assert "  Without an answer: acme-support, acme-triage, birch-units, " in checked.stdout
    assert call(project, "status").returncode == 0
    done = reconcile(project, 0)
    assert call(project, "status", "--check").returncode == 0
    assert "Heals gateway/main: is not running" in done.stderr
    assert gateway_pid(project) != before
    assert outages(project) == []
    note = f"gateway main had ended and was started again (pid {gateway_pid(project)})"
    assert note in call(project, "history").stdout


def test_a_gateway_that_a_person_stopped_stays_stopped_and_is_named(project: Project) -> None:
    assert call(project, "gateway", "stop").returncode == 0
    assert the_outage(project)[2] == "was stopped by `fleetctl gateway stop` and answers no client"
    assert left(project) == [("gateway_down", "gateway/main")]
    assert find_process(state(project), "main") is None
    assert call(project, "gateway", "start").returncode == 0
    assert left(project) == []


def test_a_stop_of_a_gateway_that_has_died_is_a_stop_as_well(project: Project) -> None:
    kill_gateway(project)
    assert "was not running" in call(project, "gateway", "stop").stderr
    assert left(project) == [("gateway_down", "gateway/main")]
    assert call(project, "gateway", "start").returncode == 0


def test_a_gateway_that_others_started_is_left_to_them(project: Project) -> None:
    (state(project) / "gateways" / "main" / WANTED).unlink()  # as of `gateway run`
    kill_gateway(project)
    assert left(project) == [("gateway_down", "gateway/main")]
    assert find_process(state(project), "main") is None
    assert call(project, "gateway", "start").returncode == 0


def test_a_gateway_that_cannot_start_is_named_with_the_reason(project: Project) -> None:
    kill_gateway(project)
    secret = state(project) / "operator.secret"
    kept = secret.read_bytes()
    secret.write_bytes(b"")
    try:
        said = " ".join(reconcile(project, 2).stderr.split())
        assert "FC6009" in said
        assert "operator's secret cannot be read" in said
    finally:
        secret.write_bytes(kept)
    assert left(project) == []
    assert gateway_pid(project)


@contextmanager
def full_disk(pid: int) -> Iterator[None]:
    """Let a process write no byte more, as on a full disk."""
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


def test_a_gateway_on_a_full_disk_refuses_and_is_named_before_a_request_came(
    project: Project,
) -> None:
    with full_disk(gateway_pid(project)):
        kind, subject, summary = the_outage(project)
        assert (kind, subject) == ("gateway_refuses", "gateway/main")
        assert summary.startswith("refuses every client, as its usage log cannot be written: ")
        assert left(project) == [("gateway_refuses", "gateway/main")]
    assert left(project) == []


def test_a_frozen_gateway_is_named_and_not_killed(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = gateway_pid(project)
    os.kill(pid, signal.SIGSTOP)
    asking = LocalGateways.read_table, LocalGateways._configs, LocalGateways._config
    for method in asking:  # 0.2 s for an answer instead of 2
        monkeypatch.setattr(method, "__defaults__", (0.2,))
    try:
        kind, subject, summary = the_outage(project)
        assert (kind, subject) == ("gateway_down", "gateway/main")
        assert summary.startswith("does not answer: ")
    finally:
        os.kill(pid, signal.SIGCONT)
        monkeypatch.undo()
    assert gateway_pid(project) == pid


@pytest.mark.parametrize("how", ["gone", "empty", "a folder"])
def test_a_key_whose_file_cannot_be_read(project: Project, how: str) -> None:
    file = state(project) / "keys" / "acme-prod"
    kept = file.read_bytes()
    file.unlink()
    if how == "empty":
        file.touch()
    elif how == "a folder":
        file.mkdir()
    try:
        kind, subject, summary = the_outage(project)
        assert (kind, subject) == ("key_gone", "key/acme/prod")
        assert ".fleetctl/keys/acme-prod" in summary
        assert left(project) == [("key_gone", "key/acme/prod")]
        theirs = json.loads(call(project, "status", "--client", "birch", "--format", "json").stdout)
        assert "outages" not in theirs
    finally:
        if how == "a folder":
            file.rmdir()
        file.write_bytes(kept)
    assert outages(project) == []


@pytest.mark.parametrize("how", ["altered", "torn", "empty", "gone"])
def test_a_table_that_is_not_the_one_that_was_written_is_written_anew(
    project: Project, how: str
) -> None:
    file = state(project) / "routes.json"
    kept = file.read_bytes()
    damaged = {"altered": kept.replace(b'"percent":100', b'"percent":99'), "torn": kept[:300]}
    file.write_bytes(damaged.get(how, b""))
    if how == "gone":
        file.unlink()
    kind, subject, _ = the_outage(project)
    assert (kind, subject) == ("table_damaged", "table")
    assert "table " in call(project, "plan").stderr
    assert left(project) == []
    assert outages(project) == []
    assert file.read_bytes() == kept


@pytest.fixture
def ledger(project: Project) -> Iterator[Path]:
    """The ledger's file, put back afterwards with its copy."""
    files = {
        path: path.read_bytes()
        for path in (state(project) / "ledger.jsonl", state(project) / "ledger-as-last-read.jsonl")
    }
    yield next(iter(files))
    for aside in state(project).glob("ledger-as-last-read.*.jsonl"):
        aside.unlink()
    for path, content in files.items():
        path.write_bytes(content)


def test_a_ledger_with_an_altered_line_is_named_and_stops_the_round(
    project: Project, ledger: Path
) -> None:
    lines = ledger.read_bytes().split(b"\n")
    lines[4] = lines[4].replace(b'"by":"', b'"by":"x')
    ledger.write_bytes(b"\n".join(lines))
    kind, subject, summary = the_outage(project)
    assert (kind, subject) == ("ledger_damaged", "ledger")
    assert "Line 5 of" in summary
    assert call(project, "reconcile", "--once").returncode == 1


@pytest.mark.parametrize("cut", [20, 2000], ids=["torn", "lacks lines"])
def test_a_ledger_that_was_cut_is_named_until_a_person_decides(
    project: Project, ledger: Path, cut: int
) -> None:
    ledger.write_bytes(ledger.read_bytes()[:-cut])
    for _ in range(2):  # the copy of what was read is moved aside by the first
        kind, subject, summary = the_outage(project)
        assert (kind, subject) == ("ledger_damaged", "ledger")
        assert "lacks some of the" in summary
    assert left(project) == [("ledger_damaged", "ledger")]
    (aside,) = state(project).glob("ledger-as-last-read.*.jsonl")
    aside.unlink()
    assert outages(project) == []


def test_a_frozen_server_is_named(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    (pid,) = project.server_processes()
    os.kill(pid, signal.SIGSTOP)
    monkeypatch.setattr(vllm_api, "OBSERVE_DEADLINE_S", 0.2)
    monkeypatch.setattr(observation, "HEALTH_S", 0.2)
    try:
        kind, subject, summary = the_outage(project)
        assert (kind, subject) == ("server_hung", "server/tiny-laptop-cpu0")
        assert "did not answer GET /v1/models" in summary
        assert left(project) == [("server_hung", "server/tiny-laptop-cpu0")]
    finally:
        os.kill(pid, signal.SIGCONT)
        monkeypatch.undo()
    assert outages(project) == []


def test_a_server_that_ended_is_an_outage_until_it_is_back(project: Project) -> None:
    project.kill_servers()
    kind, subject, _ = the_outage(project)
    assert (kind, subject) == ("server_down", "server/tiny-laptop-cpu0")
    assert left(project) == []
    assert outages(project) == []
