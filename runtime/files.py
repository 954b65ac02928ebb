"""Files that a command is given or writes: UTF-8, LF, whole or not at all.

Files that survive a power failure, whole or as they were before; locks on files.

One process at a time, and the others go on without.

Copying so that a folder is complete or absent, whoever else copies or dies meanwhile.
"""

import fcntl
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile

from fleet.errors import FleetError, problem


def read_text(path: Path) -> str:
    """Return the text of a file; `-` is standard input.

    Raises:
        FleetError: FC5020, the file cannot be read or is not UTF-8.
    """
    try:
        if str(path) == "-":
            return sys.stdin.read()
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise _unreadable(path, "it is not UTF-8 text") from None
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from None


def write_text(path: Path, text: str) -> None:
    """Write a file by renaming a finished one into place; a reader never sees half of it.

    Raises:
        FleetError: FC5021, the file cannot be written.
    """
    try:
        with NamedTemporaryFile(
            "w",
            dir=path.parent,
            prefix=f".{path.name}.",
            delete=False,
            encoding="utf-8",
            newline="",
        ) as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(file.name).chmod(0o644)
        Path(file.name).replace(path)
    except OSError as error:
        raise FleetError(
            problem(
                "FC5021",
                "File cannot be written",
                f"{path}: {error.strerror or error}.",
                hint="choose a folder that exists and that you may write to",
            )
        ) from None


def _unreadable(path: Path, reason: str) -> FleetError:
    return FleetError(
        problem(
            "FC5020",
            "File cannot be read",
            f"{path}: {reason}.",
            hint="check the name and the permissions",
        )
    )


PRIVATE = 0o600
"""File mode: the owner alone reads and writes."""
PRIVATE_FOLDER = 0o700
"""Folder mode: the owner alone reads, writes and looks in."""


def replace_file(path: Path, content: bytes, mode: int = PRIVATE) -> None:
    """Replace the content of a file in one step: readers find the old or the new, whole."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(handle, "wb") as stream:
        stream.write(content)
    put_in_place(scratch, path)


def put_in_place(scratch: Path, path: Path) -> None:
    """Give a finished file its name, once the disk has its content; the disk has the name then."""
    handle = os.open(scratch, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    scratch.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def locked_file(path: Path, *, wait: bool = True, flags: int = 0) -> Iterator[int]:
    """Give the descriptor of a file, made if need be, that is locked while the block runs.

    Args:
        path: The file.
        wait: Whether to wait for another process that holds the lock.
        flags: More flags for `os.open`, such as `os.O_APPEND`.

    Raises:
        BlockingIOError: another process holds the lock, and `wait` is False.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | flags, PRIVATE)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield handle
    finally:
        os.close(handle)


@contextmanager
def alone(lock: Path) -> Iterator[bool]:
    """Hold a lock file; say whether no other process holds it, which is not waited for."""
    handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            held = False
        else:
            held = True
        yield held
    finally:
        os.close(handle)


READ_ONLY_FILE = 0o444
READ_ONLY_FOLDER = 0o555
FOLDER = 0o755


def copy_file(source: Path, target: Path, mode: int = READ_ONLY_FILE) -> None:
    """Copy a file's bytes, give it `mode`, and wait until it is on disk."""
    shutil.copyfile(source, target)
    _sync(target)
    target.chmod(mode)


@contextmanager
def moved_into_place(target: Path) -> Iterator[Path]:
    """Give a scratch folder that becomes `target` when the block ends without an error.

    Where `target` has come into being meanwhile it stays, and the scratch folder is dropped:
    the caller checks what is there.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".incoming-", dir=target.parent))
    scratch.chmod(FOLDER)
    try:
        yield scratch
        try:
            scratch.rename(target)
        except OSError:
            if not target.is_dir():
                raise
        _sync(target.parent)
    finally:
        if scratch.exists():
            scratch.chmod(FOLDER)
            shutil.rmtree(scratch)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
