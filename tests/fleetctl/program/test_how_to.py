"""The pages on single tasks show what their commands print, on the quickstart fleet."""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import QUICKSTART, REPOSITORY, Project
from tests.fleetctl.versions.test_retrain_commands import SCRIPT
from tests.other_bytes import other
from tests.ports import free_port
from tests.transcripts import InProcess, held

GATES = "\ngates:\n  errors: {metric: error_rate_rise, max: 1pp}\n"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """The quickstart fleet with servers of the engine `fake`, its gateway running; not applied."""
    made = replace(Project.copy(tmp_path / "project", None), options=())
    edit(made, "fleet.yaml", "engine: local", "engine: fake")
    edit(made, "fleet.yaml", "gates: []}\n", f"gates: [errors]}}\n{GATES}")
    monkeypatch.chdir(made.root)
    monkeypatch.setenv("GITHUB_ACTOR", "ana")
    assert call(made, "gateway", "start").returncode == 0
    yield made
    made.clean_up()


def edit(project: Project, name: str, old: str, new: str) -> None:
    path = project.root / name
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def applied(project: Project) -> None:
    done = call(project, "apply", "--auto", "--yes")
    assert done.returncode == 0, done.stderr


def new_version(project: Project) -> None:
    edit(project, "clients/acme.yaml", '"2.1.0"', '"2.2.0"')
    applied(project)


def with_an_adapter(project: Project) -> None:
    """Write the folder of an adapter without a client, beside the project."""
    source = QUICKSTART / "models/adapters/delta/orders-v3.0.0"
    other(source, project.root.parent / "trained" / "harbour")


def with_a_rollout_that_waits(project: Project) -> None:
    """Let a rollout wait for a person: its version gets no requests."""
    edit(
        project,
        "fleet.yaml",
        "bake: 24h, retain: 7d",
        "bake: 1s, max_bake: 1s",
    )
    applied(project)
    new_version(project)
    for _ in range(100):
        call(project, "reconcile", "--once")
        told = call(project, "rollout", "status", "acme-support").stdout
        if "undecided" in told and "INCONCLUSIVE" in told:
            return
    pytest.fail("the rollout waits for nobody")


def with_training(project: Project) -> None:
    """Declare a training command that changes the last bytes of the version that serves."""
    script = SCRIPT.replace("sys.argv[1:]", '*sys.argv[1:], "work"')
    (project.root / "train.py").write_text(script, encoding="utf-8")
    path = project.root / "fleet.yaml"
    command = '  retrain: [python3, train.py, "{current}", "{version}", "{folder}"]'
    path.write_text(
        re.sub(r"(?m)^  retrain: .*$", command, path.read_text("utf-8")), encoding="utf-8"
    )


def with_a_lost_box(project: Project) -> None:
    """Apply the fleet on the first of two boxes, and end its server as a lost box does."""
    path = project.root / "fleet.yaml"
    devices = "devices: {cpu0: {kind: cpu, memory: 6GiB, price_per_hour: 0}}"
    boxes = "".join(
        f"  {name}: {{engine: fake, port: {free_port()}, {devices}}}\n" for name in ("box1", "box2")
    )
    text = re.sub(r"(?ms)^hosts:\n.*?\n\n", f"hosts:\n{boxes}\n", path.read_text("utf-8"))
    path.write_text(text, encoding="utf-8")
    applied(project)
    project.kill_servers()


STAGES: dict[str, tuple[Callable[[Project], None], ...]] = {
    "adding-a-client": (applied, with_an_adapter),
    "rollout-that-waits": (with_a_rollout_that_waits,),
    "rollback": (applied, new_version),
    "lost-box": (with_a_lost_box,),
    "retraining": (with_training, applied),
}
"""Pages with what has happened before."""


@pytest.mark.parametrize("page", STAGES)
def test_the_page_shows_what_its_commands_print(page: str, project: Project) -> None:
    for prepare in STAGES[page]:
        prepare(project)
    declared = (project.root / "fleet.yaml").read_text(encoding="utf-8")
    ports = dict(zip(("8100", "8200"), re.findall(r"port: (\d+)", declared), strict=False))
    held(REPOSITORY / "docs" / f"{page}.md", InProcess(project.root, os.environ, ports))
