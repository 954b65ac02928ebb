"""Lists the files of a state folder that a backup holds, and the sizes of those left out."""

import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from runtime.engines.launch_records import RECORD
from runtime.files import LARGEST_LOG, read_plain
from runtime.gateway.admin.state_dir import PREVIOUS_FILE, SECRET_FILE, TABLE_FILE
from runtime.ledger.file import LEDGER_FILE
from runtime.ledger.outbox import FOLDER as QUEUE
from runtime.ledger.signing import KEY_FILE
from runtime.removed_hosts import HOSTS_FILE
from runtime.usage.tables import FOLDER, STORE_FILE, told_errors

STORE: Final = f"{FOLDER}/{STORE_FILE}"
PARTS: Final = (
    LEDGER_FILE,
    "ledger-as-last-read.*.jsonl",
    "ledger-before-restore.*.jsonl",
    "lease.json",
    TABLE_FILE,
    PREVIOUS_FILE,
    f"{QUEUE}/*.json",
    f"servers/*/{RECORD}",
    "gateways/*/gateway.json",
    HOSTS_FILE,
    "evals/cache/*",
    "costs/*.json",
    STORE,
)
"""Patterns of the files that every backup holds; `*` stands for a name without a slash."""
SECRETS: Final = (SECRET_FILE, KEY_FILE, "keys/*")
"""Patterns of the files that a backup holds only if asked."""


def is_part(name: str, patterns: tuple[str, ...] = PARTS + SECRETS) -> bool:
    """Say whether a path inside the state folder, with slashes, is a file that a backup may hold.

    A path that leads out of the folder never is.
    """
    pieces = name.split("/")
    if any(piece in {"", ".", ".."} or "\\" in piece or "\0" in piece for piece in pieces):
        return False
    return any(
        len(pieces) == len(wanted := pattern.split("/")) and all(map(fnmatchcase, pieces, wanted))
        for pattern in patterns
    )


def parts_in(state_dir: Path, *, with_keys: bool) -> Iterator[tuple[str, Path]]:
    """Yield the files of a state folder for a backup, sorted; links and scratch files are not."""
    for pattern in sorted(PARTS + (SECRETS if with_keys else ())):
        for path in sorted(state_dir.glob(pattern)):
            if path.is_file() and not path.is_symlink() and not path.name.startswith("."):
                yield path.relative_to(state_dir).as_posix(), path


def content_of(path: Path) -> bytes:
    """Return the content of a part; of the usage store as it is between two transactions.

    Raises:
        FleetError: FC6065, the usage store is damaged.
        OSError: the file cannot be read.
    """
    if path.name != STORE_FILE:
        return read_plain(path, LARGEST_LOG)
    uri = f"{path.absolute().as_uri()}?mode=ro"
    with (
        told_errors(path),
        closing(sqlite3.connect(uri, uri=True)) as store,
        closing(sqlite3.connect(":memory:")) as copy,
    ):
        store.backup(copy)
        return copy.serialize()


def left_out(state_dir: Path, *, with_keys: bool) -> dict[str, int]:
    """Return the bytes that a backup leaves out, by file or folder of the state folder."""
    sizes = Counter[str]()
    held = {path for _, path in parts_in(state_dir, with_keys=with_keys)}
    for path in state_dir.rglob("*"):
        if path not in held and path.is_file() and not path.is_symlink():
            sizes[path.relative_to(state_dir).parts[0]] += path.stat().st_size
    return dict(sorted((name, size) for name, size in sizes.items() if size))
