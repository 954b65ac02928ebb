"""Paths in the library, and the digest that pins an adapter version."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from fleet.errors import LibraryError
from fleet.names import AdapterName, Version, is_id
from runtime.confined import confined
from runtime.store_paths import manifest_of

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
SERVED_FILES = (CONFIG, WEIGHTS)
"""The files that a server reads and the digest covers."""
TRAINING = "training.json"
EVALS = "evals"
RECORDS = (TRAINING, EVALS, "README.md")
"""Further content of a version's folder: the training record and the results."""


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
        raise LibraryError.of("FC3001", "Adapter file missing", detail, hint=hint) from error
