"""Defines an entry of the ledger: an event, its author, time and place in the chain."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fleet.history.events import LedgerEvent, data_of


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the ledger."""

    seq: int
    time: datetime
    event: LedgerEvent
    run: str
    """Id of the author's run."""
    by: str
    token: int
    previous: str
    """Hash of the entry before, empty for the first."""
    hash: str
    line: bytes = b""
    """The line as written, without its newline; empty: the entry waits for its home."""

    def document(self) -> dict[str, Any]:
        """Return the data of the line as written, with the fields of a later release."""
        found: dict[str, Any] = json.loads(self.line)["data"] if self.line else data_of(self.event)
        return found
