"""Asks sources over HTTP: a meaning for every status, ranges for what is missing."""

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
from httpx import codes

from fleet.codec import decode_json
from runtime.engines.protocol import DirectFile
from runtime.library.layout import RECORDS, SERVED_FILES
from runtime.sources.reference import SourceReference
from runtime.sources.remote import (
    Listing,
    Reading,
    RemoteFile,
    TransientError,
    absent,
    is_part_of_a_version,
    refused,
)

_TIMEOUT: Final = httpx.Timeout(30.0, connect=10.0)
_LARGEST: Final = 16 << 20
"""Upper bound of a document that is no file of a version. Bytes."""
_CHUNK: Final = 1 << 18
_LOOPBACK: Final = re.compile(r"localhost|127(?:\.\d+){3}|::1")


def base_url(host: str) -> str:
    """Return the URL of a host: TLS, but on this machine."""
    return f"http://{host}" if is_confidential(f"http://{host}") else f"https://{host}"


def is_confidential(url: str) -> bool:
    """Say whether a URL is asked by TLS, or on this machine: a login may go there."""
    parts = urlsplit(url)
    here = parts.scheme == "http" and _LOOPBACK.fullmatch(parts.hostname or "")
    return parts.scheme == "https" or bool(here)


def netrc_login() -> httpx.Auth | None:
    """Return the logins of ~/.netrc; None: there is no such file."""
    file = Path.home() / ".netrc"
    return httpx.NetRCAuth(str(file)) if file.is_file() else None


class HttpSource:
    """Client of a source's host."""

    def __init__(self, place: str, hint: str, auth: httpx.Auth | None = None) -> None:
        """`place`: name of the source in errors. `hint`: how to give credentials."""
        self.place, self._hint = place, hint
        self.client = httpx.AsyncClient(
            auth=auth,
            timeout=_TIMEOUT,
            follow_redirects=True,
            headers={"User-Agent": "fleetctl"},
            event_hooks={"request": [self._require_confidential]},
        )

    async def close(self) -> None:
        """Close connections."""
        await self.client.aclose()

    async def _require_confidential(self, request: httpx.Request) -> None:
        """Refuse to ask another machine without TLS, also after a redirect."""
        if not is_confidential(str(request.url)):
            hint = "Name a source with TLS."
            raise refused(self.place, f"{request.url} is asked without TLS", hint)

    async def asked(
        self,
        method: str,
        url: str,
        content: bytes | AsyncIterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """Return the answer to a request, whatever its status.

        Raises:
            TransientError: there was none.
        """
        try:
            return await self.client.request(method, url, content=content, headers=headers)
        except httpx.HTTPError as error:
            raise TransientError(str(error) or type(error).__name__) from error

    def check(self, answer: httpx.Response, what: str) -> None:
        """Raise the error of a status; a success passes."""
        status = answer.status_code
        if status in (codes.UNAUTHORIZED, codes.FORBIDDEN):
            raise refused(self.place, f"status {status} for {what}", self._hint)
        if status in (codes.NOT_FOUND, codes.GONE):
            raise absent(self.place, f"{what} is not there (status {status})")
        if status == codes.TOO_MANY_REQUESTS or answer.is_server_error:
            wait = answer.headers.get("retry-after", "")
            raise TransientError(f"status {status}", float(wait) if wait.isdigit() else 0.0)
        if not answer.is_success:
            raise absent(self.place, f"status {status} for {what}")

    async def document(self, url: str, headers: Mapping[str, str] | None = None) -> httpx.Response:
        """Return a document of 16 MiB at most.

        Raises:
            TransientError: an attempt failed that a later one may not.
            LibraryError: FC3052 or FC3053.
        """
        try:
            async with self.client.stream("GET", url, headers=headers) as answer:
                self.check(answer, url)
                size, body = 0, list[bytes]()
                async for chunk in answer.aiter_bytes():
                    size += len(chunk)
                    if size > _LARGEST:
                        raise absent(self.place, f"{url} is no such document: it is too large")
                    body.append(chunk)
        except httpx.HTTPError as error:
            raise TransientError(str(error) or type(error).__name__) from error
        found = httpx.Response(answer.status_code, headers=answer.headers, request=answer.request)
        found._content = b"".join(body)  # noqa: SLF001 (decoded already)
        return found

    def decoded(self, answer: httpx.Response) -> Any:
        """Return the JSON of a document."""
        try:
            return decode_json(answer.content)
        except ValueError as error:
            raise absent(self.place, f"{answer.url} is not JSON") from error

    async def direct(self, name: str, url: str, *, ends: bool = False) -> DirectFile | None:
        """Return where another machine reads a file, redirects followed.

        `ends`: a token of this source ends soon, and may be handed on; a login never may.

        Raises:
            TransientError: an attempt failed that a later one may not.
            LibraryError: FC3052 or FC3053.
        """
        try:  # a byte is enough to be led to the file
            async with self.client.stream("GET", url, headers={"Range": "bytes=0-0"}) as answer:
                self.check(answer, url)
        except httpx.HTTPError as error:
            raise TransientError(str(error) or type(error).__name__) from error
        last = answer.request
        right = last.headers.get("authorization", "")
        if last.url.scheme != "https" or (right and not (ends and right.startswith("Bearer "))):
            return None
        return DirectFile(name, str(last.url), right)

    @asynccontextmanager
    async def reading(self, url: str, start: int, mark: str = "") -> AsyncIterator[Reading]:
        """Read the bytes of `url` from `start` on; from 0 where it has changed, or cannot be cut.

        Raises:
            TransientError: an attempt failed that a later one may not.
            LibraryError: FC3052 or FC3053.
        """
        headers = {"Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
            if mark and not mark.startswith("W/"):
                headers["If-Range"] = mark
        try:
            async with self.client.stream("GET", url, headers=headers) as answer:
                self.check(answer, url)
                first = start if answer.status_code == codes.PARTIAL_CONTENT else 0
                yield Reading(first, answer.aiter_raw(_CHUNK))
        except httpx.HTTPError as error:
            raise TransientError(str(error) or type(error).__name__) from error


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
