"""Appends to a ledger whose home may be down or hang; entries that fail wait in a queue.

    rollback --> outbox --in time--> ledger
                        --else-----> a file in the state folder --next command--> ledger

Queued entries are in no chain of hashes yet; `deliver` writes them into the ledger, once, with the
time and the author of the run that queued them.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

from fleet.codec import decode_json
from fleet.errors import FleetError
from fleet.history import Entry, LedgerEvent, data_of, event_of
from runtime.deadline import LIMIT_S, call_with_timeout
from runtime.files import make_private, read_plain, replace_file, try_lock
from runtime.ledger.protocol import Ledger, unanswered

Found = TypeVar("Found")

FOLDER = "queued"
READ_S = 2.0
_LOCK = ".lock"
_NUMBERS = count()
"""Keeps the order of entries that are queued within a millisecond."""


class LedgerOutbox:
    """Appends entries; waits once for a home that is down or hangs, and then no more."""

    def __init__(
        self,
        ledger: Callable[[], Ledger],
        queue: Path | None = None,
        by: str = "",
        run: str = "",
        limit_s: float = LIMIT_S,
        down: str = "",
    ) -> None:
        """Prepare; nothing is opened.

        Args:
            ledger: Opens the ledger.
            queue: Where entries wait for it, such as `.fleetctl/queued`; None: they are lost.
            by: Who runs this.
            run: Id of this run.
            limit_s: How long the home may take for an entry.
            down: Why the home is known to be away, so that it is asked nothing; empty: it is not.
        """
        self._ledger, self._queue, self._by, self._run = ledger, queue, by, run
        self._limit_s = limit_s
        self._down = down

    def read(
        self, otherwise: Found, ask: Callable[[Ledger], Found], limit_s: float = READ_S
    ) -> Found:
        """Return the answer of the ledger, or `otherwise` where the ledger does not answer in time.

        A long ledger takes time to be read, so that is no sign of a home that hangs.
        """
        if self._down:
            return otherwise
        try:
            return call_with_timeout(lambda: ask(self._ledger()), limit_s)
        except (FleetError, OSError):
            return otherwise

    def append_or_raise(self, events: Sequence[LedgerEvent]) -> None:
        """Append, or raise.

        Raises:
            FleetError: FC5107, the home does not answer in time; or what it refuses.
            OSError: it cannot be written.
        """
        try:
            call_with_timeout(lambda: self._ledger().append(events), self._limit_s)
        except TimeoutError as error:
            raise unanswered(str(error)) from None

    def append(self, events: Sequence[LedgerEvent]) -> str:
        """Append, or queue; return why the entries are not in the ledger, empty when they are.

        The events are of a single kind. A queued entry has the id that a hung home may write later.
        """
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        if self._queue:
            events = [replace(event, entry_id=uuid4().hex) for event in events]
        why = self._down
        if not why:
            try:
                call_with_timeout(lambda: self._ledger().append(events), self._limit_s)
            except TimeoutError as error:
                why = self._down = str(error)
            except (FleetError, OSError) as error:
                why = str(error)
            else:
                return ""
        if self._queue is None:
            return why
        late = {"time": now, "by": self._by, "run": self._run}
        records = [data_of(replace(event, queued=late)) for event in events]
        document = {"kind": events[0].kind, "records": records}
        try:
            make_private(self._queue)
            name = f"{now.replace(':', '')}-{next(_NUMBERS):06}-{uuid4().hex[:8]}.json"
            replace_file(self._queue / name, json.dumps(document).encode())
        except OSError as error:
            again = "once that is mended run this again, which writes it down"
            return f"{why}, and it could not be queued: {error.strerror}; {again}"
        return f"{why}; it is queued and will be written by the next command that reaches it"


def deliver(queue: Path, ledger: Ledger) -> int:
    """Write the queued entries into the ledger, oldest first; return their number.

    Safe to repeat after a crash at any point, and beside another command that does the same.

    Raises:
        FleetError, OSError: the ledger does not take it; it stays queued.
    """
    if not _waiting(queue):
        return 0
    count = 0
    with try_lock(queue / _LOCK) as ours:
        waiting = _waiting(queue) if ours else []
        known = {entry.event.entry_id for entry in ledger.read()} if waiting else set()
        for path in waiting:
            new = [event for event in _events(path) if event.entry_id not in known]
            if new:
                ledger.append(new)
            path.unlink()
            count += len(new)
    return count


def _waiting(queue: Path) -> list[Path]:
    return sorted(queue.glob("[!.]*.json"))


def _events(path: Path) -> list[LedgerEvent]:
    """Return the events of a queued file.

    Raises:
        FleetError: FC5183, the file is not what `append` wrote.
    """
    try:
        document = decode_json(read_plain(path))
        events = [event_of(document["kind"], record) for record in document["records"]]
        for event in events:
            late = event.queued or {}
            _ = datetime.fromisoformat(late["time"]), late["by"], late["run"]
    except (ValueError, KeyError, TypeError, AttributeError):
        detail = (
            f"`{path}` cannot be read, so the ledger lacks what a rollback did while its home was "
            "away."
        )
        hint = "Move the file away; `fleetctl status` shows what is live."
        raise FleetError.of("FC5183", "Queued entries are damaged", detail, hint=hint) from None
    return events


def queued(queue: Path, after: Sequence[Entry]) -> Iterator[Entry]:
    """Yield the queued entries as they would follow `after`, without a hash of their own.

    An entry that stands there already is passed over: a home that hung wrote the entry after all.
    """
    known = {entry.event.entry_id for entry in after}
    waiting = (event for path in _waiting(queue) for event in _events(path))
    new = (event for event in waiting if event.entry_id not in known)
    for seq, event in enumerate(new, len(after) + 1):
        late = event.queued or {}
        time = datetime.fromisoformat(late["time"])
        yield Entry(seq, time, event, late["run"], late["by"], 0, "", "")
