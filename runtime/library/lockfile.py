"""The lock file on disk: read, and changed by one writer at a time."""

import fcntl
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile

from fleet.config import LOCK_FILE, Lock, lock_text, parse_lock
from fleet.errors import LibraryError, problem


def read_lock(root: Path) -> Lock:
    """Return the lock of the project in `root`; an empty one where there is none.

    Raises:
        ConfigError: it is no lock.
        LibraryError: it cannot be read.
    """
    path = root / LOCK_FILE
    try:
        return parse_lock(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Lock()
    except (OSError, UnicodeDecodeError) as error:
        detail = f"`{path}`: {(isinstance(error, OSError) and error.strerror) or error}."
        raise LibraryError(problem("FC3019", "Lock cannot be read or written", detail)) from error


def update_lock(root: Path, change: Callable[[Lock], Lock]) -> Lock:
    """Change the lock while no other process does, and return what stands in it now.

    Written by renaming a finished file into place, so that a reader sees the old or the new
    one; not written at all when nothing changes. `change` may raise, which leaves everything
    as it was.

    Raises:
        LibraryError: the file cannot be read or written.
    """
    try:
        guard = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        detail = f"`{root}`: {error.strerror}."
        raise LibraryError(problem("FC3019", "Lock cannot be read or written", detail)) from error
    try:
        # The folder is locked, not the file: the file is another one after each change.
        fcntl.flock(guard, fcntl.LOCK_EX)
        before = read_lock(root)
        after = change(before)
        if after != before:
            _write(root / LOCK_FILE, lock_text(after))
            os.fsync(guard)
        return after
    finally:
        os.close(guard)


def _write(path: Path, text: str) -> None:
    made = None
    try:
        with NamedTemporaryFile(
            "w", dir=path.parent, prefix=f".{path.name}.", delete=False, encoding="utf-8"
        ) as file:
            made = Path(file.name)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        made.chmod(0o644)
        made.replace(path)
    except OSError as error:
        if made is not None:
            with suppress(OSError):
                made.unlink()
        detail = f"`{path}`: {error.strerror or error}."
        raise LibraryError(problem("FC3019", "Lock cannot be read or written", detail)) from error
