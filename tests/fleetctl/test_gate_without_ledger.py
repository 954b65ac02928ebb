"""A gate that fails takes the traffic back while the ledger hangs; it is written down later."""

import fcntl
import json
import os
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from runtime.gateway.tablefile import read_table
from tests.fleetctl.project_on_disk import Project

OLD, NEW = "acme-support-tiny-v2.1.0", "acme-support-tiny-v2.2.0"
GATES = "\ngates: {form: {metric: format_drop, max: 30pp, min_requests: 5}}\n"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The quickstart fleet; half of acme-support is on a version that breaks its format."""
    made = Project.copy(tmp_path_factory.mktemp("fleet") / "project", None)
    fleet, acme = made.root / "fleet.yaml", made.root / "clients/acme.yaml"
    text = fleet.read_text(encoding="utf-8")
    before = "careful: {weights: [10%, 50%, 100%], bake: 24h, retain: 7d, gates: []}"
    assert before in text
    pace = "careful: {weights: [50%, 100%], bake: 1h, gates: [form]}"
    fleet.write_text(text.replace(before, pace) + GATES, encoding="utf-8")
    assert made.run("gateway", "start").returncode == 0
    assert made.run("apply", "--auto", "--yes").returncode == 0
    word = ask(made, 0).split()[0]  # it depends on the version's bytes alone
    shown = acme.read_text(encoding="utf-8")
    line = "        golden: golden/support"
    shown = shown.replace(line, f'        format: {{regex: "{word}.*"}}\n{line}')
    acme.write_text(shown.replace('"2.1.0"', '"2.2.0"'), encoding="utf-8")
    done = made.run("apply", "--auto", "--yes")
    assert done.returncode == 0, done.stderr
    for number in range(60):
        ask(made, number)
    yield made
    made.clean_up()


def ask(project: Project, number: int) -> str:
    text = (project.root / "fleet.yaml").read_text(encoding="utf-8")
    port = text.partition('listen: "127.0.0.1:')[2].partition('"')[0]
    key = (project.root / ".fleetctl/keys/acme-prod").read_text(encoding="utf-8").strip()
    asked = [{"role": "user", "content": "hello"}]
    body = {"model": "acme-support", "messages": asked, "user": f"u{number}"}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/chat/completions",
        data=json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as reply:
        return str(json.load(reply)["choices"][0]["message"]["content"])


def shares(project: Project) -> dict[str, int]:
    table = read_table(project.root / ".fleetctl")
    assert table is not None
    return {each.adapter: each.percent for each in table.aliases["acme-support"].shares}


@contextmanager
def hung(project: Project) -> Iterator[None]:
    handle = os.open(project.root / ".fleetctl/ledger.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(handle)


def test_a_gate_that_fails_flips_though_nothing_can_be_written(project: Project) -> None:
    assert shares(project) == {NEW: 50, OLD: 50}
    with hung(project):
        done = project.run("reconcile", "--once")
        assert shares(project) == {NEW: 0, OLD: 100}
        left = project.run("apply", "--auto", "--yes")
    assert done.returncode == 1, done.stderr
    assert f"FAIL form of {NEW} at 50 %" in done.stderr
    assert "Rolled back: acme-support back on 2.1.0" in done.stderr
    assert "Verdicts could not be written down" in " ".join(done.stderr.split())
    assert (left.returncode, left.stderr) == (0, "No changes. 25 resources are as declared.\n")
    status = project.run("status", "--client", "acme").stdout
    assert "held: 2.2.0" in status
    evidence = json.loads(project.run("evidence", "list", "--format", "json").stdout)
    assert "FAIL" in json.dumps(evidence)
    assert project.run("evidence", "verify").returncode == 0
    again = project.run("reconcile", "--once")
    assert again.returncode == 0, again.stderr
    assert shares(project) == {NEW: 0, OLD: 100}
