"""A box that is off leaves the declarations: clients are answered by the copies that are left."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fleetctl.in_process import call
from tests.fleetctl.machines.test_removed_hosts import CLOSED, running
from tests.fleetctl.project_on_disk import Project
from tests.fleetctl.rollouts.test_rollout_commands import ask
from tests.ports import free_port

BOX = "  {name}: {{engine: fake, devices: {{cpu0: {{kind: cpu, memory: 6GiB, port: {port}}}}}}}\n"


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """The quickstart fleet on `metal1` and `metal2`, two replicas of one client; one is off."""
    made = Project.copy(tmp_path / "project", None)
    hosts, acme = made.root / "env/fake.yaml", made.root / "clients/acme.yaml"
    boxes = {name: BOX.format(name=name, port=free_port()) for name in ("metal1", "metal2")}
    hosts.write_text("hosts:\n" + CLOSED + "".join(boxes.values()))
    text = acme.read_text()
    acme.write_text(text.replace("        latency:", "        replicas: 2\n        latency:"))
    assert call(made, "gateway", "start").returncode == 0
    done = call(made, "apply", "--auto", "--yes")
    assert done.returncode == 0, done.stderr
    off = running(made)["tiny-metal1-cpu0"]
    os.kill(off, signal.SIGSTOP)
    try:
        acme.write_text(text)
        hosts.write_text("hosts:\n" + CLOSED + boxes["metal2"])
        yield made
    finally:
        os.kill(off, signal.SIGCONT)
        hosts.write_text("hosts:\n" + CLOSED + "".join(boxes.values()))
        made.clean_up()


def test_the_plan_of_its_removal_takes_no_copy_that_answers_and_moves_the_rest(
    project: Project,
) -> None:
    """It unloaded the healthy copies, and the premium client got 503 from then on."""
    shown = call(project, "plan")
    assert shown.returncode == 0, shown.stderr
    text = shown.stdout
    assert "1.0.0 on tiny-metal1-cpu0, tiny-metal2-cpu0 -> tiny-metal2-cpu0" in text
    assert not [word for word in ("- unload", "- stop", "-/+ ", "decision") if word in text], text
    done = call(project, "apply", "--auto", "--yes")
    assert done.returncode in (0, 4), done.stderr
    for number in range(5):
        assert ask(project, f"question {number}")
