"""Replaces files at once, fsyncs, locks, and moves folders into place; the only home of these."""

import errno
import fcntl
import os
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import IO

from fleet.errors import FleetError

LARGEST = 128 << 20
"""Upper bound of the bytes of a file that is read whole; a plan of 10,000 adapters takes 30 MB."""
LARGEST_LOG = 1 << 30
"""Upper bound of the bytes of a log that is only ever appended to: a ledger, a usage log."""
_CHUNK = 1 << 20


def open_plain(path: Path) -> BufferedReader:
    """Open a plain file to read; a FIFO, a socket or a device is refused and not opened.

    Raises:
        OSError: the file cannot be read, or is no plain file.
    """
    _require_plain(path.stat().st_mode, path)
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    stream = os.fdopen(handle, "rb")
    try:
        _require_plain(os.fstat(handle).st_mode, path)
    except OSError:
        stream.close()
        raise
    return stream


def unlinked(path: Path) -> Path:
    """Return a path as given; raises OSError for a link: pinned bytes lie where they are named."""
    if path.is_symlink():
        raise OSError(errno.ELOOP, "It is a link", str(path))
    return path


def _require_plain(mode: int, path: Path) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "No plain file", str(path))


def read_plain(path: Path, limit: int = LARGEST) -> bytes:
    """Return the bytes of a plain file of at most `limit` bytes.

    Raises:
        OSError: the file cannot be read, is no plain file, or is larger.
    """
    with open_plain(path) as stream:
        return bounded(stream, path, limit)


def bounded(stream: IO[bytes], path: Path, limit: int) -> bytes:
    """Return the bytes of an open file of at most `limit` bytes.

    Read by chunks: files of `/proc` have no size, and a large read takes its memory at once.
    """
    if os.fstat(stream.fileno()).st_size > limit:
        raise too_large(path, limit)
    parts, left = [], limit
    while part := stream.read(min(_CHUNK, left + 1)):
        left -= len(part)
        if left < 0:
            raise too_large(path, limit)
        parts.append(part)
    return b"".join(parts)


def too_large(path: Path, limit: int) -> OSError:
    """Return the error of a file, or a line, of more than `limit` bytes."""
    return OSError(errno.EFBIG, f"Larger than {limit / 2**20:g} MiB", str(path))


def plain_text(path: Path, limit: int = LARGEST) -> str:
    """Return the text of a plain file, as `read_plain`; raises ValueError if it is not UTF-8."""
    return read_plain(path, limit).decode("utf-8").replace("\r\n", "\n")


def read_text(path: Path, most: int = LARGEST) -> str:
    """Return the text of a file that a person names; `-` is standard input.

    A pipe is read where a shell names it, such as `/dev/fd/63`.

    Raises:
        FleetError: FC5020, the file cannot be read or is not UTF-8; FC3042, it has more than
            `most` bytes.
    """
    try:
        if str(path) != "-" and not str(path).startswith("/dev/"):
            return plain_text(path, most)
        with sys.stdin.buffer if str(path) == "-" else path.open("rb") as stream:
            return bounded(stream, path, most).decode("utf-8")
    except UnicodeDecodeError:
        reason = "it is not UTF-8 text"
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise _too_large(path, most) from None
        reason = error.strerror or str(error)
    hint = "check the name and the permissions"
    raise FleetError.of("FC5020", "File cannot be read", f"{path}: {reason}.", hint=hint)


def _too_large(path: Path, most: int) -> FleetError:
    detail = f"{path}: it has more than {most >> 20} MiB, which no file of fleetctl has."
    return FleetError.of("FC3042", "File is too large", detail, hint="check the name")


def write_text(path: Path, text: str) -> None:
    """Write a file by renaming a finished file into place; a reader never sees half of it.

    Raises:
        FleetError: FC5021, the file cannot be written.
    """
    try:
        replace_file(path, text.encode(), PUBLIC, exact=True)
    except OSError as error:
        detail = f"{path}: {error.strerror or error}."
        hint = "choose a folder that exists and that you may write to"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            hint = "make room on that disk; what the file held before is still there"
        raise FleetError.of("FC5021", "File cannot be written", detail, hint=hint) from None


PRIVATE = 0o600
"""File mode: the owner alone reads and writes."""
PUBLIC = 0o644
"""File mode: the owner writes, everybody reads."""
PRIVATE_FOLDER = 0o700
"""Folder mode: the owner alone reads, writes and looks in."""


def make_private(folder: Path) -> None:
    """Make a folder and its missing parents, the owner's alone whatever the umask."""
    missing = [path for path in (folder, *folder.parents) if not path.is_dir()]
    for path in reversed(missing):
        with suppress(FileExistsError):
            path.mkdir(PRIVATE_FOLDER)
            path.chmod(PRIVATE_FOLDER)


def private_file(path: str, flags: int) -> int:
    """Open a file, made the owner's alone; the `opener` of `open`."""
    return os.open(path, flags, PRIVATE)


def replace_file(path: Path, content: bytes, mode: int = PRIVATE, *, exact: bool = False) -> None:
    """Replace the content of a file: readers find the old or the new content, whole.

    The folder must exist. The umask takes bits off `mode`, unless `exact`.
    """
    scratch = path.parent / f".{path.name}.{os.getpid()}"
    try:
        handle = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            if exact:
                os.fchmod(stream.fileno(), mode)
        put_in_place(scratch, path)
    except OSError:
        scratch.unlink(missing_ok=True)
        raise


def put_in_place(scratch: Path, path: Path) -> None:
    """Rename a finished file to `path`; content and name are on disk on return."""
    sync(scratch)
    scratch.replace(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Wait until a file's content, or the names in a folder, are on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def locked_file(
    path: Path, *, timeout_s: float | None = None, flags: int = os.O_RDWR | os.O_CREAT
) -> Iterator[int]:
    """Lock a file, made if need be, while the block runs; give its descriptor.

    `timeout_s`: upper bound of the wait for another process that holds the lock; 0: no wait; None:
    no bound. `flags`: for `os.open`.

    Raises:
        BlockingIOError: another process holds the lock still.
    """
    handle = os.open(path, flags | os.O_CLOEXEC, PRIVATE)
    try:
        _lock(handle, timeout_s)
        yield handle
    finally:
        os.close(handle)


def _lock(handle: int, timeout_s: float | None) -> None:
    if timeout_s is None:
        fcntl.flock(handle, fcntl.LOCK_EX)
        return
    end, pause = time.monotonic() + timeout_s, _FIRST_PAUSE_S
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                raise
        else:
            return
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_S)


@contextmanager
def try_lock(path: Path) -> Iterator[bool]:
    """Lock a file while the block runs, without a wait; give False where another process has it."""
    with ExitStack() as stack:
        is_locked = True
        try:
            stack.enter_context(locked_file(path, timeout_s=0))
        except BlockingIOError:
            is_locked = False
        yield is_locked


def is_locked(path: Path) -> bool:
    """Return whether a process holds the lock of a file; False where the file is not there."""
    try:
        with open_plain(path) as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def locked_folder(folder: Path) -> AbstractContextManager[int]:
    """Lock a folder while the block runs; for files that are replaced and not rewritten."""
    return locked_file(folder, flags=os.O_RDONLY | os.O_DIRECTORY)


_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.001, 0.05
"""Pauses between two attempts to lock a file, in seconds."""
READ_ONLY_FILE = 0o444
READ_ONLY_FOLDER = 0o555
FOLDER = 0o755


def copy_file(source: Path, target: Path, mode: int = READ_ONLY_FILE) -> None:
    """Copy a file's bytes, set the `mode`, and wait until all is on disk."""
    shutil.copyfile(source, target)
    sync(target)
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
        sync(target.parent)
    finally:
        if scratch.exists():
            scratch.chmod(FOLDER)
            shutil.rmtree(scratch)


def normal_path(path: Path) -> str:
    """Return an absolute path without `..`; links stay, for they may name an environment."""
    return os.path.abspath(path)  # noqa: PTH100 (`resolve` would follow the links)
