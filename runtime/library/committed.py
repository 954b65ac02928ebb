"""Reads the bytes of versions from earlier commits of the lock: they never change under a name."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fleet.config import LOCK_FILE
from runtime.git import additions

_ENTRY: Final = re.compile(r'"([a-z0-9_.-]+)": \{[^{}]*?"digest": "([0-9a-f]{64})"')


@dataclass(frozen=True, slots=True)
class CommittedBytes:
    """The bytes with which a commit names a version for the first time."""

    digest: str
    commit: str
    """Short hash."""


def committed_bytes(root: Path) -> dict[str, CommittedBytes]:
    """Return the bytes of the versions that commits of the lock name, by full name.

    Commits that are not here, as in a shallow clone, say nothing.
    """
    found: dict[str, CommittedBytes] = {}
    for commit, line in additions(root, LOCK_FILE):
        for name, digest in _ENTRY.findall(line):
            found.setdefault(name, CommittedBytes(digest, commit))
    return found
