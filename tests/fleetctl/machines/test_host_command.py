"""`host check` and `host prepare` on hosts that are not to be reached; real ones: tests/beds."""

from pathlib import Path

import pytest

from tests.fleetctl.in_process import call
from tests.fleetctl.program.test_completion import completed
from tests.fleetctl.project_on_disk import Project

FLEET = """fleet: boxes
hosts:
  here: {engine: local, python: python3, devices: {cpu0: {kind: cpu, memory: 8GiB}}}
  box1: {engine: ssh, address: fleet@192.0.2.1, devices: {cpu0: {kind: cpu, memory: 8GiB}}}
"""


@pytest.fixture
def boxes(tmp_path: Path) -> Project:
    (tmp_path / "fleet.yaml").write_text(FLEET, encoding="utf-8")
    return Project(tmp_path, ())


@pytest.mark.parametrize("words", [("check",), ("prepare",), ("prepare", "--dry-run")])
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("bx1", "[FC1205]\n\n`bx1` is not declared. Did you mean `box1`?"),
        ("here", "`here` has engine `local`, which is not reached by SSH. Hosts of engine `ssh`:"),
        ("box1", "fleetctl trust add ssh://192.0.2.1:22"),
    ],
)
def test_a_host_that_is_not_to_be_reached_is_an_error(
    boxes: Project, words: tuple[str, ...], name: str, said: str
) -> None:
    done = call(boxes, "host", words[0], name, *words[1:])
    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr


def test_hosts_that_are_reached_by_ssh_complete(boxes: Project) -> None:
    assert completed(boxes.root, "host", "check", "") == ["box1"]
    assert completed(boxes.root, "host", "prepare", "x") == []
    (boxes.root / "fleet.yaml").write_text("hosts: [", encoding="utf-8")
    assert completed(boxes.root, "host", "check", "") == []
