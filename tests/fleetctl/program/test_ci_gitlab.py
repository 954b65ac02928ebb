"""The jobs of `scaffold ci gitlab`, run line by line against the fake fleet and a stand-in."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.fleetctl.gitlab import BOT, GitLab, gitlab, jobs, run_job, variables
from tests.fleetctl.in_process import call
from tests.fleetctl.program.test_ci_github import KEPT, declare, wheel
from tests.fleetctl.project_on_disk import Project, applied

pytestmark = pytest.mark.needs("curl", "jq")


@dataclass
class Stage:
    """A project with an applied fleet in it, its forge, and the jobs that ran."""

    project: Project
    gitlab: GitLab
    environment: dict[str, str]
    main: Path
    """A checkout of the branch `main`, from before all tests."""
    executed: set[str] = field(default_factory=set)

    def run(self, job: str, checkout: Path, **more: str) -> "subprocess.CompletedProcess[str]":
        """Run a job in a checkout."""
        name = f"fleetctl-production-{job}"
        self.executed.add(name)
        file = self.project.root.parent / ".gitlab" / "fleetctl-production.yml"
        environment = {**variables(self.gitlab), **self.environment, **more}
        return run_job(jobs(file)[name], checkout, environment)

    def on_machine(self, job: str, **more: str) -> "subprocess.CompletedProcess[str]":
        """Run a job on the machine of the fleet."""
        return self.run(job, self.project.root.parent, **more)

    def plan(self, checkout: Path, **more: str) -> "subprocess.CompletedProcess[str]":
        """Run the job of a merge request."""
        request = {
            "CI_MERGE_REQUEST_PROJECT_ID": "1",
            "CI_MERGE_REQUEST_SOURCE_PROJECT_ID": "1",
            "CI_MERGE_REQUEST_IID": "7",
            "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "main",
        }
        return self.run("plan", checkout, **{**request, **more})


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("repository")
    with gitlab() as served:
        for project in applied(folder):
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(folder)
                inside = Project(Path("project"), project.options)
                done = call(inside, "scaffold", "ci", "gitlab", "--name", "production")
            assert done.returncode == 0, done.stderr
            elsewhere = tmp_path_factory.mktemp("elsewhere")
            packages = elsewhere / "bin" / "apt-get"  # Debian's, which the image has
            packages.parent.mkdir()
            packages.write_text("#!/bin/sh\n")
            packages.chmod(0o755)
            environment = {name: os.environ[name] for name in KEPT if name in os.environ}
            path = (str(packages.parent), str(Path(sys.executable).parent), environment["PATH"])
            environment["PATH"] = os.pathsep.join(path)
            environment["CI_BUILDS_DIR"] = str(elsewhere)
            environment["PIP_NO_INDEX"] = environment["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
            built = wheel(elsewhere)
            environment["PIP_FIND_LINKS"] = str(built.parent)
            digest = hashlib.sha256(built.read_bytes()).hexdigest()
            environment["FLEETCTL"] = f"{built.as_uri()}#sha256={digest}"  # written by the operator
            ignored = shutil.ignore_patterns(".fleetctl")
            main = shutil.copytree(folder, elsewhere / "main", ignore=ignored)
            yield Stage(project, served, environment, main)


@pytest.fixture
def branch(stage: Stage, tmp_path: Path) -> Path:
    """A checkout of a merge request that gives acme's support a new version."""
    checkout = shutil.copytree(stage.main, tmp_path / "checkout")
    declare(checkout / "project", "2.1.0", "2.2.0")
    return checkout


def test_the_life_of_a_merge_request(stage: Stage, branch: Path) -> None:
    """Live state, plan, one note, apply of exactly that plan, drift with issues."""
    served, project = stage.gitlab, stage.project
    gone = {"description": "<!-- fleetctl:drift fleet=quickstart cause=0 -->", "iid": 1}
    served.issues.append({**gone, "state": "opened", "labels": "drift:production"})

    # The fleet's machine publishes the live state; the issue of a cause that is gone is closed.
    done = stage.on_machine("watch")
    assert done.returncode == 0, done.stderr
    assert [issue["state"] for issue in served.issues] == ["closed"]
    top = project.root.parent
    served.published["fleetctl-production-watch"] = (top / "live.json").read_bytes()
    assert json.loads((top / "quality.json").read_text()) == []

    # A merge request gets one note, with the id of the plan that the machine itself would make.
    forged = {"body": "<!-- fleetctl:production plan=0123456789abcdef -->", "state": "opened"}
    served.notes.append({**forged, "id": 1, "author": {"id": 1}})
    done = stage.plan(branch)
    assert done.returncode == 0, done.stderr
    plan = json.loads((branch / "plan.json").read_text(encoding="utf-8"))["plan_id"]
    assert served.notes[1]["body"].startswith(f"<!-- fleetctl:production plan={plan} -->\n")
    counts = json.loads((branch / "tfplan.json").read_text(encoding="utf-8"))
    assert counts == {"create": 1, "update": 1, "delete": 0}
    shown = (branch / "plan.md").read_text(encoding="utf-8")
    assert served.notes[1]["body"].endswith(shown)

    # A fork's plan is the same, without a note.
    fork = stage.plan(branch, CI_MERGE_REQUEST_SOURCE_PROJECT_ID="2", FLEETCTL_TOKEN="")
    assert (fork.returncode, len(served.notes)) == (0, 2), fork.stderr
    assert (branch / "plan.md").read_text(encoding="utf-8") == shown

    # What is merged is found again by the note of the token's own user, and applied.
    served.requests = [{"iid": 7}]
    declare(project.root, "2.1.0", "2.2.0")
    refused = stage.on_machine("apply", PLAN_ID="0123456789abcdef")
    assert refused.returncode == 5
    assert f"planning now gives plan {plan}" in refused.stderr
    assert "](https://gitlab.example/jobs/1)" in served.notes[-1]["body"]
    done = stage.on_machine("apply", PLAN_ID="")
    assert done.returncode == 0, done.stderr
    assert "2.2.0 10 %" in call(project, "status", "--client", "acme").stdout
    head = served.notes[-1]["body"].split("`")[3]
    assert call(project, "evidence", "verify", "--head", head).returncode == 0
    assert len(head) == 64


def test_drift_is_an_issue_and_a_finding_at_its_line(stage: Stage) -> None:
    stage.project.kill_servers()
    done = stage.on_machine("watch")
    assert done.returncode == 0, done.stderr
    (issue,) = (issue for issue in stage.gitlab.issues if issue["state"] == "opened")
    assert issue["title"] == "Outage: server/tiny-laptop-cpu0"
    assert issue["author"] == {"id": BOT}
    findings = json.loads((stage.project.root.parent / "quality.json").read_text())
    lines = (stage.project.root / "fleet.yaml").read_text(encoding="utf-8").splitlines()
    (found,) = findings
    assert (found["check_name"], found["severity"]) == ("outage-server_down", "major")
    assert found["location"]["path"] == "project/fleet.yaml"
    assert "cpu0" in lines[found["location"]["lines"]["begin"] - 1]
    assert stage.on_machine("reconcile").returncode == 0


def test_a_broken_merge_request_has_a_note_with_the_reasons(stage: Stage, branch: Path) -> None:
    stage.gitlab.notes.clear()
    path = branch / "project" / "clients" / "acme.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("tier: premium", "tier: premum"))
    done = stage.plan(branch)
    assert done.returncode == 1
    assert "No plan" in stage.gitlab.notes[0]["body"]
    (found,) = json.loads((branch / "quality.json").read_text(encoding="utf-8"))
    assert found["location"] == {"path": "project/clients/acme.yaml", "lines": {"begin": 3}}
    assert not (branch / "tfplan.json").exists()


def test_each_job_was_run(stage: Stage) -> None:
    file = stage.project.root.parent / ".gitlab" / "fleetctl-production.yml"
    assert stage.executed == {*jobs(file)}
