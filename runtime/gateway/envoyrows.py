"""Rows that an Envoy wrote, in the words of our own gateways' rows."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

CLIENT_LEFT: Final = 499
_LEFT: Final = "DC"
_BROKE_OFF: Final = frozenset({"UC", "UR", "UPE", "UMSDR", "SI"})
"""Envoy's response flags for a client that left, and for a server that broke off or fell silent."""
_TEXTS: Final = ("client", "alias", "version", "server", "path")


def as_ours(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row as ours are, in seconds and with our statuses; one of ours as it is.

    Raises:
        TypeError, ValueError: it is no row.
    """
    if "latency_us" not in row:
        return row
    whole, first = row["latency_us"], row.get("first_byte_us")
    seconds = row["duration_ms"] / 1e3 if whole is None else whole / 1e6
    return {
        **row,
        **{name: row.get(name) or "" for name in _TEXTS},
        "latency_s": seconds,
        "first_byte_s": None if first is None else first / 1e6,
        "status": _status(row),
        "stream": row.get("stream") == "true",
    }


def _status(row: Mapping[str, Any]) -> int:
    status, flags = int(row["status"]), set(str(row.get("flags") or "").split(","))
    if _LEFT in flags:
        return CLIENT_LEFT
    if status < HTTPStatus.BAD_REQUEST and flags & _BROKE_OFF:
        return HTTPStatus.BAD_GATEWAY
    return status
