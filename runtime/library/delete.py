"""Deletes folders: moved aside in a single step first, so that no folder is ever incomplete.

`fleet.rules.retention` decides which folders are unused. Safe to repeat after a
crash at any point.
"""

import shutil
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from fleet.config import Lock
from fleet.errors import LibraryError
from fleet.names import AdapterName
from runtime.files import FOLDER
from runtime.library.add import update_lock
from runtime.library.layout import version_folder
from runtime.state_folder import digest_of_copy, source_name

ASIDE = ".removed-"


def copies(store: Path) -> tuple[str, ...]:
    """Return the names of the served copies in a store, sorted."""
    if not store.is_dir():
        return ()
    return tuple(sorted(path.name for path in store.iterdir() if path.name[0] != "."))


def size(folder: Path) -> int:
    """Return the bytes of all files in a folder; 0 where there is none."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def remove_copy(store: Path, name: str) -> None:
    """Delete a served copy.

    Raises:
        LibraryError: the copy cannot be deleted.
    """
    delete_folder(_aside(store / name))
    digest = digest_of_copy(name)
    if digest and not any(digest_of_copy(other) == digest for other in copies(store)):
        (store / source_name(digest)).unlink(missing_ok=True)


def remove_version(library: Path, root: Path, name: AdapterName) -> None:
    """Delete a version from the library and its line from the lock.

    Raises:
        LibraryError: the version cannot be deleted, or the lock cannot be written.
    """
    aside: Path | None = None

    def change(lock: Lock) -> Lock:
        nonlocal aside
        # A crash after this leaves a lock line without a folder; the next run deletes the line.
        aside = _aside(version_folder(library, name))
        return lock.without_adapter(name)

    update_lock(root, change)
    delete_folder(aside)


def clear(folders: Iterable[Path]) -> None:
    """Delete the folders that a killed run moved aside in these folders."""
    for folder in folders:
        for path in folder.glob(f"{ASIDE}*"):
            delete_folder(path)


def _aside(folder: Path) -> Path | None:
    if not folder.exists():
        return None
    try:
        aside = Path(tempfile.mkdtemp(prefix=ASIDE, dir=folder.parent)) / folder.name
        # Moving a folder changes its entry `..`, and so needs write permission.
        folder.chmod(FOLDER)
        folder.rename(aside)
    except OSError as error:
        raise _failed(folder, error) from error
    return aside.parent


def delete_folder(folder: Path | None) -> None:
    """Delete a folder with its read-only folders; None and a folder that is gone are fine.

    Raises:
        LibraryError: a file cannot be deleted.
    """
    if folder is None:
        return
    try:
        for path in (folder, *folder.rglob("*")):
            if path.is_dir() and not path.is_symlink():
                path.chmod(FOLDER)
        with suppress(FileNotFoundError):  # another run clears up, too
            shutil.rmtree(folder)
    except OSError as error:
        raise _failed(folder, error) from error


def _failed(folder: Path, error: OSError) -> LibraryError:
    detail = f"`{error.filename or folder}`: {error.strerror or error}."
    hint = "See to its permissions and run the command again; it goes on from there."
    return LibraryError.of("FC3020", "A folder cannot be deleted", detail, hint=hint)
