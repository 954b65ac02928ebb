"""Other flags stand in for another engine on a real vLLM: one client's golden set stops them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import CLIENTS, Project
from tests.fleetctl.rollouts.test_upgrade_of_two import ASKED, moved_on
from tests.fleetctl.rollouts.test_upgrades import CANARY, OLD, applied, asked, servers, with_gates

pytestmark = [pytest.mark.live, pytest.mark.long]
ITEMS = 20
LENGTH = "    max_model_len: 512\n"
SHORT = "    flags: {override-generation-config: '{\"max_new_tokens\": 6}'}\n"
"""Ends answers after six tokens: `P1` is whole then, and `queue=billing priority=P1` is not."""
SOUND = "    max_model_len: 480\n"


@pytest.fixture
def project(tmp_path: Path, vllm_python: Path) -> Iterator[Project]:
    """Two clients of the quickstart fleet on a server of vLLM, with a device to spare."""
    made = Project.copy(tmp_path / "project", vllm_python)
    for client in {*CLIENTS} - {"acme", "birch"}:
        (made.root / f"clients/{client}.yaml").unlink()
    with_gates(made, 2, "bake: 1s, ")
    for name in ("support", "triage", "units"):
        golden = made.root / f"golden/{name}.jsonl"
        golden.write_bytes(b"".join(golden.read_bytes().splitlines(keepends=True)[:ITEMS]))
    assert call(made, "gateway", "start").returncode == 0
    applied(made)
    yield made
    made.clean_up()


def routed(project: Project) -> set[str]:
    """Return the servers of all routes."""
    return set().union(*servers(project).values())


def declare(project: Project, old: str, new: str) -> None:
    """Declare other flags of the base."""
    fleet = project.root / "fleet.yaml"
    text = fleet.read_text(encoding="utf-8")
    assert old in text
    fleet.write_text(text.replace(old, new), encoding="utf-8")


def test_flags_that_cut_one_clients_answers_are_given_to_no_client_and_sound_flags_to_all(
    project: Project,
) -> None:
    declare(project, LENGTH, LENGTH + SHORT)
    with asked(project, *ASKED):
        assert f"canary {CANARY} starts beside {OLD}" in call(project, "plan").stdout
        applied(project)
        done = call(project, "reconcile", "--once")
        assert done.returncode == 3, done.stderr
        assert f"FAIL answers of acme-support-tiny-v2.1.0 on {CANARY}" in done.stderr
        assert routed(project) == {OLD}
        assert "stopped for all clients: acme-support, answers: drop of " in (
            call(project, "plan").stdout
        )
        assert CANARY not in call(project, "server", "list").stdout

        declare(project, LENGTH + SHORT, SOUND)
        applied(project)
        early = call(project, "upgrade", "approve", "tiny", "--reason", "looks good")
        assert (early.returncode, "FC5141" in early.stderr) == (1, True)
        done = call(project, "reconcile", "--once")
        assert done.returncode == 0, done.stderr
        assert routed(project) == {OLD}
        approved = call(project, "upgrade", "approve", "tiny", "--reason", "20 answers alike")
        assert approved.returncode == 0, approved.stderr
        assert moved_on(project) > 0
    assert "No changes" in call(project, "plan").stdout
    assert routed(project) == {CANARY}
