"""A ledger with a copy, and the known entries while its home cannot be read.

read --> home --in time--> entries --> mirror: what is new of them
           |
           `-- down, hangs, or empty where it was not --> mirror, then what is queued
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Final, TypeVar

from fleet.errors import FleetError
from fleet.history import ApplyStarted, Entry, History, LedgerEvent, fold_entries
from runtime.deadline import call_with_timeout
from runtime.ledger.chain import DamagedLedgerError, EntrySigner, LedgerPrefix, believed
from runtime.ledger.checkpoint import (
    EVERY,
    Checkpoint,
    fold_on,
    read_checkpoint,
    reported,
    write_checkpoint,
)
from runtime.ledger.outbox import LedgerOutbox, queued
from runtime.ledger.protocol import Lease, Ledger, LedgerSnapshot, unanswered
from runtime.ledger.replica import LedgerReplica

Found = TypeVar("Found")

READ_S: Final = 10.0
"""How long a home may take until the next entry is read; a slow disk reads 1 GB in that time."""


class FallbackLedger:
    """A ledger of which a copy is kept. Keeps the contract of `runtime.ledger.protocol.Ledger`."""

    def __init__(
        self,
        home: Ledger,
        mirror: LedgerReplica,
        hung: list[Thread],
        read_s: float = READ_S,
        wrote: Callable[[], object] = lambda: None,
        signer: EntrySigner | None = None,
    ) -> None:
        """Prepare; nothing is read or written.

        `hung`: earlier readings that have not ended; shared by all objects for one home. `wrote`:
        called after entries were appended. `signer`: has the key whose entries are believed.
        """
        self._signer = signer
        self._wrote = wrote
        self._home, self._mirror, self._hung, self._read_s = home, mirror, hung, read_s
        self._seen: tuple[object, Checkpoint] = None, Checkpoint()
        self._standing: tuple[Checkpoint | None, Sequence[Entry]] = None, ()
        self._read: tuple[object, Sequence[Entry]] = None, ()
        self._kept = 0  # entries of the checkpoint's file
        self._is_ours = False
        self.newest, self.is_empty, self.since = home.newest, home.is_empty, home.since
        self.mark = home.mark
        self.lease = home.lease
        self.raise_token, self.count, self.restore = home.raise_token, home.count, home.restore

    def read(self, after: int = 0) -> list[Entry]:
        """Return the entries with `seq` above `after`.

        Raises:
            FleetError: FC5107, the home does not answer in time or cannot be read; FC5109, it is
                empty and was not; FC5143, it is another fleet's; or what the home refuses.
        """
        before = self._mirror.tail()
        self._read = self._asked(self._entries)
        found = [entry for entry in self._read[1] if entry.seq > after]
        if not found:
            self._require_home()
        self._require_fleet()
        if not after:
            with suppress(OSError):  # without a copy everything works while the home does
                self._mirror.save(found, before)
        return found

    def _entries(self, progress: list[int]) -> tuple[object, Sequence[Entry]]:
        mark = self._home.mark()
        if mark is not None and mark == self._read[0]:
            return self._read
        return mark, list(reported(self._home.since(LedgerPrefix()), progress))

    def history(self) -> History:
        """Return all entries folded; entries that were folded before are not folded again.

        Raises:
            FleetError: as `read`.
        """
        self._seen = self._asked(self._fold)
        end = self._seen[1].prefix
        if not end.seq:
            self._require_home()
        self._require_fleet()
        with suppress(FleetError, OSError):  # without a copy everything works while the home does
            self._copy(end)
        return believed(self._seen[1].history, self._signer)

    def standing(self) -> Sequence[Entry]:
        """Return the entries that still count, without reading the others.

        Raises:
            FleetError: as `read`.
        """
        self.history()
        if self._standing[0] is not self._seen[1]:
            self._standing = self._seen[1], self._seen[1].entries()
        return self._standing[1]

    def _fold(self, progress: list[int]) -> tuple[object, Checkpoint]:
        folder, mark, (seen, known) = self._mirror.path.parent, self._home.mark(), self._seen
        if mark is not None and mark == seen:
            return self._seen
        if not known.prefix.seq:
            known = read_checkpoint(folder)
            self._kept = known.prefix.seq
        found = fold_on(known, self._home, progress)
        if not 0 <= found.prefix.seq - self._kept < EVERY or found.prefix.seq < known.prefix.seq:
            found = found.sifted()
            with suppress(OSError):
                write_checkpoint(folder, found)
                self._kept = found.prefix.seq
        return mark, found

    def _copy(self, end: LedgerPrefix) -> None:
        """Bring the copy to the end of the ledger; another history takes its place."""
        tail, home = self._mirror.tail(), self._home
        if (tail.seq, tail.hash) == (end.seq, end.hash):
            return
        if self._mirror.is_empty() and end.sha256:
            self._mirror.begin(home.since(LedgerPrefix()).lines, end)
        elif tail.seq and [tail.hash] == [e.hash for e in home.newest(tail.seq - 1)[:1]]:
            self._mirror.follow(home.newest)
        else:
            self.read()

    def _asked(self, ask: Callable[[list[int]], Found]) -> Found:
        """Return an answer of the home; the deadline begins anew with its progress."""
        progress: list[int] = []
        try:
            return call_with_timeout(lambda: ask(progress), self._read_s, self._hung, progress)
        except DamagedLedgerError as error:
            raise _with_way_out(error, self._mirror) from None
        except OSError as error:  # of time, too
            where = f"`{error.filename}`: " if error.filename else ""
            raise unanswered(f"{where}{error.strerror or error}") from None

    def append(self, events: Sequence[LedgerEvent], token: int = 0) -> int:
        """Append an entry for every event.

        Raises:
            FleetError: FC5109, the home is empty and was not; FC5143, it is another fleet's.
        """
        self._require_home()
        self._require_fleet()
        try:
            seq = self._home.append(events, token)
        except DamagedLedgerError as error:
            raise _with_way_out(error, self._mirror) from None
        with suppress(FleetError, OSError):  # without a copy everything works while the home does
            self._mirror.follow(self._home.newest)
        self._wrote()
        return seq

    def is_lost(self) -> bool:
        """Say whether the home is empty and was not."""
        return not self._mirror.is_empty() and self._home.is_empty()

    def _require_home(self) -> None:
        """Refuse an empty home that has had entries.

        A new history would take the place of quarantine, stages and evidence without a word.
        """
        if self.is_lost():
            raise _gone(self._mirror)

    def _require_fleet(self) -> None:
        """Refuse a home with the ledger of another fleet; once, and at no cost where it is ours.

        What cannot be read is for the caller to meet.
        """
        if self._is_ours:
            return
        try:
            tail = self._mirror.tail()
            if tail.seq and [tail.hash] != [e.hash for e in self._home.newest(tail.seq - 1)[:1]]:
                require_same_fleet(self._mirror, list(self._home.since(LedgerPrefix())))
        except AnotherFleetError:
            raise
        except (FleetError, OSError):
            return
        self._is_ours = True


class SalvagedLedger(FallbackLedger):
    """The verified copy in the place of a damaged home, for repairs alone.

    Entries go to the home, which a damaged line before its last does not hinder, else to the queue.
    """

    def __init__(
        self, home: Ledger, mirror: LedgerReplica, outbox: LedgerOutbox, queue: Path
    ) -> None:
        super().__init__(home, mirror, [])
        self._outbox, self._queue = outbox, queue

    def read(self, after: int = 0) -> list[Entry]:
        """Return the entries of copy and queue with `seq` above `after`."""
        kept = self._mirror.read()
        return [entry for entry in (*kept, *queued(self._queue, kept)) if entry.seq > after]

    def history(self) -> History:
        """Return the entries of copy and queue folded."""
        return fold_entries(self.read())

    def standing(self) -> Sequence[Entry]:
        """Return all entries."""
        return self.read()

    def append(self, events: Sequence[LedgerEvent], token: int = 0) -> int:
        """Append an entry for every event, or queue the events."""
        try:
            return super().append(events, token)
        except DamagedLedgerError:
            for event in events:
                self._outbox.append([event])
            return 0


def last_known(ledger: Callable[[], Ledger], mirror: LedgerReplica, queue: Path) -> LedgerSnapshot:
    """Read the ledger, or where that fails its copy and the queue.

    Raises:
        FleetError: the home cannot be read, and nothing of it is known here.
    """
    try:
        home = call_with_timeout(ledger, READ_S)  # which may write down what was queued
        return LedgerSnapshot.of(home)
    except TimeoutError as error:
        away = unanswered(str(error))
    except FleetError as error:
        away = error
    kept = _or_none(mirror)
    if not kept:
        raise away
    return LedgerSnapshot([*kept, *queued(queue, kept)], away)


def _with_way_out(error: DamagedLedgerError, mirror: LedgerReplica) -> DamagedLedgerError:
    """Return the error with the command that puts the copy back, where the copy is whole."""
    kept, problem = _or_none(mirror), error.diagnostics[0]
    if not kept:
        return error
    hint = (
        f"A copy of {len(kept):,} entries, the last by {kept[-1].by} at "
        f"{kept[-1].time:%Y-%m-%d %H:%M} UTC, is `{mirror.path}`, verified line by line. Put it "
        "back; the damaged file is kept beside the ledger:"
    )
    return DamagedLedgerError(replace(problem, hint=hint, command="fleetctl ledger restore"))


def _or_none(mirror: LedgerReplica) -> list[Entry]:
    """Return the entries of the copy; none where the copy was damaged."""
    try:
        return mirror.read()
    except (FleetError, OSError):
        return []


def _gone(mirror: LedgerReplica) -> FleetError:
    kept = _or_none(mirror)
    if kept:
        last = kept[-1]
        what = (
            f"{len(kept):,} entries were read from it before, the last by {last.by} at "
            f"{last.time:%Y-%m-%d %H:%M} UTC"
        )
        hint = (
            f"Bring back the disk or the file. A copy of what was read, verified line by line, "
            f"is `{mirror.path}`: put it back, and the next command adds what is queued. What was "
            "written later elsewhere is not in it. Without either, `fleetctl adopt` rebuilds the "
            "ledger from what is live, and what was held for a reason is held no more."
        )
        command = "fleetctl ledger restore"
    else:
        what = f"entries were read from it before; the copy of them, `{mirror.path}`, is damaged"
        hint = "Bring back the disk or the file. Without either, rebuild it from what is live."
        command = "fleetctl adopt"
    detail = f"Its home is empty, and {what}. Nothing is written to it; a rollback is queued."
    return FleetError.of("FC5109", "The ledger is gone", detail, hint=hint, command=command)


class AnotherFleetError(FleetError):
    """The ledger of a home is of another fleet than the copy of this checkout."""


def require_same_fleet(mirror: LedgerReplica, entries: Sequence[Entry]) -> None:
    """Refuse a ledger of another id than that of the copy; a fleet without an id has the name.

    Raises:
        FleetError: FC5143, it names both fleets.
        FleetError, OSError: the copy cannot be read.
    """
    (theirs, their_name), (ours, our_name) = _id_of(entries), _id_of(mirror.read())
    if ours and theirs and ours != theirs:
        raise AnotherFleetError.of(
            "FC5143",
            "The home has the ledger of another fleet",
            f"It is of fleet `{their_name}` (id {theirs}), and this checkout is of fleet "
            f"`{our_name}` (id {ours}). A home has fleets by their names, and would make one of "
            "both; nothing was read of it or written.",
            hint="Declare a home of its own for this fleet. If that history took the place of "
            f"this one on purpose, move `{mirror.path}` away first.",
        )


def _id_of(entries: Sequence[Entry]) -> tuple[str, str]:
    """Return id and name of the fleet of a ledger; empty where no entry has an id."""
    begun = (entry.event for entry in entries if isinstance(entry.event, ApplyStarted))
    found = ((event.fleet_id, event.fleet) for event in begun if event.fleet_id)
    return next(found, ("", ""))


class AwayLedger(SalvagedLedger):
    """The verified copy in the place of a home that does not answer; all entries are queued.

    A lease is not to be had. In its place stands the token of the routing table that gateways
    serve: a run with a newer lease, which has the home, publishes a table with a newer token, and
    from then on this run writes none.
    """

    def __init__(
        self, home: Ledger, mirror: LedgerReplica, outbox: LedgerOutbox, queue: Path, token: int
    ) -> None:
        super().__init__(home, mirror, outbox, queue)
        self._token = token
        self.lease = self._as_served

    def append(self, events: Sequence[LedgerEvent], token: int = 0) -> int:
        """Queue an entry for every event."""
        del token  # which the home would check
        for event in events:
            self._outbox.append([event])
        return 0

    @contextmanager
    def _as_served(self, holder: str, ttl_s: int = 60) -> Iterator[Lease]:
        del holder, ttl_s  # of a lease
        yield Lease(self._token, lambda: None)
