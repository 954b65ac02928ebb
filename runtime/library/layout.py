"""Paths in library and store, and the digest that pins an adapter version."""

import hashlib
import os
import time
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Final

from fleet.errors import LibraryError
from fleet.names import AdapterName, Version, is_id
from runtime.confined import confined
from runtime.state_folder import digest_of_copy, manifest_of

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
SERVED_FILES = (CONFIG, WEIGHTS)
"""The files that a server reads and the digest covers."""
TRAINING = "training.json"
EVALS = "evals"
SIGNATURE = "model.sig"
RECORDS = (TRAINING, EVALS, "README.md", SIGNATURE)
"""Further content of a version's folder: training record, results, and a signature of the rest."""
_SETTLED_NS: Final = 2_000_000_000
"""Time after a change of the store from which its listing serves again. Above the tick of the
clock of any disk. Nanoseconds."""


def base_folder(library: Path, base: str) -> Path:
    """Return the folder of a base model."""
    return library / "base" / base


def version_folder(library: Path, name: AdapterName) -> Path:
    """Return the folder of an adapter version.

    Raises:
        ConfigError: FC1285, a link leads out of the library to a folder that is not trusted.
    """
    folder = library / "adapters" / name.client / f"{name.task}-v{name.version}"
    confined(library, folder.relative_to(library))
    return folder


def versions(library: Path) -> Iterator[tuple[str, str, Version, Path]]:
    """Yield client, task, version and folder of every version in the library, sorted."""
    root = library / "adapters"
    folders: list[tuple[str, str, Version, Path]] = []
    for folder in root.glob("*/*-v*"):
        task, _, text = folder.name.rpartition("-v")
        try:
            version = Version.parse(text)
        except ValueError:
            continue
        if folder.is_dir() and is_id(task) and is_id(folder.parent.name):
            folders.append((folder.parent.name, task, version, folder))
    yield from sorted(folders)


def folder_digest(folder: Path) -> str:
    """Return the digest of an adapter version: 64 hex digits.

    SHA-256 of the manifest of its served files.

    Raises:
        LibraryError: a served file is missing or cannot be read.
    """
    try:
        return hashlib.sha256(manifest_of(folder, SERVED_FILES).encode()).hexdigest()
    except OSError as error:
        detail = f"`{error.filename or folder}`: {error.strerror or error}."
        hint = f"A version's folder holds {' and '.join(SERVED_FILES)}."
        if not folder.exists():
            hint = "If fleet.lock names its source, `fleetctl adapter pull` brings it back."
        raise LibraryError.of("FC3001", "Adapter file missing", detail, hint=hint) from error


def copies_of(digest: str, store: Path) -> tuple[Path, ...]:
    """Return the copies of a digest in the store, at the first path and at fresh ones, sorted."""
    try:
        seen = store.stat()
        # A later change within a tick of the disk's clock would leave the time as it is.
        is_settled = time.time_ns() - seen.st_mtime_ns > _SETTLED_NS
        listing = _listing if is_settled else _listing.__wrapped__
        names = listing(store, seen.st_ino, seen.st_mtime_ns).get(digest, ())
    except OSError:
        return ()
    return tuple(store / name for name in names)


@lru_cache(maxsize=4)
def _listing(store: Path, _inode: int, _changed_ns: int) -> Mapping[str, tuple[str, ...]]:
    """Return the names of all copies by their digest, as of the folder's last change.

    Of ten thousand copies an apply would else list the folder for every load, 15 ms a time.
    """
    found: dict[str, tuple[str, ...]] = {}
    for name in sorted(os.listdir(store)):  # noqa: PTH208 (of 10,000 and more no path is made)
        if digest := digest_of_copy(name):
            found[digest] = (*found.get(digest, ()), name)
    return found
