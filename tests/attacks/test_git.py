"""Checkouts whose own configuration names programs: none runs when fleetctl asks git."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.git import additions, commit_of, commit_on_branch, tracked
from tests.attacks.conftest import call

Arrange = Callable[[Path, str], None]
"""Takes the checkout and a program that makes the marker."""


def git(folder: Path, *words: str) -> str:
    identity = ("-c", "user.name=me", "-c", "user.email=me@example.com")
    done = subprocess.run(
        ["git", *identity, *words], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def checkout(project: Path) -> Path:
    """The project as a commit of a repository."""
    (project / ".gitignore").write_text(".fleetctl/\n")
    git(project, "init", "-q")
    git(project, "add", "-A")
    git(project, "commit", "-qm", "first")
    return project


@pytest.fixture
def program(tmp_path: Path, marker: Path) -> str:
    path = tmp_path / "program"
    path.write_text(f"#!/bin/sh\ntouch {marker}\ncat\n")
    path.chmod(0o755)
    return str(path)


def setting(name: str, value: str = "{program}") -> Arrange:
    """Set a value in the checkout's own configuration."""

    def arrange(checkout: Path, program: str) -> None:
        git(checkout, "config", name, value.format(program=program))

    return arrange


def filtered(kind: str) -> Arrange:
    """Name a filter for all files, in the tree's attributes and the checkout's configuration."""

    def arrange(checkout: Path, program: str) -> None:
        (checkout / ".gitattributes").write_text("* filter=evil diff=evil merge=evil\n")
        git(checkout, "config", f"filter.evil.{kind}", program)
        (checkout / "fleet.yaml").touch()

    return arrange


def hook(name: str) -> Arrange:
    def arrange(checkout: Path, program: str) -> None:
        path = checkout / ".git" / "hooks" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\nexec {program} < /dev/null\n")
        path.chmod(0o755)
        (checkout / "fleet.yaml").touch()

    return arrange


def hooks_elsewhere(checkout: Path, program: str) -> None:
    folder = checkout / "hooks"
    folder.mkdir()
    (folder / "post-index-change").write_text(f"#!/bin/sh\nexec {program} < /dev/null\n")
    (folder / "post-index-change").chmod(0o755)
    git(checkout, "config", "core.hooksPath", "hooks")
    (checkout / "fleet.yaml").touch()


def included(checkout: Path, program: str) -> None:
    (checkout / "more.cfg").write_text(f"[core]\n\tfsmonitor = {program}\n")
    git(checkout, "config", "include.path", "../more.cfg")


def by_worktree(checkout: Path, program: str) -> None:
    git(checkout, "config", "extensions.worktreeConfig", "true")
    git(checkout, "config", "--worktree", "core.fsmonitor", program)


def lazy_fetch(checkout: Path, program: str) -> None:
    """Let a missing object be fetched by a program."""
    git(checkout, "config", "extensions.partialClone", "origin")
    git(checkout, "config", "remote.origin.promisor", "true")
    git(checkout, "config", "remote.origin.url", f"ext::{program}")
    git(checkout, "config", "protocol.ext.allow", "always")
    (tree,) = (git(checkout, "rev-parse", "HEAD^{tree}"),)
    (checkout / ".git" / "objects" / tree[:2] / tree[2:]).unlink()


def submodule(checkout: Path, program: str) -> None:
    """Put a repository into the tree whose own monitor is the program."""
    inner = checkout / "inner"
    inner.mkdir()
    git(inner, "init", "-q")
    (inner / "file").write_text("x")
    git(inner, "add", "-A")
    git(inner, "commit", "-qm", "inner")
    git(checkout, "add", "inner")
    git(inner, "config", "core.fsmonitor", program)


def bare_inside(checkout: Path, program: str) -> None:
    """Commit what git takes for a bare repository, with a configuration, around the project."""
    for name in ("objects", "refs"):
        (checkout / name).mkdir()
    (checkout / "HEAD").write_text("ref: refs/heads/main\n")
    (checkout / "config").write_text(
        f"[core]\n\trepositoryformatversion = 0\n\tbare = true\n\tfsmonitor = {program}\n"
    )
    (checkout / ".git").rename(checkout / "was-git")


ARRANGEMENTS: dict[str, Arrange] = {
    "fsmonitor": setting("core.fsmonitor"),
    "fsmonitor v2": included,
    "fsmonitor by worktree": by_worktree,
    "pager": setting("core.pager"),
    "pager of status": setting("pager.status"),
    "ssh command": setting("core.sshCommand"),
    "git proxy": setting("core.gitProxy"),
    "external diff": setting("diff.external"),
    "diff driver": setting("diff.evil.command"),
    "text of diff": setting("diff.evil.textconv"),
    "editor": setting("core.editor"),
    "ask for passwords": setting("core.askPass"),
    "credentials": setting("credential.helper"),
    "alias of status": setting("alias.status", "!{program}"),
    "alias of rev-parse": setting("alias.rev-parse", "!{program}"),
    "alternate refs": setting("core.alternateRefsCommand"),
    "signature program": setting("gpg.program"),
    "signatures shown": setting("log.showSignature", "true"),
    "clean filter": filtered("clean"),
    "smudge filter": filtered("smudge"),
    "process filter": filtered("process"),
    "hook at index change": hook("post-index-change"),
    "hook at change of refs": hook("reference-transaction"),
    "hook of fsmonitor": hook("fsmonitor-watchman"),
    "hook of auto gc": hook("pre-auto-gc"),
    "hooks elsewhere": hooks_elsewhere,
    "lazy fetch": lazy_fetch,
    "submodule": submodule,
    "bare repository": bare_inside,
}


@pytest.mark.parametrize("arrange", ARRANGEMENTS.values(), ids=ARRANGEMENTS)
def test_no_program_of_the_checkout_runs(checkout: Path, program: str, arrange: Arrange) -> None:
    arrange(checkout, program)
    commit_of(checkout)
    tracked(checkout / ".fleetctl")
    assert [*additions(checkout, "fleet.yaml")] or arrange in (lazy_fetch, bare_inside)
    text = (checkout / "fleet.yaml").read_text()
    commit_on_branch(checkout, "deploy/a", "fleet.yaml", (text, f"{text}#\n"), "a change", "me")


@pytest.mark.parametrize("name", ["fsmonitor", "clean filter", "hook at index change"])
def test_the_setting_runs_its_program_where_git_is_asked_plainly(
    checkout: Path, tmp_path: Path, name: str
) -> None:
    """The attacks above are real: git itself falls for them."""
    (tmp_path / "other").write_text(f"#!/bin/sh\ntouch {tmp_path / 'ran'}\ncat\n")
    (tmp_path / "other").chmod(0o755)
    ARRANGEMENTS[name](checkout, str(tmp_path / "other"))
    os.utime(checkout / "fleet.yaml", (1, 1))
    subprocess.run(["git", "status"], cwd=checkout, capture_output=True, check=False)
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["fsmonitor", "clean filter", "process filter", "hooks elsewhere"])
def test_a_plan_runs_no_program_of_the_checkout(
    checkout: Path, program: str, name: str, tmp_path: Path
) -> None:
    ARRANGEMENTS[name](checkout, program)
    done = call(checkout, "plan", "--out", str(tmp_path / "plan.json"))
    assert done.code == 0, done.text
    assert git(checkout, "rev-parse", "HEAD")[:12] in (tmp_path / "plan.json").read_text()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("GIT_DIR", "/nonexistent"),
        ("GIT_EXTERNAL_DIFF", "{program}"),
        ("GIT_SSH_COMMAND", "{program}"),
        ("GIT_CONFIG_PARAMETERS", "'core.fsmonitor={program}'"),
        ("GIT_INDEX_FILE", "/nonexistent"),
    ],
)
def test_variables_of_git_change_nothing(
    checkout: Path, program: str, variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = git(checkout, "rev-parse", "HEAD")
    monkeypatch.setenv(variable, value.format(program=program))
    assert commit_of(checkout) == head[:12]


def test_the_commit_says_what_differs(checkout: Path) -> None:
    head = git(checkout, "rev-parse", "HEAD")[:12]
    assert commit_of(checkout) == head
    os.utime(checkout / "fleet.yaml", (1, 1))
    assert commit_of(checkout) == head
    (checkout / ".git" / "info").mkdir(exist_ok=True)
    (checkout / ".git" / "info" / "exclude").write_text("notes\n")
    (checkout / "notes").write_text("left out by the checkout's own list")
    assert commit_of(checkout) == head
    (checkout / "new.yaml").write_text("")
    assert commit_of(checkout) == f"{head}-dirty"
    (checkout / "new.yaml").unlink()
    (checkout / "fleet.yaml").write_text("fleet: other\n")
    assert commit_of(checkout) == f"{head}-dirty"


def test_a_work_tree_elsewhere_is_not_looked_into(checkout: Path, tmp_path: Path) -> None:
    head = git(checkout, "rev-parse", "HEAD")[:12]
    (tmp_path / "elsewhere").mkdir()
    git(checkout, "config", "core.worktree", str(tmp_path / "elsewhere"))
    assert commit_of(checkout) in ("", f"{head}-unchecked")


def test_a_linked_work_tree_and_a_folder_below_are_told(checkout: Path, tmp_path: Path) -> None:
    head = git(checkout, "rev-parse", "HEAD")[:12]
    git(checkout, "worktree", "add", "-q", "--detach", str(tmp_path / "linked"))
    assert commit_of(tmp_path / "linked") == head
    (tmp_path / "linked" / "below").mkdir()
    (tmp_path / "linked" / "fleet.yaml").write_text("fleet: other\n")
    assert commit_of(tmp_path / "linked") == f"{head}-dirty"
    assert commit_of(tmp_path / "linked" / "below") == head


def test_without_a_repository_or_a_commit_there_is_no_commit(tmp_path: Path) -> None:
    assert commit_of(tmp_path) == ""
    git(tmp_path, "init", "-q")
    assert commit_of(tmp_path) == ""
