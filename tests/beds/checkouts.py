"""Checkouts of a fleet on two boxes, with the fake server in place of vLLM."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.beds.boxes import BoxBed
from tests.beds.engine_bench import CLEAN, FAKE, UNITS
from tests.fleetctl.project_on_disk import Project

BOXES = ("box1", "box2")
HOST = """  {name}:
    engine: ssh
    address: {name}
    python: fake/bin/python
    devices:
      cpu0: {{kind: cpu, memory: 6GiB, price_per_hour: 0}}
"""
OTHERS = "fleetctl-others-{box}-cpu0.service"
OTHERS_UNIT = "[Service]\\nEnvironment=FLEETCTL_FLEET=others\\nExecStart=/bin/sleep infinity\\n"


def wrap_ssh(bed: BoxBed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every command find the boxes by the bed's configuration of ssh, with its own sockets."""
    programs, sockets = tmp_path / "bin", bed.sockets / "r"
    programs.mkdir()
    wrapper = f'#!/bin/sh\nexec /usr/bin/ssh -F "{bed.folder}/ssh_config" "$@"\n'
    (programs / "ssh").write_text(wrapper, encoding="utf-8")
    (programs / "ssh").chmod(0o755)
    sockets.mkdir(mode=0o700)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(sockets))


@pytest.fixture
def checkout(bed: BoxBed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """A checkout that has applied nothing; servers of another fleet live through the test."""
    wrap_ssh(bed, tmp_path, monkeypatch)
    made = Project(Project.copy(tmp_path / "first", None).root, ())
    file = made.root / "fleet.yaml"
    text = file.read_text(encoding="utf-8")
    begin, end = text.index("  laptop:"), text.index("\ngateways:")
    hosts = "".join(HOST.format(name=name) for name in BOXES)
    text = text[:begin] + hosts + text[end:]
    text = text.replace("retrain_every: 30d}", "retrain_every: 30d, replicas: 2, spread: host}")
    file.write_text(text, encoding="utf-8")
    before = {}
    for box in BOXES:
        unit = OTHERS.format(box=box)
        start = f"cd; mkdir -p {UNITS}; printf '{OTHERS_UNIT}' >{UNITS}/{unit}"
        bed.do("ssh", box, f"{CLEAN}cd; {FAKE}{start}; systemctl --user daemon-reload")
        bed.do("ssh", box, f"systemctl --user start {unit}")
        before[box] = process(bed, box, unit)
    yield made
    try:
        assert before == {box: process(bed, box, OTHERS.format(box=box)) for box in BOXES}
    finally:
        for box in BOXES:
            bed.do("ssh", box, CLEAN)


def process(bed: BoxBed, box: str, unit: str) -> str:
    """Return the process of a unit, its start, and how often systemd started it again."""
    shown = "--property=MainPID,InvocationID,NRestarts,ActiveState"
    return bed.do("ssh", box, f"systemctl --user show {shown} {unit}")


def servers_of(bed: BoxBed) -> dict[str, str]:
    """Return the processes of this fleet's servers, by unit."""
    found = {}
    for box in BOXES:
        for unit in bed.do("ssh", box, f"cd {UNITS} && ls fleetctl-*.service").split():
            if unit != OTHERS.format(box=box):
                found[unit] = process(bed, box, unit)
    return found


def second(first: Project) -> Project:
    """Return a second checkout of the same declarations and keys, with a state of its own."""
    folder = first.root.with_name("second")
    shutil.copytree(first.root, folder)
    return Project(folder, ())


@contextmanager
def applying(project: Project) -> Iterator["subprocess.Popen[str]"]:
    """An apply that runs meanwhile."""
    with subprocess.Popen(
        project.command("apply", "--auto", "--yes"),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as running:  # fmt: skip
        try:
            yield running
        finally:
            running.kill()


def converges(project: Project) -> None:
    """Apply, and see that nothing is left to do."""
    done = project.run("apply", "--auto", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert no_changes(project)


def no_changes(project: Project) -> bool:
    """Say whether a plan has no changes."""
    return project.run("plan", "--detailed-exitcode").returncode == 0
