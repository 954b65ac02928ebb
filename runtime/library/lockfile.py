"""The lock file on disk: read, and changed by one writer at a time."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from fleet.config import LOCK_FILE, Lock, lock_text, parse_lock
from fleet.errors import LibraryError, problem
from runtime.files import PUBLIC, locked_folder, replace_file


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
        reason = isinstance(error, OSError) and error.strerror
        raise _failed(path, reason or str(error)) from error


def update_lock(root: Path, change: Callable[[Lock], Lock]) -> Lock:
    """Change the lock while no other process does, and return what stands in it now.

    Written by renaming a finished file into place, so that a reader sees the old or the new
    one; not written at all when nothing changes. `change` may raise, which leaves everything
    as it was.

    Raises:
        LibraryError: the file cannot be read or written.
    """
    path = root / LOCK_FILE
    with ExitStack() as stack:
        try:
            # The folder is locked, not the file: the file is another one after each change.
            stack.enter_context(locked_folder(root))
        except OSError as error:
            raise _failed(root, error.strerror) from error
        before = read_lock(root)
        after = change(before)
        if after != before:
            try:
                replace_file(path, lock_text(after).encode(), PUBLIC, exact=True)
            except OSError as error:
                raise _failed(path, error.strerror or str(error)) from error
        return after


def _failed(path: Path, reason: str | None) -> LibraryError:
    return LibraryError(problem("FC3019", "Lock cannot be read or written", f"`{path}`: {reason}."))
