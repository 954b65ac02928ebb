"""Compares the bytes in the library, and those that servers load, with the lock."""

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fleet.config import Lock
from fleet.errors import LibraryError
from fleet.names import AdapterName
from runtime.library.layout import folder_digest, version_folder, versions
from runtime.library.served_copies import wrong_with


@dataclass(frozen=True, slots=True)
class VersionCheck:
    """How one version stands: its bytes are as pinned, others, gone, or not pinned at all."""

    name: str
    """Full name; `client-task-v1.0.0` of a version that is not in the lock."""
    state: Literal["ok", "changed", "missing", "unlocked"]
    folder: Path
    detail: str = ""
    served: bool = False
    """The copy that servers load from, not the original in the library."""

    @property
    def fine(self) -> bool:
        """Whether nothing contradicts the lock."""
        return self.state in {"ok", "unlocked"}


def verify(
    library: Path, lock: Lock, names: Iterable[str] = (), store: Path | None = None
) -> tuple[VersionCheck, ...]:
    """Hash the served files of versions and compare them with the lock.

    Args:
        library: The library's folder.
        lock: What is pinned.
        names: Full names to look at; none: all, and what lies in the library unpinned.
        store: Folder of the copies that servers load from; those that there are get a
            verdict of their own.

    Raises:
        KeyError: a name is not in the lock.
    """
    chosen = sorted(names)
    wanted = [(name, lock.adapters[name].digest) for name in chosen or sorted(lock.adapters)]
    with ThreadPoolExecutor(max_workers=min(32, (os.cpu_count() or 1) + 4)) as pool:
        found = list(pool.map(lambda pin: _check_version(library, *pin), wanted))
        if store:
            here = [pin for pin in wanted if (store / pin[1]).is_dir()]
            found += pool.map(lambda pin: _check_copy(store, *pin), here)
    extra = () if chosen else _unlocked(library, lock)
    return (*found, *extra)


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


def _check_copy(store: Path, name: str, digest: str) -> VersionCheck:
    wrong = wrong_with(store / digest, digest)
    if not wrong:
        return VersionCheck(name, "ok", store / digest, served=True)
    detail = f"the copy that servers load from {wrong}; `fleetctl reconcile --once` repairs it"
    return VersionCheck(name, "changed", store / digest, detail, served=True)


def _unlocked(library: Path, lock: Lock) -> Iterator[VersionCheck]:
    pinned = {
        (adapter.client, adapter.task, adapter.version)
        for adapter in map(AdapterName.parse, lock.adapters)
    }
    for client, task, version, folder in versions(library):
        if (client, task, version) not in pinned:
            yield VersionCheck(
                f"{client}-{task}-v{version}", "unlocked", folder, "it is not in the lock"
            )
