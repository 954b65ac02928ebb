"""Where things lie in the library."""

from collections.abc import Iterator
from pathlib import Path

from fleet.names import AdapterName, Version, is_id

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
SERVED_FILES = (CONFIG, WEIGHTS)
"""The files that a server reads and the digest covers."""
TRAINING = "training.json"
EVALS = "evals"
RECORDS = (TRAINING, EVALS, "README.md")
"""What a version's folder may hold besides: how it was made, and how good it is."""


def base_folder(library: Path, base: str) -> Path:
    """Return the folder of a base model."""
    return library / "base" / base


def version_folder(library: Path, name: AdapterName) -> Path:
    """Return the folder of an adapter version."""
    return library / "adapters" / name.client / f"{name.task}-v{name.version}"


def versions(library: Path) -> Iterator[tuple[str, str, Version, Path]]:
    """Yield client, task, version and folder of every version in the library, sorted."""
    root = library / "adapters"
    found: list[tuple[str, str, Version, Path]] = []
    for folder in root.glob("*/*-v*"):
        task, _, text = folder.name.rpartition("-v")
        try:
            version = Version.parse(text)
        except ValueError:
            continue
        if folder.is_dir() and is_id(task) and is_id(folder.parent.name):
            found.append((folder.parent.name, task, version, folder))
    yield from sorted(found)
