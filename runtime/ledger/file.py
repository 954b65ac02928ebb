"""The ledger as a file of JSON lines: locked, flushed, chained by hashes.

ledger.jsonl     the entries, only ever appended to
ledger.lock      held while one process appends or takes the lease
lease.json       who may change the fleet, and the newest fencing token
"""

import hashlib
import itertools
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from io import BufferedReader
from pathlib import Path

from fleet.errors import FleetError
from fleet.history import Entry, History, LedgerEvent, Noted, fold_entries
from runtime.files import (
    LARGEST_LOG,
    PRIVATE,
    bounded,
    locked_file,
    make_private,
    open_plain,
    replace_file,
    sync,
    too_large,
)
from runtime.ledger import chain
from runtime.ledger import lease as leases
from runtime.ledger.chain import ChainedEntries, EntrySigner, LedgerPrefix
from runtime.ledger.lease import LeaseRecord
from runtime.ledger.protocol import Lease, RestoredLedger, unanswered
from runtime.processes import lock_holder, start_mark

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


LEDGER_FILE = "ledger.jsonl"
_LOCK_FILE = "ledger.lock"
LOCK_S = 15.0
"""How long a lock is waited for that is usually held for a millisecond."""


class FileLedger:
    """Keeps the contract of `runtime.ledger.protocol.Ledger`.

    Safe between processes and threads: each change happens under an exclusive lock on a file
    of its own. A process that dies while appending leaves a torn last line, which the next append
    drops; it was never acknowledged.
    """

    def __init__(
        self,
        folder: Path,
        *,
        run: str,
        by: str,
        clock: Callable[[], datetime],
        signer: EntrySigner | None = None,
    ) -> None:
        """Prepare; nothing is read or written. `signer`: None signs no entry."""
        self._signer = signer
        self._folder = folder
        self._path = folder / LEDGER_FILE
        self._run, self._by, self._clock = run, by, clock
        self._proven: tuple[object, ChainedEntries] | None = None
        """What was last proven of the file, and the mark of the file that had these bytes."""

    def read(self, after: int = 0) -> list[Entry]:
        """Return the entries with `seq` above `after`.

        The whole chain is verified. A torn last line is not an entry.

        Raises:
            FleetError: FC5102, a line was changed; the error names it.
            OSError: the file cannot be read, or is larger than `LARGEST_LOG`.
        """
        return [entry for entry in self.since(LedgerPrefix()) if entry.seq > after]

    def since(self, known: LedgerPrefix) -> ChainedEntries:
        """Return the entries after a prefix; all where the ledger begins with other lines.

        The bytes of the prefix are hashed, once in a run: again only where the file has another
        mark than then, other than by entries of this run. A byte that is changed while
        a run goes on, and size and times of the file with it put back, is found by the next run.

        Raises:
            OSError: the file cannot be read, or is larger than `LARGEST_LOG`.
        """
        home, proven, mark = str(self._path), self._proven, self.mark()
        try:
            if proven and proven[0] == mark and proven[1].end == known:
                lines, _ = whole_lines(self._path, known.size, are_hashed=True)
                made = ChainedEntries(lines, home, known, proven[1].hash_so_far())
            else:
                lines, read = whole_lines(self._path, known.size)
                if read.hexdigest() != known.sha256:
                    known = LedgerPrefix()
                    lines, read = whole_lines(self._path, 0)
                made = ChainedEntries(lines, home, known, read)
        except FileNotFoundError:
            return ChainedEntries((), home, LedgerPrefix(), hashlib.sha256())
        self._proven = mark, made
        return made

    def mark(self) -> object:
        """Return a value that changes when the ledger does."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns

    def history(self) -> History:
        """Return all entries folded."""
        return fold_entries(self.since(LedgerPrefix()))

    def standing(self) -> Sequence[Entry]:
        """Return all entries."""
        return self.read()

    def newest(self, after: int) -> list[Entry]:
        """Return the entries with `seq` above `after`, read from the end.

        Raises:
            FleetError: FC5102, one of them was changed.
            OSError: they cannot be read.
        """
        found: list[Entry] = []
        if self.mark() is None:
            return found
        for text in backwards(self._path):
            entry = chain.entry(text, 0, str(self._path))
            if entry.seq <= after:
                break
            found.append(entry)
        return found[::-1]

    def append(self, events: Sequence[LedgerEvent], token: int = 0) -> int:
        """Append an entry for every event with a single flush; durable when this returns.

        Raises:
            LockHeldError: `token` is older than the newest lease's. 0, of an emergency, is never
                too old.
            FleetError: FC5102, the last line was changed.
        """
        with self._locked():
            if token:
                self._fence(token)
            proven, before = self._proven, self.mark()
            seq, previous, dropped = self._tail()
            torn = f"a torn last line of {dropped} bytes was dropped"
            lines, now = [], self._clock()
            for event in [*([Noted(torn)] if dropped else []), *events]:
                seq += 1
                entry = Entry(seq, now, event, self._run, self._by, token, previous, "")
                line, previous = chain.line(entry, self._signer)
                lines.append(line)
            if lines:
                add_lines(self._path, b"".join(lines))
            if proven and proven[0] == before:
                self._proven = self.mark(), proven[1]
            return seq

    def is_empty(self) -> bool:
        """Say whether there is no whole line; what is no file at all is not empty.

        Raises:
            OSError: it cannot be read.
        """
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return True
        return stat.S_ISREG(found.st_mode) and not last_line(self._path, found.st_size)[0]

    def count(self) -> int:
        """Return the number of whole lines, damaged lines too."""
        try:
            return read_log(self._path).count(b"\n")
        except FileNotFoundError:
            return 0

    def restore(self, copy: Sequence[Entry]) -> RestoredLedger:
        """Put a verified copy in the place of the file, and keep the file under another name.

        Lines after the copy's last that continue its chain are taken over. A process that dies
        meanwhile leaves the old file or the new file.

        Raises:
            FleetError: FC5182, the copy shares no line with the file.
        """
        with self._locked():
            content = read_log(self._path) if self._path.exists() else b""
            lines = content.split(b"\n")[:-1]
            if lines and not any(e.line == line for e, line in zip(copy, lines, strict=False)):
                detail = f"No line of `{self._path}` is a line of the copy, so nothing was changed."
                hint = "Put back a backup of the ledger."
                raise FleetError.of("FC5182", "The copy is of another ledger", detail, hint=hint)
            kept = [*copy, *chain.continuing(copy[-1], lines[len(copy) :])]
            names = (self._path.with_suffix(f".damaged-{n}.jsonl") for n in itertools.count(1))
            aside = next(path for path in names if not path.exists())
            if lines:
                aside.hardlink_to(self._path)
            replace_file(self._path, b"".join(entry.line + b"\n" for entry in kept))
        return RestoredLedger(len(kept), max(0, len(lines) - len(kept)), aside if lines else None)

    def raise_token(self, token: int) -> None:
        """Let every later lease have a newer token."""
        with self._locked():
            found = leases.read(self._folder) or LeaseRecord(self._newest_token())
            if found.token < token:
                leases.write(self._folder, replace(found, token=token))

    @contextmanager
    def lease(self, holder: str, ttl_s: int = 60) -> Iterator[Lease]:
        """Take the lease for `ttl_s` seconds at a time, and return the lease at the end.

        Raises:
            LockHeldError: FC5104, it names the holder and when its lease ends.
        """
        with self._locked():
            found = leases.read(self._folder) or LeaseRecord(token=self._newest_token())
            now = self._clock()
            if found.is_held(now):
                raise leases.held(found, now)
            taken = LeaseRecord(
                found.token + 1,
                holder,
                _end(now, ttl_s),
                leases.this_machine(),
                os.getpid(),
                start_mark(os.getpid()) or "",
            )
            leases.write(self._folder, taken)
        try:
            yield Lease(taken.token, partial(self._renew, taken.token, ttl_s))
        finally:
            self._hand_back(taken.token)

    def _renew(self, token: int, ttl_s: int) -> None:
        with self._locked():
            found = self._fence(token)
            leases.write(self._folder, replace(found, expires=_end(self._clock(), ttl_s)))

    def _hand_back(self, token: int) -> None:
        with self._locked():
            found = leases.read(self._folder)
            if found is not None and found.token == token:
                leases.write(self._folder, LeaseRecord(token))

    def _fence(self, token: int) -> LeaseRecord:
        found = leases.read(self._folder) or LeaseRecord(token)
        if token < found.token:
            raise leases.lost(token, found.token)
        return found

    def _newest_token(self) -> int:
        """Return the newest token that an entry bears, for when the lease's file is lost."""
        return max((entry.token for entry in self.read()), default=0)

    def _locked(self) -> AbstractContextManager[None]:
        return locked_ledger(self._folder)

    def _tail(self) -> tuple[int, str, int]:
        """Return the last entry's number and hash, and how many torn bytes were cut off."""
        try:
            size = self._path.stat().st_size
        except FileNotFoundError:
            return 0, "", 0
        whole, last = last_line(self._path, size)
        if whole < size:
            os.truncate(self._path, whole)
        if not last:
            return 0, "", size - whole
        try:
            found = chain.checked(last, 0, str(self._path))
        except Exception:
            self.read()  # names the line
            raise
        return found["seq"], found["hash"], size - whole


@contextmanager
def locked_ledger(folder: Path) -> Iterator[None]:
    """Lock the ledger in a folder while the block runs: no entry and no lease is written.

    Raises:
        FleetError: FC5107, another process holds the lock for longer than an entry takes.
    """
    make_private(folder)
    path = folder / _LOCK_FILE
    with ExitStack() as stack:
        try:
            stack.enter_context(locked_file(path, timeout_s=LOCK_S))
        except BlockingIOError:
            why = f"`{path}` has been locked for {LOCK_S:g} s"
            raise unanswered(why, lock_holder(path)) from None
        yield


def _end(now: datetime, ttl_s: int) -> str:
    return (now + timedelta(seconds=ttl_s)).isoformat()
