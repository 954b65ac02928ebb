"""The digest that pins an adapter version."""

import hashlib
from pathlib import Path

from fleet.errors import LibraryError, problem
from runtime.library.layout import SERVED_FILES


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, 64 hex digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def folder_digest(folder: Path) -> str:
    """Return the digest of an adapter version: 64 hex digits.

    SHA-256 over one line `<sha256>  <file name>` per served file, in sorted order: the
    format of `sha256sum`, so that anybody can check it.

    Raises:
        LibraryError: a served file is missing or cannot be read.
    """
    lines = []
    for name in sorted(SERVED_FILES):
        try:
            lines.append(f"{file_digest(folder / name)}  {name}\n")
        except OSError as error:
            detail = f"`{folder / name}`: {error.strerror or error}."
            hint = f"A version's folder holds {' and '.join(SERVED_FILES)}."
            raise LibraryError(problem("FC3001", "Adapter file missing", detail, hint=hint)) from (
                error
            )
    return hashlib.sha256("".join(lines).encode()).hexdigest()
