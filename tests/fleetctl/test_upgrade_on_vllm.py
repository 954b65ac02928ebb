"""Other flags stand in for another engine on a real vLLM: one client's golden set stops them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import CLIENTS, Project
from tests.fleetctl.test_upgrades import CANARY, OLD, applied, asked, servers, with_gates

pytestmark = [pytest.mark.live, pytest.mark.long]
ITEMS = 24
LENGTH = "    max_model_len: 512\n"
SHORT = "    flags: {override-generation-config: '{\"max_new_tokens\": 6}'}\n"
"""Ends answers after six tokens: `P1` is whole then, and `queue=billing priority=P1` is not."""


@pytest.fixture
def project(tmp_path: Path, vllm_python: Path) -> Iterator[Project]:
    """Two clients of the quickstart fleet on a vLLM, with a device to spare."""
    made = Project.copy(tmp_path / "project", vllm_python)
    for client in {*CLIENTS} - {"acme", "birch"}:
        (made.root / f"clients/{client}.yaml").unlink()
    with_gates(made)
    for name in ("support", "triage", "units"):
        golden = made.root / f"golden/{name}.jsonl"
        golden.write_bytes(b"".join(golden.read_bytes().splitlines(keepends=True)[:ITEMS]))
    assert call(made, "gateway", "start").returncode == 0
    applied(made)
    yield made
    made.clean_up()


def test_flags_that_cut_one_clients_answers_are_given_to_no_client(project: Project) -> None:
    fleet = project.root / "fleet.yaml"
    text = fleet.read_text(encoding="utf-8")
    assert LENGTH in text
    fleet.write_text(text.replace(LENGTH, LENGTH + SHORT), encoding="utf-8")
    with asked(project):
        plan = call(project, "plan").stdout
        assert f"canary {CANARY} starts beside {OLD}" in plan
        applied(project)
        done = call(project, "reconcile", "--once")
        assert done.returncode == 3, done.stderr
        assert f"FAIL answers of acme-support-tiny-v2.1.0 on {CANARY}" in done.stderr
        assert {*map(frozenset, servers(project).values())} == {frozenset({OLD})}
    stopped = call(project, "plan").stdout
    assert "stopped for all clients: acme-support, answers: drop of " in stopped
    running = call(project, "server", "list").stdout
    assert OLD in running
    assert CANARY not in running
