"""Brings the files of a source here: resumed, checked, four at a time."""

import asyncio
import errno
import hashlib
import os
import shutil
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from io import FileIO
from pathlib import Path
from typing import Final, Protocol, TypeVar

from fleet.errors import LibraryError
from runtime.files import make_private, sync
from runtime.library.layout import SERVED_FILES
from runtime.sources.remote import (
    Listing,
    RemoteFile,
    Source,
    TransientError,
    absent,
    differing,
    unreachable,
)  # fmt: skip

AT_A_TIME: Final = 4
PAUSES_S: Final = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Pauses between attempts without progress, where the source asks for none."""
_LONGEST_WAIT_S: Final = 60.0
_LARGEST: Final = 64 << 30
"""Upper bound of a file whose size no source says. Bytes."""
_SPARE: Final = 1 << 20
"""Room that a version leaves on the disk for ledger and routing table. Bytes."""
_CHUNK: Final = 1 << 20
_PART: Final = ".part"
Found = TypeVar("Found")


class Report(Protocol):
    """Told of the bytes that have arrived, and of all that are known to come."""

    def __call__(self, done: int, total: int) -> None:
        """Take the figures."""
        ...


async def listed(source: Source, place: str, pauses_s: Sequence[float] = PAUSES_S) -> Listing:
    """Return the listing of a source, asked again after a failure that may pass.

    Raises:
        LibraryError: FC3051 to FC3054.
    """
    listing = await repeated(source.listing, place, pauses_s)
    names = {file.name for file in listing.files}
    if missing := [name for name in SERVED_FILES if name not in names]:
        raise absent(listing.pinned, f"`{missing[0]}` is not among its files")
    return listing


async def bring(
    source: Source,
    listing: Listing,
    folder: Path,
    report: Report,
    pauses_s: Sequence[float] = PAUSES_S,
) -> None:
    """Bring the files of a listing into `folder`; parts that are there already are kept.

    A file stands under its name only when it is whole and its bytes are those promised. Nothing is
    brought to a disk without room for the version, and for its copy in the library.

    Raises:
        LibraryError: FC3051 to FC3054, or FC3003, there is no room on the disk.
    """
    make_private(folder)
    total, done = sum(file.size or 0 for file in listing.files), dict[str, int]()
    if (missing := _missing(folder, total)) > 0:
        raise _no_room(folder, os.strerror(errno.ENOSPC), missing)
    places = asyncio.Semaphore(AT_A_TIME)

    def told(name: str, size: int) -> None:
        done[name] = size
        report(sum(done.values()), max(total, sum(done.values())))

    async def one(file: RemoteFile) -> None:
        async with places:
            transfer = _Transfer(source, file, folder, listing.pinned)
            await transfer.run(partial(told, file.name), pauses_s)

    failed: BaseException | None = None
    try:
        async with asyncio.TaskGroup() as tasks:
            for file in listing.files:
                tasks.create_task(one(file))
    except* (LibraryError, OSError) as errors:
        failed = errors.exceptions[0]
    if failed is not None:
        raise _told_of(failed, folder, total)


def _told_of(failed: BaseException, folder: Path, total: int) -> BaseException:
    """Return the error of the first file that failed."""
    if not isinstance(failed, OSError):
        return failed
    missing = _missing(folder, total) if failed.errno == errno.ENOSPC else 0
    return _no_room(failed.filename or folder, failed.strerror or str(failed), missing)


def _missing(folder: Path, total: int) -> int:
    """Return the bytes that the disk lacks for a version that arrives, and for its copy."""
    arrived = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return 2 * total - arrived + _SPARE - shutil.disk_usage(folder).free


def _no_room(place: Path | str, why: str, missing: int) -> LibraryError:
    needed = f" {missing} bytes more are needed." if missing > 0 else ""
    detail = f"`{place}`: {why}.{needed}"
    hint = "What has arrived is kept; make room, then repeat."
    return LibraryError.of("FC3003", "Adapter cannot be copied", detail, hint=hint)


class _Transfer:
    """A file on its way here."""

    def __init__(self, source: Source, file: RemoteFile, folder: Path, place: str) -> None:
        self._source, self._file, self._place = source, file, place
        self._target = folder / file.name
        self._part = self._target.with_name(self._target.name + _PART)
        self._limit = _LARGEST if file.size is None else file.size
        self._digest = hashlib.sha256()
        self.size = 0
        """Bytes that have arrived."""

    async def run(self, told: Callable[[int], None], pauses_s: Sequence[float]) -> None:
        """Bring the rest of the file, and give the file its name."""
        self._target.parent.mkdir(exist_ok=True)
        if self._target.exists():
            told(self._target.stat().st_size)
            return
        was_there = await asyncio.to_thread(self._take_up)
        await repeated(lambda: self._attempt(told), self._place, pauses_s, lambda: self.size)
        if self._file.sha256 not in ("", self._digest.hexdigest()):
            self._part.unlink()
            if not was_there:
                what = f"`{self._file.name}` has other bytes than its digest says"
                raise differing(self._place, what)
            await self.run(told, pauses_s)  # the part that was there may be what is wrong
            return
        sync(self._part)
        self._part.rename(self._target)

    def _take_up(self) -> bool:
        """Take up the part of an earlier attempt; say whether there was a part."""
        self._digest, self.size = hashlib.sha256(), 0
        self._part.touch()
        if self._part.stat().st_size > self._limit:
            os.truncate(self._part, 0)
        with self._part.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                self._digest.update(chunk)
                self.size += len(chunk)
        return self.size > 0

    async def _attempt(self, told: Callable[[int], None]) -> None:
        file = self._file
        if self.size and self.size == file.size:
            return
        async with self._source.reading(file, self.size) as (start, chunks):
            with self._part.open("r+b", buffering=0) as stream:
                if start != self.size:
                    self._digest, self.size = hashlib.sha256(), 0
                    stream.truncate(0)
                stream.seek(self.size)
                async for chunk in chunks:
                    if self.size + len(chunk) > self._limit:
                        stream.truncate(0)
                        what = f"`{file.name}` is larger than {self._limit} bytes"
                        raise differing(self._place, what)
                    _write_whole(stream, chunk)
                    self._digest.update(chunk)
                    self.size += len(chunk)
                    told(self.size)
        if file.size is not None and self.size < file.size:
            told_size = f"{self.size} of {file.size} bytes"
            raise TransientError(f"`{file.name}` ended after {told_size}")


def _write_whole(stream: FileIO, chunk: bytes) -> None:
    """Write all of a chunk; a disk that becomes full takes a part of it without an error."""
    rest = memoryview(chunk)
    while rest:
        rest = rest[stream.write(rest) :]


async def repeated(
    attempt: Callable[[], Awaitable[Found]],
    place: str,
    pauses_s: Sequence[float],
    progress: Callable[[], int] = lambda: 0,
) -> Found:
    """Repeat an attempt; as many failures in a row as there are pauses pass, if nothing arrives."""
    failed, before = 0, progress()
    while True:
        try:
            return await attempt()
        except TransientError as error:
            failed = 0 if progress() > before else failed
            before = progress()
            if failed == len(pauses_s):
                raise unreachable(place, f"{error}, after {failed + 1} attempts") from error
            await asyncio.sleep(min(error.wait_s, _LONGEST_WAIT_S) or pauses_s[failed])
            failed += 1
