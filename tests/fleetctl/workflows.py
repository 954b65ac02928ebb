"""A runner of GitHub's workflows, as far as those of `scaffold ci` need one.

Every `run` step is carried out by bash with the flags that GitHub documents for `shell: bash`. The
actions of the workflows keep files and hand them out. Other expressions than those of the table
fail.
"""

import json
import os
import re
import subprocess
import zipfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.fleetctl.github import REPOSITORY, GitHub

SAME = "github.event.pull_request.head.repo.full_name == github.repository"


@dataclass
class Job:
    """A job that was run: its exit codes by step, its outputs and its summary."""

    codes: dict[str, int] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)
    summary: str = ""
    printed: str = ""

    @property
    def is_green(self) -> bool:
        """Say whether every step succeeded."""
        return not any(self.codes.values())


@dataclass
class Runner:
    """A place where jobs run: the checkout, a folder for temporary files, the forge."""

    checkout: Path
    temporary: Path
    forge: GitHub
    environment: Mapping[str, str]
    executed: set[tuple[str, str]] = field(default_factory=set)
    """File and name of each step that has run."""

    def run(
        self,
        file: Path,
        job_name: str,
        values: Mapping[str, str],
        environment: Mapping[str, str],
        *,
        fork: bool = False,
        leave: Collection[str] = (),
    ) -> Job:
        """Run a job; `values` are the expressions, `environment` what GitHub sets.

        Steps in `leave` are left out: they have run before, and nothing of them changed.
        """
        workflow = yaml.safe_load(file.read_text(encoding="utf-8"))
        its = workflow["jobs"][job_name]
        rights = its["permissions"].items()
        token = ",".join(f"{name}:{'read' if fork else level}" for name, level in rights)
        known = {**values, "github.token": token, "runner.temp": str(self.temporary)}
        job = Job()
        given = {**self.environment, **workflow["env"], **environment}
        for step in its["steps"]:
            if not _is_due(step.get("if", ""), fork=fork, failed=not job.is_green):
                continue
            if step.get("name") in leave:
                continue
            if "run" in step:
                named = {
                    key: _filled(value, known) for key, value in (step.get("env") or {}).items()
                }
                code = self._bash(step, {**given, **named}, job, given, known)
                job.codes[step["name"]] = code
                self.executed.add((file.name, step["name"]))
            else:
                action = step["uses"].partition("@")[0]
                settings = (step.get("with") or {}).items()
                self._act(action, {key: _filled(str(value), known) for key, value in settings})
        outputs = its.get("outputs", {})
        job.outputs = {name: _filled(value, known) for name, value in outputs.items()}
        return job

    def _bash(
        self,
        step: dict[str, Any],
        environment: Mapping[str, str],
        job: Job,
        given: dict[str, str],
        known: dict[str, str],
    ) -> int:
        names = ("GITHUB_ENV", "GITHUB_PATH", "GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")
        files = {name: self.temporary / name.lower() for name in names}
        for path in files.values():
            path.write_text("", encoding="utf-8")
        script = self.temporary / "step.sh"
        script.write_text(step["run"], encoding="utf-8")
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)],
            cwd=self.checkout,
            env={**environment, **{name: str(path) for name, path in files.items()}},
            capture_output=True,
            text=True,
            check=False,
        )
        read = {name: path.read_text(encoding="utf-8") for name, path in files.items()}
        for line in read["GITHUB_ENV"].splitlines():
            name, _, value = line.partition("=")
            given[name] = value
        for line in read["GITHUB_PATH"].splitlines():
            given["PATH"] = f"{line}{os.pathsep}{given['PATH']}"
        for line in read["GITHUB_OUTPUT"].splitlines():
            name, _, value = line.partition("=")
            known[f"steps.{step['id']}.outputs.{name}"] = value
        job.summary += read["GITHUB_STEP_SUMMARY"]
        job.printed += done.stdout + done.stderr
        return done.returncode

    def _act(self, action: str, settings: Mapping[str, str]) -> None:
        match action:
            case "actions/checkout":
                assert settings["persist-credentials"] == "False"
            case "actions/upload-artifact":
                path = self.checkout / settings["path"]
                if path.exists() or settings.get("if-no-files-found") != "ignore":
                    self.forge.keep(settings["name"], path)
            case "actions/download-artifact":
                names = [kept["name"] for kept in reversed(self.forge.artifacts)]
                last = len(names) - 1 - names[::-1].index(settings["name"])
                archive = self.temporary / "artifact.zip"
                archive.write_bytes(self.forge.packed[last])
                with zipfile.ZipFile(archive) as packed:
                    packed.extractall(settings["path"])
            case "github/codeql-action/upload-sarif":
                path = self.checkout / settings["sarif_file"]
                if path.exists():  # the step may fail, and the job goes on
                    self.forge.sarif[settings["category"]] = json.loads(path.read_text())
            case _:
                raise AssertionError(f"no stand-in for {action}")


def _is_due(condition: str, *, fork: bool, failed: bool) -> bool:
    match condition.removeprefix("${{ ").removesuffix(" }}"):
        case "":
            return not failed
        case "failure()":
            return failed
        case "!cancelled()":
            return True
        case found if found == f"!cancelled() && {SAME}":
            return not fork
    raise AssertionError(f"unknown condition {condition!r}")


def _filled(text: str, values: Mapping[str, str]) -> str:
    return re.sub(r"\$\{\{ (.+?) \}\}", lambda found: values[found[1]], text)


def run_steps(file: Path) -> set[tuple[str, str]]:
    """Return file and name of every `run` step of a workflow."""
    jobs = yaml.safe_load(file.read_text(encoding="utf-8"))["jobs"].values()
    return {(file.name, step["name"]) for job in jobs for step in job["steps"] if "run" in step}


def defaults(forge: GitHub) -> dict[str, str]:
    """Return the variables that GitHub sets in every job."""
    return {
        "GITHUB_API_URL": forge.url,
        "GITHUB_SERVER_URL": "https://forge.example",
        "GITHUB_REPOSITORY": REPOSITORY,
        "GITHUB_RUN_ID": "1",
        "GITHUB_SHA": "0123456789abcdef0123456789abcdef01234567",
    }
