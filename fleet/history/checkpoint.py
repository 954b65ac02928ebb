"""Codes a `History` as plain JSON: a ledger is folded on from where an earlier fold ended."""

from collections.abc import Mapping
from typing import Any

from fleet.decoding import decode
from fleet.encoding import plain
from fleet.history.values import History


def history_document(history: History) -> dict[str, Any]:
    """Return a history in plain form; the order of its parts is that of the fold."""
    document: dict[str, Any] = plain(history)
    return document


def history_of(document: Mapping[str, Any]) -> History:
    """Return the history in plain form.

    Raises:
        MalformedError: the document is none of this release.
    """
    return decode(History, document, "history")
