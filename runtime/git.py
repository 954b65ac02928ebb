"""Asks git about the checkout, and commits on new branches, without configuration from the tree.

A tree from a stranger may name programs in its configuration: a file system monitor, hooks,
filters, a command for ssh. So the question that reads the working tree is asked with a
configuration of its own, beside the checkout's index, objects and head alone. The user's own
configuration counts.
"""

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

_SAFE = (
    "--no-pager",
    *("-c", "core.fsmonitor=false"),
    *("-c", "core.untrackedCache=false"),
    *("-c", f"core.hooksPath={os.devnull}"),
    *("-c", "core.sshCommand=false"),
    *("-c", "safe.bareRepository=explicit"),  # else a folder of the tree may pass for a repository
    *("-c", "submodule.recurse=false"),
)
_SETTINGS = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_ALLOW_PROTOCOL": "none",
}
_SHA256 = 64
"""Hex digits of a commit in a repository of SHA-256."""
_SHORT = 12
_COMMIT = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")
_COMMITS = 500
"""Upper bound of the commits of a file that are read: some 0.4 s for a lock of 1,000 versions."""
_PLAIN_DIFF = "-r", "-p", "-U0", "--no-ext-diff", "--no-textconv", "--no-renames", "--no-color"
_LIMIT_S = 10
_PEOPLE = ("AUTHOR", "COMMITTER")


def commit_of(root: Path) -> str:
    """Return the short hash of the commit checked out in `root`, for the record.

    `-dirty` is appended when files below `root` differ from the commit, `-unchecked` when that
    cannot be told. Empty where there is no git or no commit: a plan does not need one.
    """
    if not _in_checkout(root):
        return ""
    asked = ("HEAD", "--show-toplevel", "--absolute-git-dir", "--git-common-dir")
    head, *places = (_git(root, "rev-parse", *asked) or "").splitlines() or [""]
    if len(places) != len(asked) - 1:
        return ""
    changes = _changes(root, head, *(root / place for place in places))
    note = "-unchecked" if changes is None else "-dirty" if changes else ""
    return f"{head[:_SHORT]}{note}"


def tracked(folder: Path) -> str:
    """Return a file below a folder that git tracks in the checkout around; empty: there is none.

    A folder outside every checkout has no tracked file.
    """
    if not _in_checkout(folder.parent):
        return ""
    found = _git(folder.parent, "ls-files", "-z", "--", folder.name) or ""
    return found.partition("\0")[0]


def additions(root: Path, file: str) -> Iterator[tuple[str, str]]:
    """Yield commit and line of all lines that commits added to a file of `root`, oldest first.

    Of the last `_COMMITS` commits that changed the file, as far as they are here: a shallow clone
    has fewer. Nothing outside a checkout, and where git does not tell.
    """
    if not _in_checkout(root):
        return
    asked = "rev-list", "--reverse", f"--max-count={_COMMITS}", "HEAD", "--", file
    commits, commit = _git(root, *asked), ""
    shown = "diff-tree", "--stdin", "--root", *_PLAIN_DIFF, "--", file
    for line in ((_git(root, *shown, given=commits) if commits else "") or "").splitlines():
        if _COMMIT.fullmatch(line):
            commit = line[:_SHORT]
        elif line.startswith("+") and not line.startswith("+++"):
            yield commit, line[1:]


def commit_on_branch(
    root: Path, branch: str, file: str, texts: tuple[str, str], message: str, author: str
) -> str:
    """Commit a file of `root` on a new branch from the commit checked out; return why not, or "".

    `texts`: the file as committed, and as it shall be. The checkout, its index and its branch stay:
    the commit is made in an index of its own. Nothing is filtered, signed or sent; no hook runs.
    """
    head, prefix = (_git(root, "rev-parse", "HEAD", "--show-prefix") or "\n").split("\n")[:2]
    committed = re.match(r"(\d+) blob (\w+)\t", _git(root, "ls-tree", head, "--", file) or "")
    if committed is None:
        return "the file is committed in no checkout of git"
    mode, blob = committed.groups()
    store = "hash-object", "--no-filters", "--stdin"
    if (_git(root, *store, given=texts[0]) or "").strip() != blob:
        return "the file differs from the one committed"
    made = (_git(root, *store, "-w", given=texts[1]) or "").strip()
    with tempfile.TemporaryDirectory(prefix="fleetctl-git-") as folder:
        own = {"GIT_INDEX_FILE": f"{folder}/index"}
        entry = f"{mode},{made},{prefix}{file}"
        steps = ("read-tree", head), ("update-index", "--cacheinfo", entry), ("write-tree",)
        *done, tree = [_git(root, *step, **own) for step in steps]
    people = {f"GIT_{who}_{what}": author for who in _PEOPLE for what in ("NAME", "EMAIL")}
    commit = None
    if tree is not None and None not in done:
        words = "commit-tree", tree.strip(), "-p", head, "-m", message
        commit = _git(root, *words, **people)
    if commit is None:
        return "git cannot write the commit"
    if _git(root, "update-ref", f"refs/heads/{branch}", commit.strip(), "") is None:
        return "there is a branch of that name, or git cannot make it"
    return ""


def _in_checkout(folder: Path) -> bool:
    """Say whether git could find a checkout around a folder, without starting git."""
    real = Path(os.path.realpath(folder))
    return any(os.path.lexists(around / ".git") for around in (real, *real.parents))


def _changes(root: Path, head: str, top: Path, folder: Path, common: Path) -> str | None:
    """Return the differences below `root` from the commit `head`; None: they cannot be told."""
    if not root.resolve().is_relative_to(top):  # as by `core.worktree`
        return None
    with tempfile.TemporaryDirectory(prefix="fleetctl-git-") as made:
        own, is_sha256 = Path(made), len(head) == _SHA256
        config = f"[core]\n\trepositoryformatversion = {int(is_sha256)}\n\tbare = false\n"
        config += "[extensions]\n\tobjectFormat = sha256\n" if is_sha256 else ""
        (own / "config").write_text(config, encoding="utf-8")
        (own / "HEAD").write_text(f"{head}\n", encoding="utf-8")
        (own / "refs").mkdir()
        (own / "info").symlink_to(common.resolve() / "info")  # which files to leave out
        places = {
            "GIT_DIR": made,
            "GIT_WORK_TREE": str(top),
            "GIT_INDEX_FILE": str(folder / "index"),
            "GIT_OBJECT_DIRECTORY": str(common.resolve() / "objects"),
        }
        return _git(root, "status", "--porcelain", "--ignore-submodules=all", "--", ".", **places)


def _git(folder: Path, *words: str, given: str = "", **places: str) -> str | None:
    """Return the output of a git command in a folder; None where git is not there or fails.

    `given`: its standard input. `places`: variables of its environment.
    """
    ours = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", *_SAFE, *words],
            cwd=folder,
            env=ours | _SETTINGS | places,
            input=given,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=_LIMIT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
