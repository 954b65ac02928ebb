"""What a client asked is asked of both versions on a real vLLM before one of its requests is."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import QUICKSTART, Project
from tests.fleetctl.rollouts.test_rollout_commands import ask, declare, shares
from tests.fleetctl.versions.test_replay_gate import captured, declare_form, with_replays

pytestmark = [pytest.mark.live, pytest.mark.long]
REQUESTS = 60
FORM = "queue=[a-z]+ priority=P[1-4]"


@pytest.fixture
def project(tmp_path: Path, vllm_python: Path) -> Iterator[Project]:
    made = with_replays(tmp_path / "project", vllm_python)
    declare_form(made, FORM)
    yield made
    made.clean_up()


def judged(project: Project) -> str:
    assert call(project, "apply", "--auto", "--yes").returncode == 0
    return call(project, "reconcile", "--once").stderr


def test_a_sound_version_gets_traffic_and_one_that_breaks_the_form_none(project: Project) -> None:
    assert call(project, "apply", "--auto", "--yes").returncode == 0
    lines = (QUICKSTART / "golden/support.jsonl").read_text(encoding="utf-8").splitlines()
    for at, line in enumerate(lines[:REQUESTS]):
        ask(project, json.loads(line)["input"], user=f"user-{at}")
    captured(project, REQUESTS)
    declare(project, "2.1.0", "2.4.0")
    said = judged(project)
    assert "FAIL replays of acme-support-tiny-v2.4.0 at 0 %" in said, said
    assert shares(project) == {"2.4.0": 0, "2.1.0": 100}
    declare(project, "2.4.0", "2.2.0")
    said = judged(project)
    assert "PASS replays of acme-support-tiny-v2.2.0 at 0 %" in said, said
    assert shares(project) == {"2.4.0": 0, "2.2.0": 50, "2.1.0": 50}
    verified = call(project, "evidence", "verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr
