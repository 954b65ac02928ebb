"""New settings of a base: a canary server, golden sets of all clients on it, then the move."""

import json
import re
import signal
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count, cycle
from pathlib import Path
from typing import Any

import pytest

from runtime.evals.store import EvalStore
from tests.fleetctl.in_process import Done, call
from tests.fleetctl.project_on_disk import Project
from tests.ports import two_free_ports

OLD, CANARY = "tiny-laptop-cpu0", "tiny-laptop-cpu1"
GATES = "\ngates: {answers: {metric: accuracy_drop, max: 8pp}}\n"
LONG = "please " * 164
"""Text of 288 tokens: of 290, the fake server has too few left for its answer."""


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """The quickstart fleet on one of two devices; every client has a golden set as its gate."""
    made = Project.copy(tmp_path / "project", None)
    with_gates(made)
    for path in (made.root / "golden").iterdir():
        golden(path, "")
    golden(made.root / "golden/support.jsonl", LONG)
    assert call(made, "gateway", "start").returncode == 0
    applied(made)
    yield made
    made.clean_up()


def with_gates(project: Project, devices: int = 2, pace: str = "") -> None:
    """Declare a golden set as the gate of every client, and further devices."""
    fleet = project.root / "fleet.yaml"
    text = re.sub(r"port: \d+", f"port: {two_free_ports()}", fleet.read_text(encoding="utf-8"))
    device = "      cpu0: {kind: cpu, memory: 6GiB, price_per_hour: 0}\n"
    for old, new in (
        ("weights: [10%, 50%, 100%], bake: 24h, retain: 7d, gates: []", f"{pace}gates: [answers]"),
        (device, "".join(device.replace("cpu0", f"cpu{number}") for number in range(devices))),
    ):
        assert old in text
        text = text.replace(old, new)
    fleet.write_text(text + GATES, encoding="utf-8")


def golden(path: Path, before: str) -> None:
    """Write a set of questions that six words answer."""
    lines: list[dict[str, Any]] = [{"defaults": {"metric": {"regex": {}}}}]
    lines += [
        {"id": f"q{n}", "input": f"{before}{n}", "expected": r"(\S+ ){5}\S+"} for n in range(40)
    ]
    path.write_text("".join(json.dumps(each) + "\n" for each in lines), encoding="utf-8")


def declare(project: Project, length: int) -> None:
    """Declare another context length: the settings of all servers change."""
    fleet = project.root / "fleet.yaml"
    before, mark, rest = fleet.read_text(encoding="utf-8").partition("    max_model_len: ")
    _, newline, rest = rest.partition("\n")
    fleet.write_text(f"{before}{mark}{length}{newline}{rest}", encoding="utf-8")


def ask(port: str, key: str, alias: str, number: int) -> int:
    """Ask a client's alias through the gateway; return the status."""
    body = {"model": alias, "messages": [{"role": "user", "content": f"{number}"}]}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/chat/completions",
        data=json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=600) as reply:
        return int(reply.status)


@contextmanager
def asked(project: Project, *aliases: str) -> Iterator[list[int | str]]:
    """Ask aliases in turn all the time meanwhile; yield the statuses, which must all be 200.

    In the place of a status: the error of a request without an answer.
    """
    seen: list[int | str] = []
    # Read once: a test that writes the declarations anew leaves them empty for a moment.
    text = (project.root / "fleet.yaml").read_text(encoding="utf-8")
    port = text.partition('listen: "127.0.0.1:')[2].partition('"')[0]
    keys = project.root / ".fleetctl/keys"
    asks = cycle(
        (alias, (keys / f"{alias.partition('-')[0]}-prod").read_text(encoding="utf-8").strip())
        for alias in aliases or ("acme-triage",)
    )
    ended = threading.Event()

    def work() -> None:
        while not ended.is_set():
            try:
                alias, key = next(asks)
                seen.append(ask(port, key, alias, len(seen)))
            except OSError as error:
                seen.append(getattr(error, "code", repr(error)))

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()
    assert seen
    assert Counter(seen) == {200: len(seen)}


def servers(project: Project) -> dict[str, set[str]]:
    """Return the servers of routes by alias."""
    shown = json.loads(call(project, "status", "--format", "json").stdout)
    return {
        alias["alias"]: {name for version in alias["versions"] for name in version["servers"]}
        for alias in shown["aliases"]
    }


def applied(project: Project) -> Done:
    done = call(project, "apply", "--auto", "--yes")
    assert done.returncode == 0, done.stderr
    return done


def test_a_failed_golden_set_of_one_client_stops_the_upgrade_for_all(project: Project) -> None:
    fleet = project.root / "fleet.yaml"  # gateways send nothing to a canary: it is asked itself
    fleet.write_text(f"{fleet.read_text('utf-8')}evals: {{through: gateway}}\n", encoding="utf-8")
    declare(project, 290)
    with asked(project):
        plan = call(project, "plan").stdout
        early = call(project, "upgrade", "approve", "tiny", "--reason", "looks good")
        assert (early.returncode, "FC5141" in early.stderr) == (1, True)
        assert "no canary server with the versions of all clients runs yet" in early.stderr
        assert "^ tiny: max_model_len: 512 -> 290" in plan
        assert f"canary {CANARY} starts beside {OLD}" in plan
        applied(project)
        early = call(project, "upgrade", "approve", "tiny", "--reason", "looks good")
        assert (early.returncode, "FC5141" in early.stderr) == (1, True)
        assert f"on {CANARY}, acme-support answers: no evidence yet on 2.1.0" in early.stderr
        assert "`fleetctl upgrade advance` moves clients" in early.stderr
        assert {*map(frozenset, servers(project).values())} == {frozenset({OLD})}
        done = call(project, "reconcile", "--once")
        assert done.returncode == 3, done.stderr
        assert "FAIL answers of acme-support-tiny-v2.1.0 on tiny-laptop-cpu1" in done.stderr
        assert "stopped for all its clients" in done.stderr
    assert {*map(frozenset, servers(project).values())} == {frozenset({OLD})}
    stopped = call(project, "plan").stdout
    assert "stopped for all clients: acme-support, answers: " in stopped
    status = call(project, "status").stdout
    assert "upgrade of base tiny, stopped: acme-support, answers: " in status
    refused = call(project, "upgrade", "approve", "tiny", "--reason", "all the same")
    assert (refused.returncode, "FC5139" in refused.stderr) == (1, True)
    history = call(project, "history").stdout
    assert f"upgrade of tiny on {CANARY}: FAIL answers of acme-support-tiny-v2.1.0: " in history
    changed_evidence_is_found(project)


def changed_evidence_is_found(project: Project) -> None:
    """Change a byte of the ledger's verdict, then of answers; both are found, and put back."""
    listed = call(project, "evidence", "list", "acme-support", "--verdict", "FAIL").stdout
    assert CANARY in listed
    entry = next(line.split()[0] for line in listed.splitlines() if CANARY in line)
    assert f"on canary {CANARY} of the upgrade" in call(project, "evidence", "show", entry).stdout
    ledger = project.root / ".fleetctl/ledger.jsonl"
    (line,) = (n for n in ledger.read_bytes().splitlines() if b'"FAIL"' in n)
    (run, *_) = json.loads(line)["data"]["runs"]
    answers = EvalStore(project.root / ".fleetctl/evals").path(run)
    assert call(project, "evidence", "verify").returncode == 0
    for path, old, new in ((ledger, b'"FAIL"', b'"PASS"'), (answers, b"q1", b"q2")):
        known = path.read_bytes()
        assert old in known
        path.chmod(0o600)
        path.write_bytes(known.replace(old, new, 1))
        found = call(project, "evidence", "verify")
        assert found.returncode == 1, found.stdout
        path.write_bytes(known)
    assert f"Evaluation {run}: " in found.stdout


def test_clients_move_once_all_golden_sets_have_passed_and_go_back_when_told_to(
    project: Project,
) -> None:
    declare(project, 480)
    with asked(project):
        applied(project)
        done = call(project, "reconcile", "--once")
        assert done.returncode == 0, done.stderr
        assert {*map(frozenset, servers(project).values())} == {frozenset({CANARY})}
        plan = call(project, "plan").stdout
        assert f"{OLD} is kept loaded until" in plan
        assert call(project, "freeze", "--reason", "a launch").returncode == 0
        back = call(project, "upgrade", "stop", "tiny", "--reason", "slow since noon")
        assert back.returncode == 0, back.stderr
        done = call(project, "reconcile", "--once")  # ways back go on in a frozen fleet
        assert done.returncode == 0, done.stderr
        assert {*map(frozenset, servers(project).values())} == {frozenset({OLD})}
    assert "stopped for all clients: slow since noon" in call(project, "plan").stdout


def test_an_apply_that_is_killed_at_the_canary_is_taken_up_by_the_next(project: Project) -> None:
    declare(project, 480)
    loads = count(1)

    def at_third_load(event: dict[str, Any]) -> bool:
        is_load = event["type"] == "step_done" and event["step"].startswith("load ")
        return is_load and next(loads) == 3

    with asked(project):
        project.stop_during_apply(signal.SIGKILL, at_third_load)
        assert {*map(frozenset, servers(project).values())} == {frozenset({OLD})}
        assert call(project, "upgrade", "approve", "birch", "--reason", "r").returncode == 1
        applied(project)
        done = call(project, "reconcile", "--once")
        assert done.returncode == 0, done.stderr
        assert {*map(frozenset, servers(project).values())} == {frozenset({CANARY})}
