"""The catalogue of versions in lock and library, and the comparison of their bytes."""

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from fleet.codec import decode_json
from fleet.config import Lock, LockedAdapter
from fleet.errors import LibraryError
from fleet.names import AdapterName, Version
from runtime.files import read_plain
from runtime.library.layout import (
    EVALS,
    TRAINING,
    copies_of,
    folder_digest,
    version_folder,
    versions,
)
from runtime.library.served_copies import wrong_with
from runtime.state_folder import digest_of_copy


@dataclass(frozen=True, slots=True)
class CatalogVersion:
    """A version with its records."""

    client: str
    task: str
    version: Version
    folder: Path
    in_library: bool
    base: str | None
    """From the lock, else from the training record; None: in neither."""
    locked: LockedAdapter | None
    training: Mapping[str, Any] = field(default_factory=dict)
    """`training.json`; empty if there is none."""
    evals: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Results by the name of their file in `evals/`."""

    @property
    def name(self) -> str:
        """The full name; without the base while that is unknown."""
        if self.base is None:
            return f"{self.client}-{self.task}-v{self.version}"
        return str(AdapterName(self.client, self.task, self.base, self.version))

    @property
    def accuracy(self) -> float | None:
        """The lowest accuracy over all results, 0 to 1; None: never evaluated."""
        numbers = (int, float)
        accuracies = [result.get("accuracy", "") for result in self.evals.values()]
        return min((value for value in accuracies if type(value) in numbers), default=None)


def catalogue(library: Path, lock: Lock) -> tuple[CatalogVersion, ...]:
    """Return every version of lock and library, by client, task and version.

    Records that cannot be read are left out: nothing is decided by them.
    """
    entries = _entries(library, lock)
    return tuple(sorted(entries, key=lambda entry: (entry.client, entry.task, entry.version)))


def _entries(library: Path, lock: Lock) -> Iterator[CatalogVersion]:
    pinned = _pinned(lock)
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


def _pinned(lock: Lock) -> dict[tuple[str, str, Version], AdapterName]:
    names = map(AdapterName.parse, lock.adapters)
    return {(name.client, name.task, name.version): name for name in names}


def _read(path: Path) -> dict[str, Any]:
    try:
        record = decode_json(read_plain(path))
    except (OSError, ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


@dataclass(frozen=True, slots=True)
class VersionCheck:
    """The state of a version: bytes as pinned, other bytes, missing, not pinned, not as signed."""

    name: str
    """Full name; `client-task-v1.0.0` if the version is not in the lock."""
    state: Literal["ok", "changed", "missing", "unlocked", "unproven"]
    folder: Path
    detail: str = ""
    served: bool = False
    """True: the copy that servers load from, not the original in the library."""

    @property
    def fine(self) -> bool:
        """Whether nothing contradicts the lock."""
        return self.state in {"ok", "unlocked"}


def verify(
    library: Path, lock: Lock, names: Iterable[str] = (), store: Path | None = None
) -> tuple[VersionCheck, ...]:
    """Hash the served files of versions and compare them with the lock.

    Without `names`, all versions are checked, and unpinned versions of the library. Every copy in
    the `store`, which servers load from, gets a check of its own.

    Raises:
        KeyError: a name is not in the lock.
    """
    chosen = sorted(names)
    pins = [(name, lock.adapters[name].digest) for name in chosen or sorted(lock.adapters)]
    with ThreadPoolExecutor() as pool:
        checks = list(pool.map(lambda pin: _check_version(library, *pin), pins))
        if store:
            copied = [(name, copy) for name, digest in pins for copy in copies_of(digest, store)]
            checks += pool.map(lambda pin: _check_copy(*pin), copied)
    return (*checks, *(() if chosen else _unlocked(library, lock)))


def _check_version(library: Path, name: str, digest: str) -> VersionCheck:
    folder = version_folder(library, AdapterName.parse(name))
    if not folder.is_dir():
        return VersionCheck(name, "missing", folder, "it is not in the library")
    try:
        found = folder_digest(folder)
    except LibraryError as error:
        return VersionCheck(name, "missing", folder, error.diagnostics[0].detail)
    if found != digest:
        detail = f"its digest is {found[:12]}, the lock pins {digest[:12]}"
        return VersionCheck(name, "changed", folder, detail)
    return VersionCheck(name, "ok", folder)


def _check_copy(name: str, copy: Path) -> VersionCheck:
    wrong = wrong_with(copy, digest_of_copy(copy.name) or "")
    if not wrong:
        return VersionCheck(name, "ok", copy, served=True)
    detail = (
        f"the copy that servers load from {wrong}; `fleetctl reconcile --once` repairs it where a "
        "server lists it, `fleetctl gc` deletes it where none does"
    )
    return VersionCheck(name, "changed", copy, detail, served=True)


def _unlocked(library: Path, lock: Lock) -> Iterator[VersionCheck]:
    pinned = _pinned(lock)
    for client, task, version, folder in versions(library):
        if (client, task, version) not in pinned:
            name = f"{client}-{task}-v{version}"
            yield VersionCheck(name, "unlocked", folder, "it is not in the lock")
