"""A file of lines that is only ever appended to: its last whole line, and what is put after it."""

import hashlib
import os
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path

from runtime.files import LARGEST_LOG, PRIVATE, bounded, open_plain, sync, too_large

_TAIL = 1 << 16
"""Bytes that are read first; each further step reads as many as all before."""

_CHUNK = 1 << 20
LONGEST_LINE = 64 << 20
"""Upper bound of the bytes of a line."""


def read_log(path: Path) -> bytes:
    """Return all bytes of the file.

    Raises:
        OSError: it cannot be read, or is larger than `LARGEST_LOG`.
    """
    with _opened(path) as stream:
        return bounded(stream, path, LARGEST_LOG)


def whole_lines(
    path: Path, size: int, *, are_hashed: bool = False
) -> tuple[Iterator[bytes], "hashlib._Hash"]:
    """Return the whole lines after the first `size` bytes, and the hash of these bytes.

    `are_hashed`: the hash is known, and is not made again.

    The lines end where the last one ends now: what another process appends meanwhile is left out,
    and what it cuts off is no whole line. No lines and no hash of so many bytes: there are fewer.

    Raises:
        OSError: it cannot be read, or is larger than `LARGEST_LOG`.
    """
    digest, buffer = hashlib.sha256(), memoryview(bytearray(_CHUNK))
    stream = _opened(path)
    length = os.fstat(stream.fileno()).st_size
    if length > LARGEST_LOG:
        stream.close()
        raise too_large(path, LARGEST_LOG)
    whole = LARGEST_LOG  # of a FIFO
    if stream.seekable():
        whole = _last_line(stream, path, length)[0]
        stream.seek(size if are_hashed else 0)
    for start in range(0, 0 if are_hashed else min(size, whole), _CHUNK):
        part = buffer[: min(_CHUNK, size - start)]
        digest.update(part[: stream.readinto(part)])
    return _lines(stream, whole - size), digest


def _lines(stream: BufferedReader, left: int) -> Iterator[bytes]:
    with stream:
        while left > 0 and (line := stream.readline(LONGEST_LINE)):
            left -= len(line)
            yield line


def _opened(path: Path) -> BufferedReader:
    """Open a file; a FIFO waits for a writer, as a home that hangs: readers have deadlines."""
    return path.open("rb") if path.is_fifo() else open_plain(path)


def last_line(path: Path, size: int) -> tuple[int, bytes]:
    """Return where the last whole line of a file of `size` bytes ends, and the line.

    Read from the end, so that a long file costs no more than a short one.

    Raises:
        OSError: it cannot be read.
    """
    with _opened(path) as stream:
        return _last_line(stream, path, size)


def _last_line(stream: BufferedReader, path: Path, size: int) -> tuple[int, bytes]:
    start, content = size, b""
    while True:
        end = content.rfind(b"\n")
        begin = content.rfind(b"\n", 0, end) if end >= 0 else -1
        if begin >= 0 or start == 0:
            whole = start + end + 1 if end >= 0 else 0
            return whole, content[begin + 1 : end] if end >= 0 else b""
        step = _step(path, len(content), start)
        start -= step
        stream.seek(start)
        content = stream.read(step) + content


def backwards(path: Path) -> Iterator[bytes]:
    """Yield whole lines from the last to the first, reading no more than is asked for.

    Raises:
        OSError: it cannot be read.
    """
    with _opened(path) as stream:
        start, rest = stream.seek(0, os.SEEK_END), b""
        whole = False  # whether `rest` ends with a line that has its end
        while start:
            step = _step(path, len(rest), start)
            start -= step
            stream.seek(start)
            first, *lines = (stream.read(step) + rest).split(b"\n")
            if lines:
                yield from reversed(lines if whole else lines[:-1])
                whole = True
            rest = first
        if whole:
            yield rest


def _step(path: Path, held: int, start: int) -> int:
    """Return how many bytes to read next of a line of which `held` bytes are read.

    Raises:
        OSError: the line has more than `LONGEST_LINE` bytes.
    """
    if held >= LONGEST_LINE:
        raise too_large(path, LONGEST_LINE)
    return min(max(_TAIL, held), start)


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
