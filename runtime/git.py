"""Asks git about the project's checkout, without the configuration that lies in the checkout.

A tree from a stranger may name programs in its configuration: a file system monitor, hooks,
filters, a command for ssh. So the question that reads the working tree is asked with a
configuration of its own, beside the checkout's index, objects and head alone. The user's own
configuration counts.
"""

import os
import subprocess
import tempfile
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
_LIMIT_S = 10


def commit_of(root: Path) -> str:
    """Return the short hash of the commit checked out in `root`, for the record.

    `-dirty` is appended when files below `root` differ from the commit, `-unchecked` when that
    cannot be told. Empty where there is no git or no commit: a plan does not need one.
    """
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
    found = _git(folder.parent, "ls-files", "-z", "--", folder.name) or ""
    return found.partition("\0")[0]


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


def _git(folder: Path, *words: str, **places: str) -> str | None:
    """Return the output of a git command in a folder; None where git is not there or fails."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", *_SAFE, *words],
            cwd=folder,
            env=ours | _SETTINGS | places,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=_LIMIT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
