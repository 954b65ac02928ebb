"""The files of `scaffold ci`: linted, valid by the published schemas, with least rights, and shown.

To rewrite `examples/ci`:
`UPDATE_CI=1 .venv/bin/python -m pytest tests/fleetctl/program/test_ci_files.py`.
"""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from plans.compile.ci import CI_FILES
from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import REPOSITORY, Project

EXAMPLES = REPOSITORY / "examples" / "ci"
BIN = Path(sys.executable).parent
WORKFLOWS = sorted(EXAMPLES.glob(".github/workflows/*.yml"))
PINNED = re.compile(r"[\w/-]+@[0-9a-f]{40}")
NAMES = [path.name for path in WORKFLOWS]


def written(folder: Path, forge: str, *arguments: str) -> dict[str, str]:
    """Return what `scaffold ci` writes into an empty folder."""
    folder.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        done = call(Project(Path(), ()), "scaffold", "ci", forge, *arguments)
    assert done.returncode == 0, done.stderr
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_text("utf-8") for path in files}


def test_the_examples_are_what_scaffold_writes(tmp_path: Path) -> None:
    made: dict[str, str] = {}
    for forge in CI_FILES:
        made |= written(tmp_path / forge, str(forge))
    if os.environ.get("UPDATE_CI"):
        for name, text in made.items():
            (EXAMPLES / name).parent.mkdir(parents=True, exist_ok=True)
            (EXAMPLES / name).write_text(text, encoding="utf-8")
    kept = {
        path.relative_to(EXAMPLES).as_posix(): path.read_text("utf-8")
        for path in EXAMPLES.rglob("*")
        if path.is_file() and path.name != "README.md"
    }
    assert kept == made


def test_actionlint_finds_nothing_in_the_workflows(tmp_path: Path) -> None:
    labels = tmp_path / "actionlint.yaml"
    labels.write_text("self-hosted-runner: {labels: [fleetctl]}\n")
    done = subprocess.run(
        [BIN / "actionlint", "-config-file", labels, *WORKFLOWS],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, len(WORKFLOWS)) == (0, "", 3)


def test_actionlint_would_find_text_of_strangers_in_a_step(tmp_path: Path) -> None:
    text = WORKFLOWS[0].read_text("utf-8").replace("$NAME", "${{ github.head_ref }}")
    path = tmp_path / "workflow.yml"
    path.write_text(text)
    done = subprocess.run([BIN / "actionlint", path], capture_output=True, text=True, check=False)
    assert done.returncode == 1


def test_the_workflows_keep_to_the_published_schema() -> None:
    check_schema("vendor.github-workflows", *WORKFLOWS)


def test_the_jobs_of_gitlab_keep_to_the_published_schema() -> None:
    check_schema("vendor.gitlab-ci", EXAMPLES / ".gitlab" / "fleetctl-production.yml")


def test_the_steps_of_atlantis_plan_and_apply_that_plan(tmp_path: Path) -> None:
    """Atlantis runs steps by `sh -c` in the project's folder, and sets PLANFILE."""
    document = yaml.safe_load((EXAMPLES / "atlantis.yaml").read_text("utf-8"))
    (project,) = document["projects"]
    stages = document["workflows"][project["workflow"]]
    assert (document["version"], project["dir"]) == (3, ".")
    made = Project(tmp_path, ())
    assert call(made, "scaffold", "fleet", str(tmp_path), "--engine", "fake").returncode == 0
    environment = {**os.environ, "PLANFILE": str(tmp_path / "production.tfplan")}
    environment["FLEETCTL_STATE_DIR"] = str(tmp_path / "state")
    environment["PATH"] = f"{BIN}{os.pathsep}{environment['PATH']}"
    steps = [step["run"] for stage in ("plan", "apply") for step in stages[stage]["steps"]]
    for step in steps:
        done = subprocess.run(
            ["sh", "-c", step], cwd=tmp_path, env=environment, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr


def check_schema(schema: str, *files: Path) -> None:
    """Check files by a schema that check-jsonschema carries: no network is used."""
    done = subprocess.run(
        [BIN / "check-jsonschema", "--builtin-schema", schema, *files],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", WORKFLOWS, ids=NAMES)
def test_a_workflow_asks_for_least_rights(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    workflow: dict[str, Any] = yaml.safe_load(text)
    assert workflow["permissions"] == {}
    assert "pull_request_target" not in text
    for job in workflow["jobs"].values():
        assert job["permissions"]
        # What writes to the forge runs elsewhere than what reaches the fleet.
        if "self-hosted" in job["runs-on"]:
            assert {*job["permissions"]} <= {"contents", "security-events"}
            assert job["environment"].startswith("production")
            assert job["concurrency"]["cancel-in-progress"] is False
        uses = [step["uses"] for step in job["steps"] if "uses" in step]
        assert all(PINNED.fullmatch(action) for action in uses)
        assert not any("${{" in step.get("run", "") for step in job["steps"])


def test_a_plan_sees_no_secret() -> None:
    (plan,) = (path for path in WORKFLOWS if path.name.endswith("-plan.yml"))
    text = plan.read_text(encoding="utf-8")
    assert "secrets." not in text
    assert "self-hosted" not in text
    assert "plan --offline" in text


def test_options_of_the_command_line_are_those_of_the_files(tmp_path: Path) -> None:
    project = Project(Path("agency"), ("--env", "prod"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        done = call(project, "scaffold", "ci", "github", "--branch", "release/next")
        assert done.returncode == 0, done.stderr
        again = call(project, "scaffold", "ci", "github")
        outside = call(Project(tmp_path, ()), "scaffold", "ci", "github")
        odd = call(project, "scaffold", "ci", "github", "--branch", "a b")
    assert (again.returncode, "never overwrites" in again.stderr) == (1, True)
    assert (outside.returncode, odd.returncode) == (64, 64)
    apply = yaml.safe_load(
        (tmp_path / ".github" / "workflows" / "fleetctl-prod-apply.yml").read_text("utf-8")
    )
    assert apply["env"] == {"OPTIONS": "-C agency --env prod", "NAME": "prod"}
    assert apply[True]["push"]["branches"] == ["release/next"]


@pytest.mark.parametrize(
    ("requirement", "index", "status"),
    [
        ("", "", 1),
        ("fleetctl==0.1.0", "", 1),
        ("https://x.example/fleetctl-0.1.0-py3-none-any.whl", "", 1),
        ("https://x.example/fleetctl-0.1.0-py3-none-any.whl#sha256=00", "", 0),
        ("fleetctl==0.1.0", "https://index.example/simple", 0),
    ],
)
@pytest.mark.parametrize(
    "file", [".github/workflows/fleetctl-production-plan.yml", ".gitlab/fleetctl-production.yml"]
)
def test_fleetctl_is_installed_by_hash_or_from_a_named_index(
    file: str, requirement: str, index: str, status: int
) -> None:
    """The files installed `fleetctl==0.1.0` from the public index, where the name may be taken."""
    text = (EXAMPLES / file).read_text("utf-8")
    assert 'FLEETCTL: ""' in text
    (refusal,) = (line for line in text.splitlines() if "esac" in line and "FLEETCTL" in line)
    (install,) = (line for line in text.splitlines() if "install --quiet" in line)
    install = install[install.index("${INDEX") :]
    script = f"set -eu\n{refusal}\nprintf '%s\\n' {install}"
    given = {"PATH": os.environ["PATH"], "FLEETCTL": requirement, "INDEX": index}
    done = subprocess.run(
        ["bash", "-c", script], env=given, capture_output=True, text=True, check=False
    )
    assert done.returncode == status, done.stderr
    asked = [*(["--index-url", index] if index else []), requirement]
    assert done.stdout.splitlines() == ([] if status else asked)
    assert ("Set FLEETCTL" in done.stderr) == bool(status)
