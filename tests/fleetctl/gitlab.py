"""A stand-in of the parts of GitLab's REST API and of its runner that the jobs use."""

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.fleetctl.forge import Answer, serve

BOT = 99
TOKEN, JOB_TOKEN = "project-access-token", "job-token"


@dataclass
class GitLab:
    """A project as the API shows it."""

    url: str = ""
    notes: list[dict[str, Any]] = field(default_factory=list)
    issues: list[dict[str, Any]] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    """Merge requests of every commit."""
    published: dict[str, bytes] = field(default_factory=dict)
    """Files of the last pipeline of the branch `main` that passed, by job."""
    changed: list[str] = field(default_factory=list)
    """Method of every call that changed something."""

    def answer(
        self, method: str, path: str, query: dict[str, str], headers: Mapping[str, str], body: Any
    ) -> Answer:
        """Return the status and the document of a call."""
        if found := re.fullmatch(r"/projects/1/jobs/artifacts/main/raw/live.json", path):
            given = self.published.get(query["job"])
            allowed = headers.get("JOB-TOKEN") == JOB_TOKEN
            return Answer(200, given) if allowed and given else Answer(404, {})
        if headers.get("PRIVATE-TOKEN") != TOKEN:
            return Answer(401, {"message": "401 Unauthorized"})
        if path == "/user":
            return Answer(200, {"id": BOT})
        if method != "GET":
            self.changed.append(method)
        if re.fullmatch("/projects/1/repository/commits/[0-9a-f]+/merge_requests", path):
            return Answer(200, self.requests)
        if found := re.fullmatch(r"/projects/1/(merge_requests/7/notes|issues)(?:/(\d+))?", path):
            kept = self.issues if found[1] == "issues" else self.notes
            return self._collection(kept, found[2], method, query, body)
        return Answer(404, {})

    def _collection(
        self,
        kept: list[dict[str, Any]],
        number: str | None,
        method: str,
        query: dict[str, str],
        body: Any,
    ) -> Answer:
        if method == "POST":
            ids = {"id": len(kept) + 1, "iid": len(kept) + 1}
            kept.append({**body, **ids, "author": {"id": BOT}, "state": "opened"})
            return Answer(201, kept[-1])
        if method == "PUT":
            document = kept[int(number or "0") - 1]
            document |= body
            if body.get("state_event") == "close":
                document["state"] = "closed"
            return Answer(200, document)
        state, labels = query.get("state", "opened"), query.get("labels", "")
        found = [one for one in kept if (one["state"], one.get("labels", "")) == (state, labels)]
        return Answer(200, found)


@contextmanager
def gitlab() -> Iterator[GitLab]:
    """Serve an empty project on a port of its own."""
    project = GitLab()
    with serve(project.answer) as url:
        project.url = url
        yield project


def jobs(file: Path) -> dict[str, dict[str, Any]]:
    """Return the jobs of a file, with what they extend."""
    document = yaml.safe_load(file.read_text(encoding="utf-8"))

    def whole(name: str) -> dict[str, Any]:
        its = document[name]
        base = whole(its["extends"]) if "extends" in its else {}
        variables = {**base.get("variables", {}), **its.get("variables", {})}
        return {**base, **its, "variables": variables}

    return {name: whole(name) for name in document if not name.startswith(".")}


def run_job(
    job: Mapping[str, Any], checkout: Path, environment: Mapping[str, str]
) -> "subprocess.CompletedProcess[str]":
    """Run the scripts of a job in one shell with the flags of GitLab's runner."""
    lines = [*job.get("before_script", ()), *job["script"]]
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", "\n".join(lines)],
        cwd=checkout,
        env={**environment, **job["variables"], "FLEETCTL": environment.get("FLEETCTL", "")},
        capture_output=True,
        text=True,
        check=False,
    )


def variables(project: GitLab) -> dict[str, str]:
    """Return the variables that GitLab sets in every job, and the project's own token."""
    return {
        "CI_API_V4_URL": project.url,
        "CI_PROJECT_ID": "1",
        "CI_JOB_TOKEN": JOB_TOKEN,
        "CI_JOB_URL": "https://gitlab.example/jobs/1",
        "CI_COMMIT_SHA": "0123456789abcdef0123456789abcdef01234567",
        "FLEETCTL_TOKEN": TOKEN,
        "PATH": os.environ["PATH"],
    }
