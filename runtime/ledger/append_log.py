"""A file of lines that is only ever appended to: its last whole line, and what is put after it."""

import os
from collections.abc import Iterator
from pathlib import Path

from runtime.files import PRIVATE, sync

_TAIL = 1 << 16


def last_line(path: Path, size: int) -> tuple[int, bytes]:
    """Return where the last whole line of a file of `size` bytes ends, and the line.

    Read from the end, so that a long file costs no more than a short one.

    Raises:
        OSError: it cannot be read.
    """
    start, content = size, b""
    with path.open("rb") as stream:
        while True:
            end = content.rfind(b"\n")
            begin = content.rfind(b"\n", 0, end) if end >= 0 else -1
            if begin >= 0 or start == 0:
                whole = start + end + 1 if end >= 0 else 0
                return whole, content[begin + 1 : end] if end >= 0 else b""
            step = min(_TAIL, start)
            start -= step
            stream.seek(start)
            content = stream.read(step) + content


def backwards(path: Path) -> Iterator[bytes]:
    """Yield whole lines from the last to the first, reading no more than is asked for.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as stream:
        start, rest = stream.seek(0, os.SEEK_END), b""
        whole = False  # whether `rest` ends with a line that has its end
        while start:
            step = min(_TAIL, start)
            start -= step
            stream.seek(start)
            first, *lines = (stream.read(step) + rest).split(b"\n")
            if lines:
                yield from reversed(lines if whole else lines[:-1])
                whole = True
            rest = first
        if whole:
            yield rest


def add_lines(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Append whole lines; they are `durable` when this returns.

    Raises:
        OSError: they cannot be written; what was written of them is a torn last line.
    """
    new = not path.exists()
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, PRIVATE)
    with os.fdopen(handle, "ab") as stream:
        stream.write(content)
        stream.flush()
        if durable:
            os.fsync(stream.fileno())
    if new and durable:
        sync(path.parent)
