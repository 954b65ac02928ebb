"""The commands of the page on upgrades do what their comments say, in their order."""

import re
from collections.abc import Iterator
from pathlib import Path
from shlex import split

import pytest

from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import CLIENTS, REPOSITORY, Project
from tests.fleetctl.rollouts.test_upgrades import (
    CANARY,
    OLD,
    applied,
    asked,
    declare,
    golden,
    servers,
    with_gates,
)

PAGE = REPOSITORY / "docs/upgrading.md"
COMMAND = re.compile(r"^    fleetctl (.+?) +#", re.MULTILINE)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """Two clients on one of two devices; acme has golden sets as gates, and birch has none."""
    made = Project.copy(tmp_path / "project", None)
    for client in {*CLIENTS} - {"acme", "birch"}:
        (made.root / f"clients/{client}.yaml").unlink()
    with_gates(made)
    for path in (made.root / "golden").iterdir():
        golden(path, "")
    birch = made.root / "clients/birch.yaml"
    without = re.sub(r" +golden: .*\n", "", birch.read_text(encoding="utf-8"))
    birch.write_text(without, encoding="utf-8")
    assert call(made, "gateway", "start").returncode == 0
    applied(made)
    yield made
    made.clean_up()


def test_the_page_takes_clients_to_the_new_server_and_back(project: Project) -> None:
    text = PAGE.read_text(encoding="utf-8")
    part = text[text.index("### Step by step") : text.index("Rules:\n", text.index("### Step by"))]
    where: list[str] = []
    said: list[str] = []
    declare(project, 480)
    with asked(project, "acme-triage", "birch-units"):
        for command in COMMAND.findall(part):
            done = call(project, *split(command))
            assert done.returncode == 0, (command, done.stderr)
            said.append(done.stdout + done.stderr)
            (only,) = {*map(frozenset, servers(project).values())}
            where.append(*only)
    assert where == [OLD] * 6 + [CANARY] * 2 + [OLD]
    plan, _, judged, status, evidence, *_ = said
    assert "nothing judges birch-units" in plan
    assert "PASS answers of acme-support" in judged
    assert "nothing judges birch-units" in status
    assert CANARY in evidence
