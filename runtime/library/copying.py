"""Copying so that a folder is complete or absent, whoever else copies or dies meanwhile."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
