"""Hashes the files of folders of this machine that are brought to hosts."""

import asyncio
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from fleet.errors import EngineError
from runtime.store_paths import manifest_of


@dataclass(frozen=True, slots=True)
class SourceFolder:
    """The files of a folder of this machine, to be brought to hosts."""

    folder: Path
    manifest: str
    """The files with their digests, in the format of `sha256sum`."""
    size: int
    """Sum of the files. Bytes."""

    @classmethod
    def of(cls, folder: Path, names: Iterable[str], *, links: bool = False) -> Self:
        """Hash the files of these names, relative to the folder; `links` are followed if allowed.

        Raises:
            OSError: as `manifest_of`.
        """
        chosen = sorted(names)
        size = sum((folder / name).stat().st_size for name in chosen)
        return cls(folder, manifest_of(folder, chosen, links=links), size)

    @property
    def digest(self) -> str:
        """Digest of the folder; an adapter version's is that of `fleet.lock`."""
        return hashlib.sha256(self.manifest.encode()).hexdigest()

    @property
    def digests(self) -> dict[str, str]:
        """Digests of the files by name."""
        rows = (line.partition("  ") for line in self.manifest.splitlines())
        return {name: digest for digest, _, name in rows}

    @property
    def names(self) -> list[str]:
        """Names of the files."""
        return [*self.digests]


async def source_of(folder: Path, *, links: bool = False) -> SourceFolder:
    """Hash the files of a folder, without its folders; `links`: as `SourceFolder.of`.

    Raises:
        EngineError: FC4097, a file cannot be read.
    """

    def hashed() -> SourceFolder:
        names = [path.name for path in folder.iterdir() if path.is_file()]
        return SourceFolder.of(folder, names, links=links)

    try:
        return await asyncio.to_thread(hashed)
    except OSError as error:
        detail = f"`{error.filename or folder}` cannot be read: {error.strerror or error}."
        hint = "Let your user read the folder and its files, then run the command again."
        raise EngineError.of(
            "FC4097", "Files did not arrive on a host", detail, hint=hint
        ) from None
