"""A stand-in of the parts of GitHub's REST API that the workflows call.

A token is the list of permissions that its job asked for, as `issues:write,contents:read`: a call
without the permission that GitHub's documentation names is answered with 403.
"""

import io
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fleetctl.forge import Answer, serve

REPOSITORY = "agency/fleet"
BOT = "github-actions[bot]"
OWN, FOREIGN = 1, 2
"""Ids of the repository and of a fork."""


@dataclass
class GitHub:
    """A repository as the API shows it."""

    url: str = ""
    comments: list[dict[str, Any]] = field(default_factory=list)
    issues: list[dict[str, Any]] = field(default_factory=list)
    artifacts: list[dict[str, Any]] = field(default_factory=list)
    """Newest first."""
    packed: list[bytes] = field(default_factory=list)
    """Archives of the artifacts, oldest first."""
    pulls: list[dict[str, Any]] = field(default_factory=list)
    """Pull requests of every commit."""
    sarif: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Uploaded logs by category."""
    statuses: list[dict[str, Any]] = field(default_factory=list)
    """Of all commits."""
    changed: list[str] = field(default_factory=list)
    """Method of every call that changed something."""

    @property
    def api(self) -> str:
        """Return the address of the repository."""
        return f"{self.url}/repos/{REPOSITORY}"

    def keep(self, name: str, path: Path, branch: str = "main", head: int = OWN) -> None:
        """Take an artifact, as `actions/upload-artifact` makes it in a run of a branch."""
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.write(path, path.name)
        self.packed.append(packed.getvalue())
        download = f"{self.api}/actions/artifacts/{len(self.packed)}/zip"
        run = {"repository_id": OWN, "head_repository_id": head, "head_branch": branch}
        document = {"name": name, "expired": False, "archive_download_url": download}
        self.artifacts.insert(0, {**document, "workflow_run": run})

    def comment(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Add a comment of the workflows' account to the only pull request."""
        url = f"{self.api}/issues/comments/{len(self.comments) + 1}"
        self.comments.append({"url": url, "user": {"login": BOT}, **body})
        return self.comments[-1]

    def open_issues(self) -> list[dict[str, Any]]:
        """Return the open issues."""
        return [issue for issue in self.issues if issue["state"] == "open"]

    def answer(
        self, method: str, path: str, query: dict[str, str], headers: Mapping[str, str], body: Any
    ) -> Answer:
        """Return the status and the document of a call."""
        if path.startswith("/blob/"):  # of another host, which must not see the token
            seen = "Authorization" in headers
            number = int(path.removeprefix("/blob/")) - 1
            return Answer(400) if seen else Answer(200, self.packed[number])
        call = f"{method} {path.removeprefix(f'/repos/{REPOSITORY}')}"
        for pattern, needed in _RIGHTS.items():
            if found := re.fullmatch(pattern, call):
                if not _may(headers.get("Authorization", ""), needed):
                    return Answer(403, {"message": "Resource not accessible by integration"})
                if method != "GET":
                    self.changed.append(method)
                return self._document(pattern, found, query, body)
        return Answer(404, {"message": "Not Found"})

    def _document(
        self, pattern: str, found: "re.Match[str]", query: dict[str, str], body: Any
    ) -> Answer:
        answer = Answer(200)
        match pattern:
            case "GET /actions/artifacts":
                named = [kept for kept in self.artifacts if kept["name"] == query["name"]]
                answer = Answer(200, {"total_count": len(named), "artifacts": named})
            case r"GET /actions/artifacts/(\d+)/zip":
                host = self.url.replace("127.0.0.1", "localhost")
                answer = Answer(302, b"", {"Location": f"{host}/blob/{found[1]}"})
            case "GET /commits/[0-9a-f]+/pulls":
                answer = Answer(200, self.pulls)
            case "GET /issues/7/comments":
                answer = Answer(200, self.comments)
            case "POST /issues/7/comments":
                answer = Answer(201, self.comment(body))
            case "POST /statuses/[0-9a-f]+":
                self.statuses.append(body)
                answer = Answer(201, body)
            case "GET /issues":
                its = (issue for issue in self.issues if query["labels"] in issue["labels"])
                answer = Answer(200, [issue for issue in its if issue["state"] == query["state"]])
            case "POST /issues":
                url = f"{self.api}/issues/{len(self.issues) + 1}"
                self.issues.append({**body, "url": url, "state": "open"})
                answer = Answer(201, self.issues[-1])
            case _:
                kept = self.comments if "comments" in pattern else self.issues
                kept[int(found[1]) - 1] |= body
                answer = Answer(200, kept[int(found[1]) - 1])
        return answer


def _may(authorization: str, needed: str) -> bool:
    given = authorization.removeprefix("Bearer ").split(",")
    return needed in given or needed.replace(":read", ":write") in given


_RIGHTS = {
    "GET /actions/artifacts": "actions:read",
    r"GET /actions/artifacts/(\d+)/zip": "actions:read",
    "GET /commits/[0-9a-f]+/pulls": "pull-requests:read",
    "GET /issues/7/comments": "pull-requests:read",
    "POST /issues/7/comments": "pull-requests:write",
    r"PATCH /issues/comments/(\d+)": "pull-requests:write",
    "POST /statuses/[0-9a-f]+": "statuses:write",
    "GET /issues": "issues:read",
    "POST /issues": "issues:write",
    r"PATCH /issues/(\d+)": "issues:write",
}
"""The permission that the documentation names, by method and path."""


@contextmanager
def github() -> Iterator[GitHub]:
    """Serve an empty repository on a port of its own."""
    repository = GitHub()
    with serve(repository.answer) as url:
        repository.url = url
        yield repository
