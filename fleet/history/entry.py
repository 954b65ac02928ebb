"""Entry."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the ledger; the kinds and their `data` stand at the top of this module."""

    seq: int
    time: datetime
    kind: str
    run: str
    """Id of the run that wrote it."""
    by: str
    token: int
    data: Mapping[str, Any]
    previous: str
    """Hash of the entry before, empty for the first."""
    hash: str
    format: int | None = None
    """Format of its line, where it is written down."""
