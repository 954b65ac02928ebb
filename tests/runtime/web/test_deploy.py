"""Another version by click: a patch, a plan and a branch, and nothing else is changed."""

import subprocess
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import pytest

from fleet.config import set_value
from runtime.web.access import NOT_FOUND
from tests.runtime.web.stage import PERSON, Viewer, project, reading, viewing

PATH = "/deploy/acme-support"
FILE = "clients/acme.yaml"
BRANCH = "deploy/acme-support-2.1.0"
OURS = {"sec-fetch-site": "same-origin"}


def git(folder: Path, *words: str) -> str:
    names = ("-c", "user.name=us", "-c", "user.email=us@example.com")
    done = subprocess.run(
        ["git", *names, *words], cwd=folder, capture_output=True, check=True, text=True
    )
    return done.stdout


@pytest.fixture
def viewer(tmp_path: Path) -> Iterator[Viewer]:
    workspace = project(tmp_path / "all" / "project")
    (workspace.root / ".gitignore").write_text(".fleetctl/\n", "utf-8")
    git(tmp_path / "all", "init", "-q", "-b", "main")
    git(workspace.root, "add", ".")
    git(workspace.root, "commit", "-q", "-m", "fleet")
    with viewing(workspace, reading(workspace)) as made:
        yield made


def test_the_change_is_shown_with_its_plan_and_applies_as_a_patch(viewer: Viewer) -> None:
    root, session = viewer.pages.workspace.root, viewer.session()
    assert "2.1.0" in viewer.http.get(PATH, headers=session).text
    page = unescape(viewer.http.get(f"{PATH}?version=2.1.0", headers=session).text)
    patch = viewer.http.get(f"{PATH}.patch?version=2.1.0", headers=session)
    assert patch.text in page
    assert "acme-support" in page.partition("Its plan")[2]
    assert git(root, "status", "--porcelain") == ""
    before = (root / FILE).read_text("utf-8")
    (root / "the.patch").write_text(patch.text, "utf-8")
    git(root, "apply", "the.patch")
    path = ("clients", "acme", "adapters", "support", "version")
    assert (root / FILE).read_text("utf-8") == set_value(before, FILE, path, "2.1.0")


def test_a_branch_has_the_change_and_the_checkout_stays(viewer: Viewer) -> None:
    root, headers = viewer.pages.workspace.root, {**viewer.session(), **OURS}
    form = {"data": {"version": "2.1.0"}, "headers": headers}
    assert BRANCH in viewer.http.post(PATH, **form).text
    assert git(root, "diff", "--stat", "main", BRANCH).count("|") == 1
    assert 'version: "2.1.0"' in git(root, "show", f"{BRANCH}:./{FILE}")
    assert git(root, "log", "-1", "--format=%an %P", BRANCH).split() == [
        PERSON, git(root, "rev-parse", "main").strip(),
    ]  # fmt: skip
    assert git(root, "status", "--porcelain", "--branch") == "## main\n"
    again = viewer.http.post(PATH, **form)
    assert (again.status_code, "FC6113" in again.text) == (409, True)


def test_a_file_with_changes_of_its_own_makes_no_branch(viewer: Viewer) -> None:
    root = viewer.pages.workspace.root
    (root / FILE).write_text((root / FILE).read_text("utf-8") + "# mine\n", "utf-8")
    headers = {**viewer.session(), **OURS}
    answer = viewer.http.post(PATH, data={"version": "2.1.0"}, headers=headers)
    assert (answer.status_code, "differs from the one committed" in answer.text) == (409, True)
    assert git(root, "branch", "--list", "deploy/*") == ""


def test_what_is_not_there_is_refused(viewer: Viewer) -> None:
    session = viewer.session()
    unknown = viewer.http.get(f"{PATH}?version=9.9.9", headers=session)
    assert (unknown.status_code, "FC6114" in unknown.text) == (409, True)
    none = viewer.http.get("/deploy/nothing-here", headers=session)
    assert (none.status_code, none.text) == (404, NOT_FOUND)
