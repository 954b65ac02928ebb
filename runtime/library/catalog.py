"""The catalogue: every version with what is known of it, from lock and library together."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fleet.config import Lock, LockedAdapter
from fleet.names import AdapterName, Version
from runtime.library.layout import EVALS, TRAINING, version_folder, versions


@dataclass(frozen=True, slots=True)
class CatalogVersion:
    """One version."""

    client: str
    task: str
    version: Version
    folder: Path
    in_library: bool
    base: str | None
    """From the lock, else from the training record; None where neither says."""
    locked: LockedAdapter | None
    training: Mapping[str, Any] = field(default_factory=dict)
    """`training.json`; empty where there is none."""
    evals: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Results by the name of their file in `evals/`."""

    @property
    def name(self) -> str:
        """The full name, or what there is of it while the base is not known."""
        if self.base is None:
            return f"{self.client}-{self.task}-v{self.version}"
        return str(AdapterName(self.client, self.task, self.base, self.version))

    @property
    def accuracy(self) -> float | None:
        """The lowest accuracy over all results, 0 to 1; None: never evaluated."""
        found = [result["accuracy"] for result in self.evals.values() if _is_share(result)]
        return min(found, default=None)


def _is_share(result: Mapping[str, Any]) -> bool:
    return type(result.get("accuracy")) in {int, float}


def catalogue(library: Path, lock: Lock) -> tuple[CatalogVersion, ...]:
    """Return every version of lock and library, by client, task and version.

    Records that cannot be read are left out: nothing is decided by them.
    """
    return tuple(
        sorted(_entries(library, lock), key=lambda entry: (entry.client, entry.task, entry.version))
    )


def _entries(library: Path, lock: Lock) -> Iterator[CatalogVersion]:
    pinned = {
        (adapter.client, adapter.task, adapter.version): adapter
        for adapter in map(AdapterName.parse, lock.adapters)
    }
    for client, task, version, folder in versions(library):
        name = pinned.pop((client, task, version), None)
        training = _read(folder / TRAINING)
        base = name.base if name else training.get("base")
        yield CatalogVersion(
            client,
            task,
            version,
            folder,
            in_library=True,
            base=base if isinstance(base, str) else None,
            locked=lock.adapters[str(name)] if name else None,
            training=training,
            evals={path.stem: _read(path) for path in sorted((folder / EVALS).glob("*.json"))},
        )
    for name in pinned.values():
        yield CatalogVersion(
            name.client,
            name.task,
            name.version,
            version_folder(library, name),
            in_library=False,
            base=name.base,
            locked=lock.adapters[str(name)],
        )


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
