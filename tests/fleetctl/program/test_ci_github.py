"""The workflows of `scaffold ci github`, run step by step against the fake fleet and a forge."""

import hashlib
import json
import os
import shutil
import sys
import zipfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.fleetctl.github import BOT, FOREIGN, OWN, GitHub, github
from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import Project, applied
from tests.fleetctl.workflows import Job, Runner, defaults, run_steps

pytestmark = pytest.mark.needs("curl", "jq")

PARTS = ("plan", "apply", "watch")
INSTALL, VALIDATE, SCAN = (
    "Install fleetctl",
    "Validate",
    "List problems for code scanning",
)
KEPT = ("PATH", "HOME", "FLEETCTL_RUN_DIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME")


@dataclass
class Stage:
    """A repository with an applied fleet in it, its forge, and what ran so far."""

    project: Project
    forge: GitHub
    environment: dict[str, str]
    folder: Path
    executed: set[tuple[str, str]] = field(default_factory=set)

    def workflow(self, part: str) -> Path:
        folder = self.project.root.parent / ".github" / "workflows"
        return folder / f"fleetctl-production-{part}.yml"

    def runner(self, checkout: Path) -> Runner:
        temporary = self.folder / "temporary"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        return Runner(checkout, temporary, self.forge, self.environment, self.executed)

    def on_machine(self, part: str, job: str, **values: str) -> Job:
        """Run a job on the machine of the fleet, or one that needs no checkout."""
        known = {name.replace("__", "."): value for name, value in values.items()}
        environment = {**defaults(self.forge), "GITHUB_EVENT_NAME": "push"}
        runner = self.runner(self.project.root.parent)
        return runner.run(self.workflow(part), job, known, environment)

    def plan(self, checkout: Path, *, fork: bool = False, leave: Collection[str] = ()) -> Job:
        """Run the workflow of a pull request."""
        event = self.folder / "event.json"
        head = {"repo": {"id": FOREIGN if fork else OWN}}
        event.write_text(
            json.dumps({"pull_request": {"head": head, "base": {"repo": {"id": OWN}}}})
        )
        environment = {
            **defaults(self.forge),
            "GITHUB_EVENT_NAME": "pull_request",
            "GITHUB_EVENT_PATH": str(event),
            "GITHUB_BASE_REF": "main",
            "FLEETCTL": self.environment["FLEETCTL"],
        }
        runner = self.runner(checkout)
        environment["RUNNER_TEMP"] = str(runner.temporary)
        number = {"github.event.number": "7"}
        file = self.workflow("plan")
        return runner.run(file, "plan", number, environment, fork=fork, leave=leave)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("repository")
    with github() as served:
        for project in applied(folder):
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(folder)
                inside = Project(Path("project"), project.options)
                done = call(inside, "scaffold", "ci", "github", "--name", "production")
            assert done.returncode == 0, done.stderr
            elsewhere = tmp_path_factory.mktemp("elsewhere")
            environment = {name: os.environ[name] for name in KEPT if name in os.environ}
            bin_folder = Path(sys.executable).parent
            environment["PATH"] = f"{bin_folder}{os.pathsep}{environment['PATH']}"
            environment["RUNNER_TEMP"] = str(elsewhere / "temporary")
            environment["PIP_NO_INDEX"] = environment["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
            digest = hashlib.sha256((built := wheel(elsewhere)).read_bytes()).hexdigest()
            environment["FLEETCTL"] = f"{built.as_uri()}#sha256={digest}"  # written by the operator
            ignored = shutil.ignore_patterns(".fleetctl")
            shutil.copytree(folder, elsewhere / "main", ignore=ignored)
            yield Stage(project, served, environment, elsewhere)


def wheel(folder: Path) -> Path:
    """Write a wheel that stands for the release: its program is the one of this checkout."""
    from fleet import __version__  # noqa: PLC0415 (the version that the files name)

    path = folder / f"fleetctl-{__version__}-py3-none-any.whl"
    info = f"fleetctl-{__version__}.dist-info"
    files = {
        f"fleetctl-{__version__}.data/scripts/fleetctl": (
            f'#!/bin/sh\nexec {sys.executable} -m fleetctl "$@"\n'
        ),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: fleetctl\nVersion: {__version__}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
        archive.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in files))
    return path


@pytest.fixture
def branch(stage: Stage, tmp_path: Path) -> Path:
    """A checkout of a pull request that gives acme's support a new version."""
    checkout = shutil.copytree(stage.folder / "main", tmp_path / "checkout")
    declare(checkout / "project", "2.1.0", "2.2.0")
    return checkout


def declare(root: Path, old: str, new: str) -> None:
    path = root / "clients" / "acme.yaml"
    text = path.read_text(encoding="utf-8")
    assert f'version: "{old}"' in text
    path.write_text(text.replace(f'version: "{old}"', f'version: "{new}"'), encoding="utf-8")


def test_the_life_of_a_pull_request(stage: Stage, branch: Path) -> None:
    """Live state, plan, one comment, apply of exactly that plan, drift with issues."""
    forge, project = stage.forge, stage.project

    # The machine of the fleet publishes the live state; a live state of other origin is refused.
    assert stage.on_machine("watch", "reconcile").is_green
    forged = stage.folder / "live.json"
    forged.write_text("forged")
    for head, of in ((FOREIGN, "main"), (OWN, "other")):
        forge.keep("fleetctl-production-live", forged, of, head)

    # A pull request gets one comment, with the id of the plan that the machine itself would make.
    job = stage.plan(branch)
    assert job.is_green, job.printed
    (comment,) = forge.comments
    plan = json.loads((branch / "plan.json").read_text(encoding="utf-8"))["plan_id"]
    assert comment["body"].startswith(f"<!-- fleetctl:production plan={plan} -->\n")
    assert "acme" in comment["body"]
    assert job.summary in comment["body"]
    same = ("Fetch the live state", "Plan", INSTALL, VALIDATE, SCAN)
    assert stage.plan(branch, leave=same).is_green
    assert len(forge.comments) == 1
    assert forge.changed[-1] == "PATCH"
    assert forge.sarif["fleetctl-production"]["version"] == "2.1.0"
    assert "fleetctl-production-plan" in [kept["name"] for kept in forge.artifacts]

    # A fork's plan is the same, without a comment, and with rights to read alone.
    calls = len(forge.changed)
    fork = stage.plan(branch, fork=True, leave=(INSTALL, VALIDATE))
    assert fork.is_green, fork.printed
    assert (fork.summary, len(forge.changed)) == (job.summary, calls)

    # What is merged is found again by the comment of the bot, and applied.
    forge.pulls = [{"number": 7}]
    forged_comment = "<!-- fleetctl:production plan=0123456789abcdef -->"
    forge.comments.insert(0, {**comment, "user": {"login": "mallory"}, "body": forged_comment})
    found = stage.on_machine("apply", "reviewed", inputs__plan_id="")
    assert found.outputs == {"plan_id": plan, "number": "7"}
    forge.comments.pop(0)
    declare(project.root, "2.1.0", "2.2.0")

    # Another id: exit code 5, nothing is done, and the pull request says so.
    before = (project.root / ".fleetctl" / "ledger.jsonl").read_bytes()
    other = "0123456789abcdef"
    refused = stage.on_machine("apply", "apply", needs__reviewed__outputs__plan_id=other)
    assert refused.codes["Apply the reviewed plan"] == 5, refused.printed
    assert f"Plan {other} was reviewed, and planning now gives plan {plan}" in refused.printed
    assert plan in refused.summary
    assert (project.root / ".fleetctl" / "ledger.jsonl").read_bytes() == before
    assert stage.on_machine("apply", "tell", needs__reviewed__outputs__number="7").is_green
    assert forge.comments[-1]["body"].startswith("The plan of `production` was not carried out")

    done = stage.on_machine("apply", "apply", needs__reviewed__outputs__plan_id=plan)
    assert done.is_green, done.printed
    assert "2.2.0 10 %" in call(project, "status", "--client", "acme").stdout

    # The last hash of the ledger is published, and the ledger is shown to have the hash.
    published = done.outputs["head"]
    assert stage.on_machine("apply", "head", needs__apply__outputs__head=published).is_green
    (status,) = forge.statuses
    assert (status["context"], status["description"]) == (
        "fleetctl/production ledger", f"last hash {published}",
    )  # fmt: skip
    assert call(project, "evidence", "verify", "--head", published).returncode == 0
    nothing = call(project, "apply", "--plan-id", "", "--yes")  # as a push without a pull request
    assert (nothing.returncode, "Nothing to do" in nothing.stderr) == (0, True), nothing.stderr


def test_an_issue_is_kept_for_every_cause_of_drift(stage: Stage) -> None:
    forge, project = stage.forge, stage.project
    project.kill_servers()
    drift = call(project, "drift", "--format", "issues")
    assert drift.returncode == 2
    kept = stage.folder / "issues.json"
    kept.write_text(drift.stdout)
    forge.keep("fleetctl-production-issues", kept)
    for _ in range(2):
        assert stage.on_machine("watch", "issues").is_green
    (issue,) = forge.issues
    (cause,) = json.loads(drift.stdout)
    assert (issue["title"], issue["body"]) == (cause["title"], cause["body"])
    assert issue["title"] == "Outage: server/tiny-laptop-cpu0"
    assert issue["labels"] == ["drift:production"]
    assert "Helps: `fleetctl --env fake reconcile --once`" in issue["body"]

    # The round repairs the cause, and its issue is closed.
    job = stage.on_machine("watch", "reconcile")
    assert job.is_green, job.printed
    assert stage.on_machine("watch", "issues").is_green
    assert forge.open_issues() == []
    assert forge.sarif["fleetctl-production-drift"]["runs"][0]["results"] == []


def test_a_broken_pull_request_has_a_comment_with_the_reasons(stage: Stage, branch: Path) -> None:
    stage.forge.comments.clear()
    path = branch / "project" / "clients" / "acme.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("tier: premium", "tier: premum"))
    job = stage.plan(branch, leave=(INSTALL,))
    assert {name for name, code in job.codes.items() if code} == {"Validate", "Plan"}
    (comment,) = stage.forge.comments
    assert (comment["user"]["login"], "No plan" in comment["body"]) == (BOT, True)
    assert comment["body"].startswith("<!-- fleetctl:production plan= -->\n")
    assert "::error file=project/clients/acme.yaml,line=3" in job.printed
    (result,) = stage.forge.sarif["fleetctl-production"]["runs"][0]["results"]
    (where,) = result["locations"]
    assert where["physicalLocation"]["artifactLocation"]["uri"] == "project/clients/acme.yaml"


def test_without_a_published_state_all_counts_as_unknown(stage: Stage, branch: Path) -> None:
    stage.forge.artifacts.clear()
    job = stage.plan(branch, leave=(INSTALL, VALIDATE, SCAN))
    assert job.is_green, job.printed
    assert "::notice::No live state is published yet" in job.printed
    assert "Not known" in job.summary


def test_each_run_step_was_executed(stage: Stage) -> None:
    declared = set[tuple[str, str]]().union(*(run_steps(stage.workflow(part)) for part in PARTS))
    assert stage.executed == declared
