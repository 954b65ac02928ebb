"""A copy of the ledger as it was last read, for gates while its home cannot be read.

    read --> home --in time--> entries --> mirror: what is new of them
               |
               `-- down, hangs, or empty where it was not --> mirror, then what is queued

Nothing is planned from it: it is older than the ledger. It tells a gate since when a stage
lasts and what has failed already, which is enough to take traffic away, and to no more.
"""

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any, Final

from fleet.errors import FleetError, problem
from fleet.history import Entry
from runtime.durable import replace_file
from runtime.ledger import chain
from runtime.ledger.alone import alone
from runtime.ledger.lines import add_lines, last_line
from runtime.ledger.protocol import Lease, Ledger
from runtime.ledger.scribe import in_time, queued
from runtime.ledger.unanswered import unanswered

MIRROR_FILE: Final = "ledger-as-last-read.jsonl"
_LOCK_FILE: Final = "ledger-as-last-read.lock"
READ_S: Final = 10.0
"""How long a home may take to be read; a busy laptop reads 200 MB in that time."""


class Mirror:
    """The copy: lines as a file home has them, chained by the same hashes."""

    def __init__(self, folder: Path) -> None:
        """Prepare; nothing is read or written."""
        self._folder, self._path = folder, folder / MIRROR_FILE

    def read(self) -> list[Entry]:
        """Return the entries, oldest first; none where nothing was ever read.

        Raises:
            FleetError: FC5102, it was changed.
            OSError: it cannot be read.
        """
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return []
        return list(chain.entries(content, str(self._path)))

    def keep(self, entries: Sequence[Entry]) -> None:
        """Take over what was read, unless another process does so now.

        A ledger that begins anew takes the place of the one before; an empty one does not.

        Raises:
            OSError: it cannot be written.
        """
        if not entries or self._last()[1:] == (len(entries), entries[-1].hash):
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        with alone(self._folder / _LOCK_FILE) as ours:
            if not ours:
                return
            whole, seq, known = self._last()
            if 0 < seq <= len(entries) and entries[seq - 1].hash == known:
                os.truncate(self._path, whole)  # a torn last line goes
                add_lines(self._path, b"".join(map(_line, entries[seq:])))
            else:
                replace_file(self._path, b"".join(map(_line, entries)))

    def _last(self) -> tuple[int, int, str]:
        """Return where the last whole line ends, its number and its hash.

        Zeros where there is none or it is damaged, so that the copy is made anew.
        """
        try:
            whole, text = last_line(self._path, self._path.stat().st_size)
            found = chain.entry(text, 0, str(self._path))
        except (OSError, FleetError):
            return 0, 0, ""
        return whole, found.seq, found.hash


def _line(each: Entry) -> bytes:
    made, _ = chain.line(
        each.seq,
        time=each.time,
        kind=each.kind,
        run=each.run,
        by=each.by,
        token=each.token,
        data=each.data,
        previous=each.previous,
    )
    return made


class MirroredLedger:
    """A ledger of which a copy is kept. Keeps the contract of `runtime.ledger.protocol.Ledger`."""

    def __init__(
        self, home: Ledger, mirror: Mirror, hung: list[Thread], read_s: float = READ_S
    ) -> None:
        """Prepare; nothing is read or written.

        Args:
            home: The ledger.
            mirror: Its copy.
            hung: Earlier readings that have not ended; shared by all objects for one home.
            read_s: How long reading may take.
        """
        self._home, self._mirror, self._hung, self._read_s = home, mirror, hung, read_s

    def read(self, after: int = 0) -> list[Entry]:
        """Return the entries with `seq` above `after`.

        Raises:
            FleetError: FC5107, the home does not answer in time or cannot be read; or what the
                home refuses.
        """
        try:
            found = in_time(lambda: self._home.read(after), self._read_s, self._hung)
        except OSError as error:  # of time, too
            where = f"`{error.filename}`: " if error.filename else ""
            raise unanswered(f"{where}{error.strerror or error}") from None
        if not after:
            with suppress(OSError):  # without a copy everything works while the home does
                self._mirror.keep(found)
        return found

    def append(self, kind: str, records: Sequence[dict[str, Any]], token: int = 0) -> int:
        """Append one entry per record."""
        return self._home.append(kind, records, token)

    def append_all(self, records: Sequence[tuple[str, dict[str, Any]]], token: int = 0) -> int:
        """Append entries of several kinds at once."""
        return self._home.append_all(records, token)

    def lease(self, holder: str, ttl_s: int = 60) -> AbstractContextManager[Lease]:
        """Take the lease."""
        return self._home.lease(holder, ttl_s)


@dataclass(frozen=True, slots=True)
class LastKnown:
    """The ledger, or what is known of it."""

    entries: Sequence[Entry]
    away: FleetError | None = None
    """Why its home could not be read, so that these are of the mirror and the queue; None: they
    are the ledger's.
    """


def last_known(ledger: Callable[[], Ledger], mirror: Mirror, queue: Path) -> LastKnown:
    """Read the ledger, or where that cannot be what was last read of it and is queued for it.

    Raises:
        FleetError: the home cannot be read, and nothing of it is known here.
    """
    away: FleetError | None = None
    try:
        # Opening it may mean to write down what was queued.
        found = in_time(lambda: ledger().read(), READ_S)
    except TimeoutError as error:
        away = unanswered(str(error))
    except FleetError as error:
        away = error
    else:
        if found:
            return LastKnown(found)
    kept = _or_none(mirror)
    if kept:
        return LastKnown([*kept, *queued(queue, kept)], away or _empty(kept))
    if away is not None:
        raise away
    return LastKnown(())


def _or_none(mirror: Mirror) -> list[Entry]:
    """Return what the mirror holds; nothing where it was damaged."""
    try:
        return mirror.read()
    except (FleetError, OSError):
        return []


def _empty(kept: Sequence[Entry]) -> FleetError:
    last = kept[-1]
    return FleetError(
        problem(
            "FC5109",
            "The ledger is gone",
            f"Its home is empty, and {len(kept):,} entries were read from it before, the last by "
            f"{last.by} at {last.time:%Y-%m-%d %H:%M} UTC.",
            hint="Bring back the disk or the file. Without either, rebuild the ledger from what "
            "is live.",
            command="fleetctl adopt",
        )
    )
