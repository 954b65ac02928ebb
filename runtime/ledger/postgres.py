"""The ledger in a PostgreSQL database: one row a line, and a row per fleet that orders writers.

append:  lock the fleet's row of leases, check the token, read the last line, insert, commit
lease:   the same row, by the clock of the server
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from fleet.errors import FleetError
from fleet.history import Entry, History, LedgerEvent, fold_entries
from runtime.ledger import chain
from runtime.ledger import lease as leases
from runtime.ledger.chain import ChainedEntries, EntrySigner, LedgerPrefix
from runtime.ledger.lease import LeaseRecord
from runtime.ledger.protocol import Lease, RestoredLedger
from runtime.processes import start_mark
from runtime.state.postgres import Database

if TYPE_CHECKING:
    from psycopg import Cursor

_BATCH: Final = 10_000
"""Upper bound of the lines that are fetched at once, some 5 MB."""
_INSERT: Final = """
insert into fleetctl.entry (fleet, seq, id, line)
select %s, * from unnest(%s::bigint[], %s::text[], %s::bytea[])
"""


@dataclass(frozen=True, slots=True)
class PostgresLedger:
    """Keeps the contract of `runtime.ledger.protocol.Ledger`."""

    database: Database
    fleet: str
    run: str
    by: str
    clock: Callable[[], datetime]
    signer: EntrySigner | None = None

    def read(self, after: int = 0) -> list[Entry]:
        """Return the entries with `seq` above `after`, verified as a hash chain."""
        return [entry for entry in self.since(LedgerPrefix()) if entry.seq > after]

    def since(self, known: LedgerPrefix) -> ChainedEntries:
        """Return the entries after a prefix; all where the ledger begins with other lines.

        The chain tells: the line at the prefix's end has the hash of all before.
        """
        start = LedgerPrefix()
        if known.seq and not known.sha256:
            there = [entry.hash for entry in self._entries(known.seq - 1, 1)]
            start = known if there == [known.hash] else start
        return ChainedEntries(self._lines(start.seq), str(self.database), start, None)

    def mark(self) -> object:
        """Return the last line."""
        return self.database.read(self._last, None)

    def history(self) -> History:
        """Return all entries folded."""
        return fold_entries(self.since(LedgerPrefix()))

    def standing(self) -> Sequence[Entry]:
        """Return all entries."""
        return self.read()

    def newest(self, after: int) -> list[Entry]:
        """Return the entries with `seq` above `after`."""
        return self._entries(after)

    def append(self, events: Sequence[LedgerEvent], token: int = 0) -> int:
        """Append an entry for every event; durable when this returns.

        An event with an id that the ledger has is not written again. Where the connection broke
        at the commit, the entries are looked for first.

        Raises:
            LockHeldError: `token` is older than the newest lease's. 0, of an emergency, is never
                too old.
            FleetError: FC5102, the last line was changed; FC5106, FC5107.
        """
        now, written = self.clock(), dict[int, bytes]()

        def work(cursor: "Cursor[Any]") -> int:
            newest = self._locked(cursor).token
            if written and self._there(cursor, *next(iter(written.items()))):
                return max(written)
            written.clear()
            if token and token < newest:
                raise leases.lost(token, newest)
            known = self._known(cursor, [event.entry_id for event in events if event.entry_id])
            new = [event for event in events if event.entry_id not in known]
            seq, previous = self._end(cursor)
            for event in new:
                seq += 1
                entry = Entry(seq, now, event, self.run, self.by, token, previous, "")
                line, previous = chain.line(entry, self.signer)
                written[seq] = line.removesuffix(b"\n")
            self._insert(cursor, written, [event.entry_id for event in new])
            return seq

        return self.database.write(work)

    def is_empty(self) -> bool:
        """Say whether there is no entry."""
        return self.mark() is None

    def count(self) -> int:
        """Return the number of lines, damaged lines too."""
        sql = "select count(*) from fleetctl.entry where fleet = %s"
        return int(self.database.read(lambda c: self._rows(c, sql)[0][0], 0))

    def restore(self, copy: Sequence[Entry]) -> RestoredLedger:
        """Add the lines of a verified copy that follow the lines here.

        Raises:
            FleetError: FC5182, the lines here are not the copy's first: no line of a database is
                replaced.
        """

        def work(cursor: "Cursor[Any]") -> RestoredLedger:
            self._locked(cursor)
            sql = "select line from fleetctl.entry where fleet = %s order by seq"
            here = [bytes(line) for (line,) in self._rows(cursor, sql)]
            if here != [entry.line for entry in copy[: len(here)]]:
                detail = f"{self.database} has other lines than the copy, and replaces none."
                hint = "Put back a backup of the database."
                detail = f"{detail[:1].upper()}{detail[1:]}"
                raise FleetError.of("FC5182", "The copy is of another ledger", detail, hint=hint)
            new = copy[len(here) :]
            lines = {entry.seq: entry.line for entry in new}
            self._insert(cursor, lines, [entry.event.entry_id for entry in new])
            self._raise(cursor, max((entry.token for entry in copy), default=0))
            return RestoredLedger(len(copy), 0, None)

        return self.database.write(work)

    def raise_token(self, token: int) -> None:
        """Let every later lease have a newer token."""

        def work(cursor: "Cursor[Any]") -> None:
            self._locked(cursor)
            self._raise(cursor, token)

        self.database.write(work)

    @contextmanager
    def lease(self, holder: str, ttl_s: int = 60) -> Iterator[Lease]:
        """Take the lease for `ttl_s` seconds of the server's clock; the end returns the lease.

        Raises:
            LockHeldError: FC5104, it names the holder and when its lease ends.
        """
        mine = uuid4().hex

        def work(cursor: "Cursor[Any]") -> int:
            found = self._locked(cursor)
            if found.run == mine:  # the connection broke at the commit
                return found.token
            if found.record.is_held(found.now):
                raise leases.held(found.record, found.now)
            pid = os.getpid()
            given = holder, ttl_s, mine, leases.this_machine(), pid, start_mark(pid) or ""
            cursor.execute(_TAKE, (*given, self.fleet))
            return found.token + 1

        token = self.database.write(work)
        try:
            yield Lease(token, partial(self._renew, token, ttl_s))
        finally:
            with suppress(FleetError):  # away: the lease ends by itself
                self.database.write(lambda c: c.execute(_GIVE_BACK, (self.fleet, token)))

    def _renew(self, token: int, ttl_s: int) -> None:
        def work(cursor: "Cursor[Any]") -> None:
            newest = self._locked(cursor).token
            if token < newest:
                raise leases.lost(token, newest)
            cursor.execute(_RENEW, (ttl_s, self.fleet))

        self.database.write(work)

    def _locked(self, cursor: "Cursor[Any]") -> "_LeaseRow":
        """Lock the fleet's row until the transaction ends; one writer at a time has it."""
        cursor.execute(_FIRST, (self.fleet,))
        row = cursor.execute(_LOCK, (self.fleet,)).fetchone()
        assert row is not None
        token, holder, expires, now, run, *where = row
        record = LeaseRecord(token, holder, expires.isoformat() if expires else "", *where)
        return _LeaseRow(token, record, now, run)

    def _rows(self, cursor: "Cursor[Any]", sql: str, *more: object) -> list[Any]:
        return cursor.execute(sql.encode(), (self.fleet, *more)).fetchall()

    def _last(self, cursor: "Cursor[Any]") -> bytes | None:
        sql = "select line from fleetctl.entry where fleet = %s order by seq desc limit 1"
        rows = self._rows(cursor, sql)
        return bytes(rows[0][0]) if rows else None

    def _end(self, cursor: "Cursor[Any]") -> tuple[int, str]:
        if (last := self._last(cursor)) is None:
            return 0, ""
        found = chain.checked(last, 0, str(self.database))
        return found["seq"], found["hash"]

    def _there(self, cursor: "Cursor[Any]", seq: int, line: bytes) -> bool:
        sql = "select line from fleetctl.entry where fleet = %s and seq = %s"
        return [(line,)] == [(bytes(found),) for (found,) in self._rows(cursor, sql, seq)]

    def _known(self, cursor: "Cursor[Any]", ids: Sequence[str]) -> set[str]:
        sql = "select id from fleetctl.entry where fleet = %s and id = any(%s)"
        return {found for (found,) in self._rows(cursor, sql, list(ids))} if ids else set()

    def _insert(
        self, cursor: "Cursor[Any]", lines: dict[int, bytes], ids: Sequence[str | None]
    ) -> None:
        if lines:
            given = self.fleet, list(lines), list(ids), list(lines.values())
            cursor.execute(_INSERT, given)

    def _raise(self, cursor: "Cursor[Any]", token: int) -> None:
        sql = b"update fleetctl.lease set token = greatest(token, %s) where fleet = %s"
        cursor.execute(sql, (token, self.fleet))

    def _batch(self, after: int, most: int) -> list[bytes]:
        sql = "select line from fleetctl.entry where fleet = %s and seq > %s order by seq limit %s"
        rows = self.database.read(lambda c: self._rows(c, sql, after, most), list[Any]())
        return [bytes(line) for (line,) in rows]

    def _lines(self, after: int) -> Iterator[bytes]:
        while batch := self._batch(after, _BATCH):
            for line in batch:
                yield line + b"\n"
            after += len(batch)

    def _entries(self, after: int, most: int = 1 << 31) -> list[Entry]:
        home = str(self.database)
        return [chain.entry(line, 0, home) for line in self._batch(after, most)]


@dataclass(frozen=True, slots=True)
class _LeaseRow:
    token: int
    record: LeaseRecord
    now: datetime
    """The time of the server."""
    run: str
    """Drawn for every lease."""


_FIRST: Final = "insert into fleetctl.lease (fleet) values (%s) on conflict do nothing"
_LOCK: Final = """
select token, holder, nullif(expires, '-infinity'), clock_timestamp(), run, machine, pid, started
from fleetctl.lease where fleet = %s for update
"""
_TAKE: Final = """
update fleetctl.lease set token = token + 1, holder = %s,
  expires = clock_timestamp() + make_interval(secs => %s), run = %s, machine = %s, pid = %s,
  started = %s where fleet = %s
"""
_RENEW: Final = """
update fleetctl.lease set expires = clock_timestamp() + make_interval(secs => %s) where fleet = %s
"""
_GIVE_BACK: Final = """
update fleetctl.lease set holder = '', expires = '-infinity', run = ''
where fleet = %s and token = %s
"""
