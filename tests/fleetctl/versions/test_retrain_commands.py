"""retrain list, claim, release and run on the fake server; the training is a small script."""

import asyncio
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fleet.errors import FleetError, problem
from fleet.history.values import Claim
from runtime.training import prolonged
from tests.fleetctl.in_process import Done, call
from tests.fleetctl.project_on_disk import Project

SCRIPT = """\
import pathlib, sys, time
current, version, folder, mode = sys.argv[1:]
source = pathlib.Path(f"models/adapters/acme/triage-v{current}")
print("training", version)
if mode == "bar":
    for at in range(3000):
        sys.stderr.write(f"\\r{at}/3000 [{'#' * 40}]")
if mode == "slow":
    print("waits", flush=True)
    pathlib.Path("begun").touch()
    while pathlib.Path("begun").exists():
        time.sleep(0.01)
if mode == "fail":
    sys.exit(3)
if mode == "nothing":
    sys.exit(0)
for name in ("adapter_config.json", "adapter_model.safetensors"):
    content = bytearray((source / name).read_bytes())
    if name.endswith("safetensors"):
        content[-4] = (content[-4] + 1) % 256  # other weights, each time
    (pathlib.Path(folder) / name).write_bytes(content)
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    made = Project.copy(tmp_path_factory.mktemp("fleet") / "project", None)
    (made.root / "train.py").write_text(SCRIPT, encoding="utf-8")
    command(made, "work")
    yield made
    made.clean_up()


def command(project: Project, mode: str) -> None:
    path = project.root / "fleet.yaml"
    lines = [each for each in path.read_text("utf-8").splitlines() if "retrain: [" not in each]
    asked = [sys.executable, "train.py", "{current}", "{version}", "{folder}", mode]
    at = lines.index("defaults:") + 1
    lines.insert(at, f"  retrain: {json.dumps(asked)}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def as_somebody(project: Project, *arguments: str) -> Done:
    return call(project, *arguments, actor="somebody")


def test_two_people_cannot_retrain_the_same_adapter_unnoticed(project: Project) -> None:
    claimed = call(
        project, "retrain", "claim", "fjord-reviews", "--reason", "new data", "--for", "3d"
    )
    assert claimed.returncode == 0, claimed.stderr
    for arguments in (
        ("claim", "fjord-reviews", "--reason", "me too"),
        ("run", "fjord-reviews"),
        ("release", "fjord-reviews", "--reason", "mine now"),
    ):
        refused = as_somebody(project, "retrain", *arguments)
        assert refused.returncode == 1
        assert "FC6710" in refused.stderr
        assert "until" in refused.stderr
        assert "new data" in refused.stderr
    listed = json.loads(call(project, "retrain", "list", "--due", "--format", "json").stdout)
    [row] = [each for each in listed if each["alias"] == "fjord-reviews"]
    assert (row["turn"], row["claim"]["reason"]) == ("ad hoc", "new data")
    forced = as_somebody(
        project, "retrain", "release", "fjord-reviews", "--force", "--reason", "she is on leave"
    )
    assert forced.returncode == 0
    assert "fjord-reviews is free again; it was me's." in forced.stderr
    nobody = call(project, "retrain", "release", "fjord-review", "--reason", "x")
    assert (nobody.returncode, "Did you mean `fjord-reviews`?" in nobody.stderr) == (1, True)
    free = call(project, "retrain", "release", "fjord-reviews", "--reason", "x", "--format", "json")
    assert json.loads(free.stdout) == {"alias": "fjord-reviews", "released": None}
    assert as_somebody(
        project, "retrain", "claim", "fjord-reviews", "--reason", "mine"
    ).returncode == 0  # fmt: skip
    history = call(project, "history", "fjord-reviews").stdout
    assert "claimed fjord-reviews for retraining: mine" in history


@pytest.mark.parametrize(
    ("mode", "says"),
    [("fail", "exit code 3"), ("nothing", "left no `adapter_config.json`")],
)
def test_a_training_that_fails_adds_nothing_and_is_run_again(
    project: Project, mode: str, says: str
) -> None:
    before = (project.root / "fleet.lock").read_bytes()
    command(project, mode)
    done = call(project, "retrain", "run", "acme-triage")
    assert done.returncode == 1
    assert "FC6712" in done.stderr
    assert says in " ".join(
        done.stderr.split()
    )  # lines end where the path of the project lets them
    assert (project.root / "fleet.lock").read_bytes() == before
    command(project, "work")


def test_a_retrained_version_is_added_declared_and_planned(project: Project) -> None:
    before = (project.root / "clients" / "acme.yaml").read_text("utf-8")
    done = call(project, "retrain", "run", "acme-triage", "--format", "json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["adapter"] == "acme-triage-tiny-v1.0.1"
    assert told["declared_in"] == "clients/acme.yaml"
    assert "training 1.0.1" in done.stderr
    after = (project.root / "clients" / "acme.yaml").read_text("utf-8")
    assert after == before.replace('version: "1.0.0"', 'version: "1.0.1"')
    assert "acme-triage-tiny-v1.0.1" in (project.root / "fleet.lock").read_text("utf-8")
    assert "acme-triage-tiny-v1.0.1" in call(project, "plan").stdout
    rows = json.loads(call(project, "retrain", "list", "--format", "json").stdout)
    [row] = [each for each in rows if each["alias"] == "acme-triage"]
    assert (row["turn"], row["claim"]) == ("fresh", None)
    again = call(project, "retrain", "run", "acme-triage", "--version", "1.0.1")
    assert "FC6714" in again.stderr


def test_a_training_that_was_interrupted_after_the_library_is_not_done_twice(
    project: Project,
) -> None:
    ledger = project.root / ".fleetctl" / "ledger.jsonl"
    assert call(project, "retrain", "run", "acme-triage", "--no-declare").returncode == 0
    lines = ledger.read_bytes().splitlines(keepends=True)
    ended = next(at for at in range(len(lines) - 1, 0, -1) if b'"retrain_finished"' in lines[at])
    ledger.write_bytes(b"".join(lines[:ended]))  # as if it had died here
    done = call(project, "retrain", "run", "acme-triage", "--format", "json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["adapter"] == "acme-triage-tiny-v1.0.2"
    assert "training 1.0.2" not in done.stderr
    told = call(project, "retrain", "run", "acme-triage", "--format", "json", "--no-declare").stdout
    assert json.loads(told)["adapter"] == "acme-triage-tiny-v1.0.3"


def test_a_progress_bar_of_any_length_is_told_as_it_ended(project: Project) -> None:
    command(project, "bar")
    done = call(project, "retrain", "run", "acme-triage", "--no-declare")
    assert done.returncode == 0, done.stderr
    assert "2999/3000" in done.stderr
    assert "1500/3000" not in done.stderr
    command(project, "work")


def test_a_trainer_that_outlives_us_keeps_the_next_run_out_of_its_folder(project: Project) -> None:
    command(project, "slow")
    begun = project.root / "begun"
    run = project.command("retrain", "run", "acme-triage")
    ours = subprocess.Popen(run, stderr=subprocess.PIPE, env={**os.environ, "GITHUB_ACTOR": "me"})
    assert ours.stderr is not None
    while b"waits" not in ours.stderr.readline():
        assert ours.poll() is None
    ours.kill()
    ours.communicate()
    refused = call(project, "retrain", "run", "acme-triage", "--no-declare")
    assert (refused.returncode, "FC6715" in refused.stderr) == (1, True), refused.stderr
    (pid,) = re.findall(r"kill -- -(\d+)", refused.stderr)
    os.killpg(int(pid), signal.SIGKILL)
    begun.unlink(missing_ok=True)
    command(project, "work")
    with eventually_free(project.root / ".fleetctl/retrain/acme-triage.lock"):
        pass
    done = call(project, "retrain", "run", "acme-triage", "--no-declare")
    assert done.returncode == 0, done.stderr


def test_a_claim_is_prolonged_while_it_trains_whatever_stands_against_it() -> None:
    taken: list[int] = []

    def take() -> Claim:
        taken.append(1)
        if len(taken) < 3:
            raise FleetError(problem("FC6710", "Another person is retraining it", "It is claimed."))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(prolonged(take, 0))
    assert len(taken) == 3


@contextmanager
def eventually_free(lock: Path) -> Iterator[None]:
    """Wait until nobody holds a lock; the kernel frees it when the last holder has ended."""
    with lock.open("rb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def test_without_a_command_or_with_a_wrong_one_nothing_is_claimed(project: Project) -> None:
    path: Path = project.root / "fleet.yaml"
    text = path.read_text("utf-8")
    try:
        path.write_text(text.replace("{folder}", "{fodler}"), encoding="utf-8")
        assert "FC6711" in call(project, "retrain", "run", "globe-language").stderr
        lines = [each for each in text.splitlines() if "retrain: [" not in each]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        assert "FC6713" in call(project, "retrain", "run", "globe-language").stderr
        rows = json.loads(call(project, "retrain", "list", "--format", "json").stdout)
        assert {each["claim"] for each in rows if each["alias"] == "globe-language"} == {None}
    finally:
        path.write_text(text, encoding="utf-8")
    assert call(project, "retrain", "run", "nobody-there").returncode == 1
    assert call(project, "retrain", "claim", "globe-language", "--reason", "x", "--for", "soon"
                       ).returncode == 64  # fmt: skip


def test_what_another_checkout_trains_or_has_trained_is_not_trained_again(
    project: Project, tmp_path: Path
) -> None:
    kept = {
        name: (project.root / name).read_bytes() for name in ("fleet.lock", "clients/globe.yaml")
    }

    def elsewhere(name: str) -> Done:
        """Run it in a checkout with the same ledger, and the files of before."""
        other = Project(tmp_path / name, project.options)
        leave = shutil.ignore_patterns("retrain", "store", "*.sock")
        shutil.copytree(project.root, other.root, ignore=leave)
        for file, content in kept.items():
            (other.root / file).write_bytes(content)
        return call(other, "retrain", "run", "globe-language")

    command(project, "fail")
    assert call(project, "retrain", "run", "globe-language").returncode == 1
    refused = elsewhere("second")
    assert (refused.returncode, "FC6710" in refused.stderr) == (1, True), refused.stderr
    assert "is being trained by me in another checkout" in " ".join(refused.stderr.split())
    command(project, "work")
    done = call(project, "retrain", "run", "globe-language")
    assert done.returncode == 0, done.stderr
    refused = elsewhere("third")
    assert (refused.returncode, "FC6714" in refused.stderr) == (1, True), refused.stderr
    assert "was trained in another checkout" in " ".join(refused.stderr.split())
