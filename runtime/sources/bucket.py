"""Reads a version from an object store that speaks S3: `s3://BUCKET/PREFIX`."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from typing import Any

from fleet.errors import LibraryError
from runtime.engines.protocol import DirectFile
from runtime.sources.reference import SourceReference
from runtime.sources.remote import (
    Listing,
    Reading,
    RemoteFile,
    TransientError,
    absent,
    is_part_of_a_version,
    refused,
)  # fmt: skip

_LOGIN = "Give credentials as for the AWS tools: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
_CHUNK = 1 << 18
_SIGNED_FOR = timedelta(hours=1)


class Bucket:
    """A prefix of a bucket; its endpoint and credentials are those of the AWS variables."""

    def __init__(self, reference: SourceReference) -> None:
        """Prepare.

        Raises:
            LibraryError: FC3055, the package for object stores is not installed.
        """
        try:
            import obstore  # noqa: PLC0415 (the extra `s3`)
            from obstore import exceptions, store  # noqa: PLC0415
        except ImportError:
            raise LibraryError.of(
                "FC3055",
                "Package for a source is missing",
                "`s3://` needs the package obstore.",
                hint="Install it beside fleetctl: pip install 'obstore>=0.6'",
            ) from None
        self._reference, self._obstore, self._errors = reference, obstore, exceptions
        self._store: Any = store.S3Store(reference.place)

    async def listing(self) -> Listing:
        """Return the files; their bytes are pinned by the lock alone."""
        prefix = f"{self._reference.path}/" if self._reference.path else ""
        found = list[RemoteFile]()
        try:
            async for page in self._obstore.list(self._store, prefix or None):
                found += [
                    RemoteFile(name, row["path"], row["size"], "", row["e_tag"] or "")
                    for row in page
                    if is_part_of_a_version(name := row["path"].removeprefix(prefix))
                ]
        except self._errors.BaseError as error:
            raise self._meaning(error, "its listing") from error
        return Listing(str(self._reference), tuple(found))

    def reading(self, file: RemoteFile, start: int) -> AbstractAsyncContextManager[Reading]:
        """Read a file from byte `start` on."""
        return self._reading(file, start)

    @asynccontextmanager
    async def _reading(self, file: RemoteFile, start: int) -> AsyncIterator[Reading]:
        options: Any = {"range": {"offset": start}} if start else {}
        if start and file.mark:
            options["if_match"] = file.mark
        try:
            answer = await self._obstore.get_async(self._store, file.at, options=options)
            yield Reading(start, _bytes(answer.stream(min_chunk_size=_CHUNK)))
        except self._errors.PreconditionError as error:
            raise absent(str(self._reference), f"`{file.name}` changes while it is read") from error
        except self._errors.BaseError as error:
            raise self._meaning(error, f"`{file.name}`") from error

    def _meaning(self, error: Exception, what: str) -> Exception:
        """Return the meaning of an error of the object store."""
        place, text = str(self._reference), str(error).splitlines()[0][:200]
        denied = (self._errors.PermissionDeniedError, self._errors.UnauthenticatedError)
        if isinstance(error, denied) or "status 403" in str(error):
            return refused(place, f"no access to {what}", _LOGIN)
        if isinstance(error, self._errors.NotFoundError):
            return absent(place, f"{what} is not there")
        return TransientError(text)

    async def direct(self, file: RemoteFile) -> DirectFile | None:
        """Return a signed URL of a file."""
        url = await self._obstore.sign_async(self._store, "GET", file.at, _SIGNED_FOR)
        return DirectFile(file.name, url, "") if url.startswith("https:") else None

    async def close(self) -> None:
        """Close nothing: the store keeps no connection that has to be closed."""


async def _bytes(stream: Any) -> AsyncIterator[bytes]:
    async for chunk in stream:
        yield bytes(chunk)
