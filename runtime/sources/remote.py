"""Defines sources: files that are read from any byte on, and the errors of a source."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from fleet.errors import LibraryError
from runtime.engines.protocol import DirectFile
from runtime.library.layout import EVALS, RECORDS, SERVED_FILES


class RemoteFile(NamedTuple):
    """A file of a version at its source."""

    name: str
    """Path in the version's folder: `adapter_config.json`, `evals/support.json`."""
    at: str
    """Place at the source: path, key or digest."""
    size: int | None
    """Bytes; None: the source does not say."""
    sha256: str
    """64 hex digits; empty: the source does not say."""
    mark: str = ""
    """Mark of the content (ETag), by which a later part of the file is of the same content."""


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of a version at its source."""

    pinned: str
    """Reference that means these bytes as surely as the source can say."""
    files: tuple[RemoteFile, ...]


class Reading(NamedTuple):
    """Bytes of a file as they arrive."""

    start: int
    """Byte that comes first: 0 where the source cannot begin at the byte that was asked for."""
    chunks: AsyncIterator[bytes]


class Source(Protocol):
    """Reads a version; closed after use."""

    async def listing(self) -> Listing:
        """Return the files.

        Raises:
            LibraryError: FC3051 to FC3054.
        """
        ...

    def reading(self, file: RemoteFile, start: int) -> AbstractAsyncContextManager[Reading]:
        """Read a file from byte `start` on.

        Raises:
            TransientError: an attempt failed that a later one may not.
            LibraryError: FC3051 to FC3054.
        """
        ...

    async def direct(self, file: RemoteFile) -> DirectFile | None:
        """Return where another machine reads a file; None: it would need a lasting login, or TLS.

        Raises:
            TransientError: an attempt failed that a later one may not.
            LibraryError: FC3051 to FC3054.
        """
        ...

    async def close(self) -> None:
        """Close connections."""
        ...


class TransientError(Exception):
    """An attempt failed that may succeed later."""

    def __init__(self, what: str, wait_s: float = 0.0) -> None:
        super().__init__(what)
        self.wait_s = wait_s
        """Seconds that the source asks to wait; 0: it does not say."""


def is_part_of_a_version(name: str) -> bool:
    """Say whether a version has such a file: the served files and the records."""
    folder, slash, file = name.partition("/")
    if slash:
        return folder == EVALS and file.endswith(".json") and "/" not in file
    return name in SERVED_FILES or (name in RECORDS and name != EVALS)


def unreachable(place: str, why: str) -> LibraryError:
    """Return the error of a source that gave no answer in several attempts."""
    detail = f"`{place}`: {why}."
    hint = "What has arrived is kept; the same command goes on from there."
    return LibraryError.of("FC3051", "Source cannot be reached", detail, hint=hint)


def refused(place: str, why: str, hint: str) -> LibraryError:
    """Return the error of a source that asks for a login or a right."""
    return LibraryError.of("FC3052", "Source refuses", f"`{place}`: {why}.", hint=hint)


def absent(place: str, what: str) -> LibraryError:
    """Return the error of a source without the version, or without a file of the version."""
    return LibraryError.of("FC3053", "Source has no such version", f"`{place}`: {what}.")


def differing(place: str, what: str) -> LibraryError:
    """Return the error of a source with other bytes than promised."""
    hint = "Nothing of it is in the library. Ask who wrote it there, or name another source."
    detail = f"`{place}`: {what}."
    return LibraryError.of("FC3054", "Bytes are not those of the source's word", detail, hint=hint)
