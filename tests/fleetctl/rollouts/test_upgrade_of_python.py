"""Another declared interpreter is an upgrade: servers show no path, their launch records do."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import REPOSITORY, Project
from tests.fleetctl.rollouts.test_upgrades import (
    CANARY,
    OLD,
    applied,
    asked,
    golden,
    servers,
    with_gates,
)

PROGRAM = f"""#!/bin/sh
shift 2
PYTHONPATH={REPOSITORY} exec {sys.executable} -m runtime.fake_vllm.server "$@"
"""


def environment(folder: Path) -> Path:
    """Write a program in the place of an interpreter with vLLM: it runs the fake server."""
    program = folder / "bin/python"
    program.parent.mkdir(parents=True)
    program.write_text(PROGRAM, encoding="utf-8")
    program.chmod(0o755)
    return program


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """The quickstart fleet on a host of engine `local`, with a device to spare."""
    made = Project.copy(tmp_path / "project", environment(tmp_path / "vllm-32"))
    with_gates(made)
    for path in (made.root / "golden").iterdir():
        golden(path, "")
    assert call(made, "gateway", "start").returncode == 0
    applied(made)
    yield made
    made.clean_up()


def runs(project: Project, server: str) -> str:
    record = project.root / f".fleetctl/servers/{server}/launch.json"
    return str(json.loads(record.read_text(encoding="utf-8"))["arguments"][0])


def test_another_interpreter_is_tried_on_a_canary_and_the_old_one_is_the_way_back(
    project: Project, tmp_path: Path
) -> None:
    old, new = (str(tmp_path / f"vllm-{number}/bin/python") for number in (32, 33))
    environment(tmp_path / "vllm-33")
    fleet = project.root / "fleet.yaml"
    text = fleet.read_text(encoding="utf-8")
    assert old in text
    fleet.write_text(text.replace(old, new), encoding="utf-8")
    with asked(project):
        plan = call(project, "plan").stdout
        assert f"^ tiny: python: {old} -> {new}" in plan
        assert f"canary {CANARY} starts beside {OLD}" in plan
        applied(project)
        assert (runs(project, OLD), runs(project, CANARY)) == (old, new)
        done = call(project, "reconcile", "--once")
        assert done.returncode == 0, done.stderr
        assert {*map(frozenset, servers(project).values())} == {frozenset({CANARY})}
        fleet.write_text(text, encoding="utf-8")
        assert "clients were served so before" in call(project, "plan").stdout
        applied(project)
        assert {*map(frozenset, servers(project).values())} == {frozenset({OLD})}
