"""Defines a notice, and the contract of the sinks that send notices."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleet.spec import NotifySpec


@dataclass(frozen=True, slots=True)
class Notice:
    """The facts of an event in words, and where they go."""

    body: Mapping[str, Any]
    """The sentence under `text`, beside the facts."""
    receivers: NotifySpec
    """All declared receivers, of which the sink finds its own."""
    root: Path
    """Folder of the project; references of secrets are relative to it."""
    to: str = ""
    """Address that is declared for a sink of an extension."""


NoticeSink = Callable[[Notice], Awaitable[str]]
"""Sends a notice once, in a few seconds; returns why it was not delivered; empty: it was.

The reason is written to the ledger, so it never holds a secret.
"""
