"""One process at a time, and the others go on without."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runtime.durable import PRIVATE


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
