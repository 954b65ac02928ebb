"""One client's slip, in a file or in what fits, keeps nobody else waiting."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import REPOSITORY, Project


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The quickstart fleet, applied, with a rollout that bakes for a moment."""
    made = Project.copy(tmp_path_factory.mktemp("fleet") / "project", None)
    fleet = made.root / "fleet.yaml"
    text = fleet.read_text("utf-8")
    assert "bake: 24h, retain: 7d" in text
    fleet.write_text(text.replace("bake: 24h, retain: 7d", "bake: 1s, retain: 7d"), "utf-8")
    done = call(made, "apply", "--auto", "--yes")
    assert done.returncode == 0, done.stderr
    yield made
    made.clean_up()


@pytest.fixture
def slip(project: Project) -> Iterator[None]:
    """A YAML error in the file of birch."""
    file = project.root / "clients" / "birch.yaml"
    before = file.read_text("utf-8")
    file.write_text(before + "\n  oops: [\n", "utf-8")
    yield
    file.write_text(before, "utf-8")


@pytest.mark.usefixtures("slip")
def test_a_single_round_heals_by_the_files_that_are_sound(project: Project) -> None:
    found = call(project, "drift")
    assert (found.returncode, "No drift" in found.stdout) == (1, True)
    project.kill_servers()
    found = call(project, "drift")
    assert (found.returncode, "Drift: 1 cause" in found.stdout) == (2, True)
    command = sys.executable, "-m", "fleetctl", "-C", str(project.root), *project.options, "status"
    seen = subprocess.run(command, stdout=-1, stderr=subprocess.STDOUT, text=True, check=False)
    assert seen.stdout.startswith("OUTAGE"), seen.stdout  # and the file below
    assert seen.stdout.index("OUTAGE") < seen.stdout.index("clients/birch.yaml:")
    done = call(project, "reconcile", "--once")
    assert done.returncode == 1
    assert "clients/birch.yaml:" in done.stderr
    assert "by the files that are sound, without clients/birch.yaml" in done.stderr
    assert "Heals server/" in done.stderr
    shown = call(project, "status", "--format", "json")
    status = json.loads(shown.stdout)
    assert (shown.returncode, "without clients/birch.yaml" in shown.stderr) == (1, True)
    assert "birch-units" in [row["alias"] for row in status["aliases"]]  # as the routes have it
    listed = call(project, "rollout", "list", "--all", "--format", "json")
    assert (listed.returncode, "without clients/birch.yaml" in listed.stderr) == (1, True)
    assert "acme-support" in [row["alias"] for row in json.loads(listed.stdout)]
    key = project.root / ".fleetctl" / "keys" / "acme-prod"
    secret = key.read_text("utf-8")
    key.unlink()
    made = call(project, "key", "create", "acme/prod", "--replace")
    assert (made.returncode, key.is_file()) == (0, True), made.stderr
    key.write_text(secret, "utf-8")
    assert call(project, "drift").returncode == 1


def test_a_loop_goes_by_what_was_valid_last(
    project: Project, request: pytest.FixtureRequest
) -> None:
    command = project.command("reconcile", "--interval", "1s")
    with subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True) as loop:
        try:
            heard(loop, "no rollout is due")
            request.getfixturevalue("slip")
            heard(loop, "by the declarations of ")
            project.kill_servers()
            heard(loop, "Heals server/")
            heard(loop, "by the declarations of ")
        finally:
            loop.send_signal(signal.SIGINT)
            loop.communicate()
    assert "oops" in (project.root / "clients" / "birch.yaml").read_text("utf-8")


def heard(loop: "subprocess.Popen[str]", text: str) -> None:
    """Read what a process says until it says this."""
    assert loop.stderr is not None
    said = []
    for line in loop.stderr:
        said.append(line)
        if text in line:
            return
    raise AssertionError("".join(said))


def test_what_has_no_place_is_left_out_and_the_others_roll_out(project: Project) -> None:
    acme = project.root / "clients" / "acme.yaml"
    text = acme.read_text("utf-8")
    acme.write_text(text.replace('version: "2.1.0"', 'version: "2.2.0"'), "utf-8")
    assert call(project, "apply", "--auto", "--yes").returncode == 0
    birch = project.root / "clients" / "birch.yaml"
    before = birch.read_text("utf-8")
    birch.write_text(before.replace("base: tiny", "base: tiny\n        replicas: 9", 1), "utf-8")
    while True:
        done = call(project, "reconcile", "--once")
        if "Moves on" in done.stderr:
            break
    assert done.returncode == 1
    assert "Left out, and stays as it is: birch-" in done.stderr
    assert "it wants 9 replicas on distinct devices" in done.stderr
    assert "Moves on: acme-support: 2.2.0 10 % -> 50 %" in done.stderr
    birch.write_text(before, "utf-8")
    assert call(project, "drift").returncode == 0
