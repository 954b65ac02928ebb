"""Chooses the folder from which vLLM reads an adapter, by the bytes. Needs Python alone."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from .adapters import SERVED_FILES, UntrustedAdapterError, folder_digest

_COPY = re.compile(r"([0-9a-f]{64})(?:-[0-9]{1,9})?")
_ATTEMPTS = 3
"""Reads of an adapter whose files change while they are read."""
Adapter = TypeVar("Adapter")


class CheckedReads:
    """Reads adapters from folders that hold the promised bytes.

    The folder of a served copy is named by the digest of its bytes. vLLM reads it again after every
    eviction, perhaps weeks after fleetctl has hashed it. Unchanged files are not hashed again.
    """

    def __init__(self) -> None:
        self._good: dict[str, tuple[int, ...]] = {}
        """State of the files of folders when their bytes were right."""

    def read(self, folder: str, load: Callable[[str], Adapter]) -> Adapter:
        """Return the adapter that `load` reads, from the folder or from another of its bytes.

        Those are the other copies beside it, then the version in the library. A folder that no
        digest names is read as it is: fleetctl's drift names such an adapter.

        Raises:
            UntrustedAdapterError: no folder has the bytes.
        """
        match = _COPY.fullmatch(Path(folder).name)
        if match is None:
            return load(folder)
        for _ in range(_ATTEMPTS):
            found = self._right(Path(folder), match[1])
            adapter = load(found)
            if self._good.get(found) == _files(Path(found)):
                return adapter
        raise UntrustedAdapterError(f"{folder} changes while it is read")

    def _right(self, folder: Path, digest: str) -> str:
        for candidate in _candidates(folder, digest):
            files = _files(candidate)
            if files is None:
                continue
            if self._good.get(str(candidate)) == files:
                return str(candidate)
            try:
                if folder_digest(candidate) != digest:
                    continue
            except OSError:
                continue
            self._good[str(candidate)] = files
            return str(candidate)
        raise UntrustedAdapterError(f"{folder} is gone or has other bytes, and so has every other")


def _candidates(folder: Path, digest: str) -> Iterator[Path]:
    yield folder
    yield from sorted(
        path for path in folder.parent.glob(f"{digest}*") if _COPY.fullmatch(path.name)
    )
    yield folder.parent / f".source-{digest}"  # a link that fleetctl keeps


def _files(folder: Path) -> tuple[int, ...] | None:
    """Return numbers that change with the files of a folder; None: the files are not there."""
    try:
        states = [(folder / name).stat() for name in SERVED_FILES]
    except OSError:
        return None
    return tuple(
        number
        for state in states
        for number in (
            state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns
        )
    )  # fmt: skip
