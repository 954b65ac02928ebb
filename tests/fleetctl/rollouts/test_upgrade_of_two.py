"""Two servers are upgraded one after another, under traffic, with every way back loaded."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import CLIENTS, Project
from tests.fleetctl.rollouts.test_upgrades import (
    applied,
    asked,
    declare,
    golden,
    servers,
    with_gates,
)

FIRST, SECOND, CANARY = (f"tiny-laptop-cpu{number}" for number in range(3))
ASKED = ("acme-support", "acme-triage", "birch-units")


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """Two clients on two of three devices; 2.2.0 of acme-support has replaced 2.1.0."""
    made = Project.copy(tmp_path / "project", None)
    on_two_servers(made)
    for path in (made.root / "golden").iterdir():
        golden(path, "")
    fleet, acme = made.root / "fleet.yaml", made.root / "clients/acme.yaml"
    gated = fleet.read_text(encoding="utf-8")
    fleet.write_text(gated.replace("gates: [answers]", "gates: []"), encoding="utf-8")
    assert call(made, "gateway", "start").returncode == 0
    applied(made)
    text = acme.read_text(encoding="utf-8")
    acme.write_text(text.replace('"2.1.0"', '"2.2.0"'), encoding="utf-8")
    applied(made)
    fleet.write_text(gated, encoding="utf-8")
    yield made
    made.clean_up()


def on_two_servers(project: Project) -> None:
    """Leave two clients, each version on two servers; an old server is kept for a second."""
    for client in {*CLIENTS} - {"acme", "birch"}:
        (project.root / f"clients/{client}.yaml").unlink()
    for client in ("acme", "birch"):
        file = project.root / f"clients/{client}.yaml"
        text = file.read_text(encoding="utf-8").replace(
            "base: tiny\n", "base: tiny\n        replicas: 2\n"
        )
        file.write_text(text, encoding="utf-8")
    with_gates(project, 3, "weights: [100%], bake: 1s, ")


def moved_on(project: Project) -> int:
    """Reconcile until no upgrade is left; return how often."""
    for number in range(8):
        if "^ tiny" not in call(project, "plan").stdout:
            return number
        done = call(project, "reconcile", "--once")
        assert done.returncode == 0, done.stderr
    raise AssertionError(call(project, "plan").stdout)


def test_a_client_is_rolled_back_at_once_in_the_midst_and_no_request_is_lost(
    project: Project,
) -> None:
    assert {*map(frozenset, servers(project).values())} == {frozenset({FIRST, SECOND})}
    declare(project, 480)
    with asked(project, *ASKED):
        applied(project)
        done = call(project, "reconcile", "--once")
        assert done.returncode == 0, done.stderr
        assert CANARY in servers(project)["acme-support"]
        back = call(project, "rollback", "acme-support")
        assert back.returncode == 0, back.stderr
        assert "2.1.0" in back.stdout
        assert moved_on(project) > 0
    plan = call(project, "plan").stdout
    assert "No changes" in plan
    status = call(project, "status", "--client", "acme").stdout
    assert "2.1.0" in status
