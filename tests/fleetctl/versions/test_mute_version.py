"""A version that answers nothing: its smoke test fails or is killed, and no user ever hears it."""

import hashlib
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fleetctl.change.test_apply_killed import begins
from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import Project
from tests.fleetctl.rollouts.test_rollout_commands import ask, declare

USERS = 12
SERVER = """#!{python}
import runpy
import sys

from runtime.fake_vllm import generation

usual = generation.answer


def answer(digest, prompt, max_tokens, *, ignore_eos):
    if digest == "{mute}":
        return [], "stop"
    return usual(digest, prompt, max_tokens, ignore_eos=ignore_eos)


generation.answer = answer
module, sys.argv = sys.argv[2], sys.argv[2:]
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""
"""The fake server as a program: the bytes of one version make it answer nothing, as a broken
adapter makes a model end its answer at once."""


def bytes_of(folder: Path) -> str:
    """Return the digest by which a fake server knows the bytes of a version."""
    files = ("adapter_config.json", "adapter_model.safetensors")
    return hashlib.sha256(b"".join((folder / name).read_bytes() for name in files)).hexdigest()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """The quickstart fleet with a gateway; `acme-support` 2.2.0 answers nothing on its server."""
    made = Project.copy(tmp_path / "project", None)
    fleet = made.root / "fleet.yaml"
    text = fleet.read_text(encoding="utf-8")
    assert "weights: [10%, 50%, 100%]" in text
    fleet.write_text(text.replace("weights: [10%, 50%, 100%]", "weights: [50%, 100%]"), "utf-8")
    mute = bytes_of(made.root / "models/adapters/acme/support-v2.2.0")
    program = tmp_path / "python-of-a-fake"
    program.write_text(SERVER.format(python=sys.executable, mute=mute), encoding="utf-8")
    program.chmod(0o755)
    assert call(made, "gateway", "start").returncode == 0
    with monkeypatch.context() as patched:
        patched.setattr(sys, "executable", str(program))
        assert call(made, "apply", "--auto", "--yes").returncode == 0
    yield made
    made.clean_up()


def empty_answers(project: Project) -> int:
    return sum(ask(project, f"question {n}", user=f"user-{n}") == "" for n in range(USERS))


def smoke_fails(project: Project) -> None:
    assert call(project, "apply", "--auto", "--yes").returncode == 4


def killed_before_the_smoke_test(project: Project) -> None:
    assert project.stop_during_apply(signal.SIGKILL, begins("smoke")) == -signal.SIGKILL


@pytest.mark.parametrize("first", [smoke_fails, killed_before_the_smoke_test])
def test_a_version_without_a_passed_smoke_test_answers_no_user_after_the_next_apply(
    first: Callable[[Project], None], project: Project
) -> None:
    """Red before: 7 of 12 users got an empty answer after the second apply, which exited 0."""
    assert empty_answers(project) == 0
    declare(project, "2.1.0", "2.2.0")
    first(project)
    assert empty_answers(project) == 0
    for _ in range(2):
        again = call(project, "apply", "--auto", "--yes")
        assert empty_answers(project) == 0
        assert again.returncode == 4
        assert "and answered nothing. No client" in again.stderr
