"""A box that does not answer: its servers are unknown, and none is planned there."""

import asyncio
from pathlib import Path

import pytest

from fleet.hardware import DeviceSpec, HostSpec
from fleet.resources import State
from runtime.engine_registry import make_engine
from runtime.engines.protocol import HostSetup
from runtime.engines.remote.box import MEMORIES, BoxMemory
from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import Project
from tests.runtime.engines.remote.units import RECORD

BOX = """hosts:
  box1:
    engine: ssh
    address: box1
    devices:
      cpu0: {kind: cpu, memory: 6GiB, price_per_hour: 0}
"""
WHY = "`box1:22` is named by the declarations alone"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """The quickstart fleet with a box beside its laptop; the box is not trusted, so not reached."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    made = Project.copy(tmp_path / "project", None)
    file = made.root / "fleet.yaml"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("hosts:\n", BOX, 1), encoding="utf-8")
    return made


def test_a_box_that_was_never_reached_may_have_servers_and_none_is_planned(
    project: Project,
) -> None:
    shown = call(project, "plan")
    assert shown.returncode == 0, shown.stderr
    planned, unknown = shown.stdout.split("Not known here:")
    assert f"server/tiny-box1-cpu0: {WHY}" in unknown
    changes, held = planned.split("Changes:")[1].split("Held back:")
    assert held.count("`tiny-box1-cpu0` does not answer, and no other server of `tiny` has") == 8
    assert "server/" not in changes
    assert "key/acme/prod" in changes


def test_a_server_that_answers_takes_versions_beside_a_box_that_was_never_reached(
    project: Project,
) -> None:
    file = project.root / "fleet.yaml"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace(BOX, "hosts:\n"), encoding="utf-8")
    try:
        assert call(project, "apply", "--auto", "--yes").returncode == 0
        file.write_text(text, encoding="utf-8")
        shown = call(project, "plan")
        assert "24 resources are as declared." in shown.stdout
        assert f"server/tiny-box1-cpu0: {WHY}" in shown.stdout
    finally:
        project.clean_up()


def test_every_server_of_a_box_is_unknown_until_its_servers_were_seen(tmp_path: Path) -> None:
    devices = tuple(DeviceSpec(name, "rtx4090_24g", 24 << 30, 0, 8001) for name in ("gpu0", "gpu1"))
    host = HostSpec("box1", "ssh", devices, address="box1")

    async def observed() -> State:
        engine = make_engine(
            HostSetup(host, tmp_path, tmp_path, "agency", bases=("llama3", "qwen"))
        )
        try:
            return await engine.observe()
        finally:
            await engine.close()

    names = ["llama3-box1-gpu0", "llama3-box1-gpu1", "qwen-box1-gpu0", "qwen-box1-gpu1"]
    assert sorted(asyncio.run(observed()).unknown_servers) == names
    BoxMemory("/store", {RECORD.name: RECORD}).write(tmp_path / MEMORIES / "box1.json")
    seen = asyncio.run(observed())
    assert [*seen.unknown_servers] == [RECORD.name]
    assert seen.ports == {RECORD.name: RECORD.port}
    assert (seen.resources, len(seen.notes)) == ({}, 1)
