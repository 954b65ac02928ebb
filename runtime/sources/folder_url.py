"""Reads a version from a folder of a web server: `https://HOST/FOLDER/`."""

from contextlib import AbstractAsyncContextManager

from runtime.engines.protocol import DirectFile
from runtime.library.layout import RECORDS, SERVED_FILES
from runtime.sources.http import HttpSource, base_url, netrc_login
from runtime.sources.reference import SourceReference
from runtime.sources.remote import (
    Listing,
    Reading,
    RemoteFile,
    is_part_of_a_version,
)

_LOGIN = "Put the login of the host into ~/.netrc."


class FolderUrl:
    """A folder without a listing: a file is there if the server says so."""

    def __init__(self, reference: SourceReference) -> None:
        self._reference = reference
        self._url = f"{base_url(reference.place)}/{reference.path}"
        self._http = HttpSource(str(reference), _LOGIN, netrc_login())

    async def listing(self) -> Listing:
        """Return the files; their bytes are pinned by the lock alone."""
        names = [name for name in (*SERVED_FILES, *RECORDS) if is_part_of_a_version(name)]
        found = [await self._file(name) for name in names]
        files = tuple(file for file in found if file is not None)
        return Listing(str(self._reference), files)

    async def _file(self, name: str) -> RemoteFile | None:
        url = f"{self._url}/{name}"
        answer = await self._http.asked("HEAD", url, headers={"Accept-Encoding": "identity"})
        if answer.status_code in (404, 410):
            return None
        self._http.check(answer, url)
        size = answer.headers.get("content-length", "")
        etag = answer.headers.get("etag", "")
        return RemoteFile(name, url, int(size) if size.isdigit() else None, "", etag)

    def reading(self, file: RemoteFile, start: int) -> AbstractAsyncContextManager[Reading]:
        """Read a file from byte `start` on."""
        return self._http.reading(file.at, start, file.mark)

    async def direct(self, file: RemoteFile) -> DirectFile | None:
        """Return where another machine reads a file."""
        return await self._http.direct(file.name, file.at)

    async def close(self) -> None:
        """Close connections."""
        await self._http.close()
