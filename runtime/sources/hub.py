"""Reads a version from a repository of the Hugging Face Hub: `hf://ORG/REPOSITORY@COMMIT`."""

import re
from contextlib import AbstractAsyncContextManager
from typing import Any
from urllib.parse import quote

from runtime.engines.protocol import DirectFile
from runtime.sources.http import HttpSource
from runtime.sources.reference import SourceReference
from runtime.sources.remote import Listing, Reading, RemoteFile, absent, is_part_of_a_version

ENDPOINT = "https://huggingface.co"
_LOGIN = "Set HF_TOKEN to a token that may read the repository."
_PAGES = 100
"""Upper bound of the pages of a listing that are read."""


class HubRepository:
    """A repository at a commit; a branch or a tag is resolved when it is listed."""

    def __init__(self, reference: SourceReference, endpoint: str, token: str = "") -> None:
        self._reference, self._endpoint = reference, endpoint.rstrip("/")
        self._http = HttpSource(str(reference), _LOGIN)
        if token:
            self._http.client.headers["Authorization"] = f"Bearer {token}"

    async def listing(self) -> Listing:
        """Return the files of the commit; large ones with their digest."""
        reference = self._reference
        api = f"{self._endpoint}/api/models/{reference.place}"
        commit = reference.digest or await self._commit(
            f"{api}/revision/{reference.version or 'main'}"
        )
        folder = f"{reference.path}/" if reference.path else ""
        found, url = list[RemoteFile](), f"{api}/tree/{commit}/{quote(reference.path)}?recursive=1"
        for _ in range(_PAGES):
            answer = await self._http.document(url)
            rows = self._http.decoded(answer)
            found += [file for row in rows if (file := self._file(row, folder, commit)) is not None]
            url = answer.links.get("next", {}).get("url", "")
            if not url:
                break
        return Listing(str(reference.pinned(commit)), tuple(found))

    async def _commit(self, url: str) -> str:
        found = self._http.decoded(await self._http.document(url))
        commit = found.get("sha") if isinstance(found, dict) else None
        if not isinstance(commit, str) or re.fullmatch(r"[0-9a-f]{40}", commit) is None:
            raise absent(str(self._reference), "its revision names no commit")
        return commit

    def _file(self, row: Any, folder: str, commit: str) -> RemoteFile | None:
        match row:
            case {"type": "file", "path": str(path), "size": int(size)} if path.startswith(folder):
                name = path.removeprefix(folder)
            case _:
                return None
        if not is_part_of_a_version(name):
            return None
        match row:
            case {"lfs": {"oid": str(sha256), "size": int(size)}}:
                pass
            case _:
                sha256 = ""  # of a small file the Hub tells Git's digest alone; the lock pins it
        url = f"{self._endpoint}/{self._reference.place}/resolve/{commit}/{quote(path)}"
        return RemoteFile(name, url, size, sha256.removeprefix("sha256:"))

    def reading(self, file: RemoteFile, start: int) -> AbstractAsyncContextManager[Reading]:
        """Read a file from byte `start` on."""
        return self._http.reading(file.at, start)

    async def direct(self, file: RemoteFile) -> DirectFile | None:
        """Return where another machine reads a file."""
        return await self._http.direct(file.name, file.at)

    async def close(self) -> None:
        """Close connections."""
        await self._http.close()
