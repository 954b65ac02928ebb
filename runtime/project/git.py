"""Which commit the declarations come from."""

import subprocess
from pathlib import Path


def commit_of(root: Path) -> str:
    """Return the short hash of the commit checked out in `root`, for the record.

    `-dirty` is appended when files below `root` differ from it. Empty where there is no git
    or no commit: a plan does not need one.
    """
    commit = _git(root, "rev-parse", "--short=12", "HEAD")
    if not commit:
        return ""
    return f"{commit}-dirty" if _git(root, "status", "--porcelain", "--", ".") else commit


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=root, capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
