"""A copy of the ledger as last read or written here, for while its home cannot be read.

Nothing is planned from the copy, which is older than the ledger. The copy tells a gate the
beginning of a stage and the earlier failures: enough to take traffic away, and for no more.

A lost ledger is in the copy: while the home is empty nothing is written to it, and
a copy in whose place another history comes is moved aside.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Final

from fleet.errors import FleetError
from fleet.history import Entry
from runtime.files import (
    LARGEST_LOG,
    make_private,
    open_plain,
    private_file,
    put_in_place,
    read_plain,
    replace_file,
    try_lock,
)
from runtime.ledger import chain
from runtime.ledger.chain import LedgerPrefix
from runtime.ledger.file import LONGEST_LINE, add_lines, last_line

MIRROR_FILE: Final = "ledger-as-last-read.jsonl"
_LOCK_FILE: Final = "ledger-as-last-read.lock"
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
_KEPT: Final = "What was read before is kept in"


class LedgerReplica:
    """The copy: lines as a file home has them, chained by the same hashes."""

    def __init__(self, folder: Path, tell: Callable[[str], object] = str) -> None:
        """Prepare; nothing is read or written. `tell` is told what people should know."""
        self._folder, self.path = folder, folder / MIRROR_FILE
        self._tell = tell

    def is_empty(self) -> bool:
        """Say whether nothing was ever read."""
        return not self.path.exists() or not self.path.stat().st_size

    def read(self) -> list[Entry]:
        """Return the entries, oldest first; none where nothing was ever read.

        Raises:
            FleetError: FC5102, it was changed.
            OSError: it cannot be read.
        """
        try:
            content = read_plain(self.path, LARGEST_LOG)
        except FileNotFoundError:
            return []
        return list(chain.entries(content, str(self.path)))

    def about(self, name: str) -> tuple[list[Entry], datetime | None]:
        """Return the entries in which a name stands, and of when the newest of all is.

        Fast: each entry is checked by itself, the chain is not checked.

        Raises:
            FleetError: FC5102, one of them was changed.
            OSError: it cannot be read.
        """
        try:
            content = read_plain(self.path, LARGEST_LOG)
        except FileNotFoundError:
            return [], None
        whole = content[: content.rfind(b"\n") + 1]
        if not whole:
            return [], None
        found = [self._entry(whole, start, end) for start, end in _lines_with(whole, name.encode())]
        return found, self._entry(whole, whole.rfind(b"\n", 0, -1) + 1, len(whole) - 1).time

    def _entry(self, content: bytes, start: int, end: int) -> Entry:
        try:
            return chain.entry(content[start:end], 0, str(self.path))
        except FleetError:
            number = content.count(b"\n", 0, start) + 1
            return chain.entry(content[start:end], number, str(self.path))  # names the line

    def follow(self, newest: Callable[[int], Sequence[Entry]]) -> None:
        """Add the newest entries of the ledger, unless another process does so now.

        A copy that is damaged, or of which these are not the next, waits for `save`. `newest` gives
        the ledger's entries after a number.

        Raises:
            FleetError, OSError: they cannot be read or written.
        """
        make_private(self._folder)
        with try_lock(self._folder / _LOCK_FILE) as ours:
            tail = self.tail()
            if not ours or not (tail.seq or self.is_empty()):
                return
            new = newest(tail.seq)
            if new and (new[0].seq, new[0].previous) == (tail.seq + 1, tail.hash):
                if tail.seq:
                    os.truncate(self.path, tail.whole)  # a torn last line goes
                # Not flushed: the ledger is, and only a lost disk loses both.
                add_lines(self.path, _lines(new), durable=False)

    def begin(self, lines: Iterable[bytes], proven: LedgerPrefix) -> None:
        """Write the first copy, unless another process does so now, or the lines are others.

        Raises:
            OSError: the lines cannot be read, or the copy be written.
        """
        make_private(self._folder)
        with try_lock(self._folder / _LOCK_FILE) as ours:
            if ours and self.is_empty():
                scratch, digest, left = self.path.with_suffix(".new"), sha256(), proven.size
                with os.fdopen(private_file(str(scratch), _NEW), "wb") as stream:
                    for line in lines:
                        digest.update(line)
                        stream.write(line)
                        left -= len(line)
                        if left <= 0:
                            break
                if digest.hexdigest() == proven.sha256:
                    put_in_place(scratch, self.path)
                else:
                    scratch.unlink()

    def save(self, entries: Sequence[Entry], before: "Tail") -> None:
        """Take over the entries that were read, unless another process does so now.

        A ledger that lacks entries of the copy, or has others, was begun anew or put back from a
        backup: the ledger takes the place of the copy, which is moved aside.

        Args:
            entries: The whole ledger.
            before: `tail` from before it was read: what another process has added since is
                no sign of another history.

        Raises:
            OSError: it cannot be written.
        """
        if not entries or self.tail().is_last_of(entries):
            return
        make_private(self._folder)
        with try_lock(self._folder / _LOCK_FILE) as ours:
            if not ours:
                return
            tail = self.tail()
            if tail.is_in(entries):
                os.truncate(self.path, tail.whole)  # a torn last line goes
                add_lines(self.path, _lines(entries[tail.seq :]))
            elif tail == before:
                if not self.is_empty():
                    self.set_aside(f"{len(entries):,} entries that do not begin with them")
                replace_file(self.path, _lines(entries))

    def set_aside(self, instead: str) -> None:
        """Rename the copy, so that no entry is lost; report its name, and the entries `instead`.

        Raises:
            OSError: it cannot be renamed.
        """
        names = (self.path.with_suffix(f".{number}.jsonl") for number in count(1))
        aside = next(name for name in names if not name.exists())
        known = self.tail().seq
        self.path.rename(aside)
        said = f"{known:,} entries were read of it" if known else "its copy here was damaged"
        self._tell(
            f"The ledger is another than before: {said}, and it has {instead}. {_KEPT} {aside}"
        )

    def lacking(self, entries: Sequence[Entry]) -> dict[Path, int]:
        """Return the copies moved aside of which the ledger lacks entries, with how many they hold.

        A person who knows the cause may delete a copy.
        """
        aside = sorted(self._folder.glob(self.path.with_suffix(".*.jsonl").name))
        tails = {path: _tail(path) for path in aside}
        return {
            path: tail.seq for path, tail in tails.items() if tail.seq and not tail.is_in(entries)
        }

    def cut(self, entries: Sequence[Entry]) -> dict[Path, int]:
        """Return as `lacking` the copies that begin as the ledger does: the ledger was cut.

        A ledger that was begun anew, as by `adopt`, is not cut.
        """
        if not (lacking := self.lacking(entries)):
            return {}
        first = entries[0].line if entries else b""
        return {path: known for path, known in lacking.items() if _first_line(path) == first}

    def beyond(self, entries: Sequence[Entry]) -> list[Entry]:
        """Return the longest copy moved aside that goes on where the ledger ends; none: no copy.

        Raises:
            FleetError: FC5102, the copy was changed.
        """
        for path in sorted(lacking := self.cut(entries), key=lambda path: -lacking[path]):
            copy = list(chain.entries(read_plain(path, LARGEST_LOG), str(path)))
            if [its.hash for its in copy[len(entries) - 1 : len(entries)]] == [entries[-1].hash]:
                return copy
        return []

    def tail(self) -> "Tail":
        """Return the end of the copy."""
        return _tail(self.path)


@dataclass(frozen=True, slots=True)
class Tail:
    """The last whole line of a copy; zeros where there is none or it is damaged."""

    whole: int = 0
    """End of the line, in bytes."""
    seq: int = 0
    hash: str = ""

    def is_in(self, entries: Sequence[Entry]) -> bool:
        """Say whether the entries begin with the copy."""
        return 0 < self.seq <= len(entries) and entries[self.seq - 1].hash == self.hash

    def is_last_of(self, entries: Sequence[Entry]) -> bool:
        """Say whether the entries are those of the copy."""
        return self.seq == len(entries) and self.is_in(entries)


def _tail(path: Path) -> Tail:
    try:
        with open_plain(path) as stream:
            size = os.fstat(stream.fileno()).st_size
        whole, text = last_line(path, size)
        found = chain.checked(text, 0, str(path))
    except (OSError, FleetError):
        return Tail()
    return Tail(whole, found["seq"], found["hash"])


def _first_line(path: Path) -> bytes:
    with open_plain(path) as stream:
        return stream.readline(LONGEST_LINE).rstrip(b"\n")


def _lines_with(content: bytes, sought: bytes) -> Iterator[tuple[int, int]]:
    """Yield begin and end of the lines with these bytes; splitting takes ten times as long."""
    place = content.find(sought)
    while place >= 0:
        end = content.find(b"\n", place)
        yield content.rfind(b"\n", 0, place) + 1, end
        place = content.find(sought, end)


def _lines(entries: Sequence[Entry]) -> bytes:
    return b"".join(entry.line + b"\n" for entry in entries)
