"""Content-addressed, read-only copies that servers load from.

A server re-reads an evicted adapter from its folder, and a changed or deleted folder can
change answers or kill it. So it never sees the library itself: it gets a copy whose path
is its digest and whose files nobody can write.
"""

from pathlib import Path

from fleet.errors import LibraryError, problem
from runtime.library.copying import READ_ONLY_FOLDER, copy_file, moved_into_place
from runtime.library.digest import folder_digest
from runtime.library.layout import SERVED_FILES


def publish(version: Path, digest: str, store: Path) -> Path:
    """Return the read-only copy of an adapter version, making it if there is none.

    The copy, which is what a server reads, is hashed again each time: a load is where a
    changed byte must be caught. Atomic: a copy is complete or absent.

    Args:
        version: The version's folder in the library; may be gone once a copy exists.
        digest: What the lock pins; 64 hex digits.
        store: Folder of all copies.

    Raises:
        LibraryError: the bytes are not those that the lock pins, or cannot be copied.
    """
    target = store / digest
    if not target.is_dir():
        _expect(version, digest, "A version is immutable: restore it, or add it as a new one.")
        try:
            with moved_into_place(target) as scratch:
                for name in SERVED_FILES:
                    copy_file(version / name, scratch / name)
                scratch.chmod(READ_ONLY_FOLDER)
                _expect(scratch, digest, "It changed while it was being copied; try again.")
        except OSError as error:
            detail = f"`{error.filename or target}`: {error.strerror or error}."
            raise LibraryError(problem("FC3003", "Adapter cannot be copied", detail)) from error
    _expect(target, digest, "The served copy has been changed; delete it, and apply again.")
    return target


def _expect(folder: Path, digest: str, remedy: str) -> None:
    found = folder_digest(folder)
    if found != digest:
        raise LibraryError(
            problem(
                "FC3002",
                "Adapter bytes are not those of the lock",
                f"`{folder}` has digest {found[:12]}, the lock pins {digest[:12]}. {remedy}",
                command="fleetctl adapter verify",
            )
        )
