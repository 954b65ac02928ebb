"""Rows that an Envoy wrote, in the words of our own gateways' rows."""

import json
from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus
from typing import Any, Final

from runtime.gateway.usage import LIVE

CLIENT_LEFT: Final = 499
_LEFT: Final = "DC"
_BROKE_OFF: Final = frozenset({"UC", "UR", "UPE", "UMSDR", "SI"})
"""Envoy's response flags for a client that left, and for a server that broke off or fell silent."""
_ENVOYS: Final = b'"latency_us":'
"""In every line that an Envoy wrote, and in none of ours: quotes in a value are escaped."""
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
        "purpose": LIVE,
    }


def in_our_words(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the lines of a usage log as ours are; ours, and what is no row, come as they are."""
    for line in lines:
        if _ENVOYS not in line:
            yield line
            continue
        try:
            row = as_ours(json.loads(line))
        except (KeyError, TypeError, ValueError):
            yield line
            continue
        yield json.dumps(row).encode() + b"\n"


def _status(row: Mapping[str, Any]) -> int:
    status, flags = int(row["status"]), set(str(row.get("flags") or "").split(","))
    if _LEFT in flags:
        return CLIENT_LEFT
    if status < HTTPStatus.BAD_REQUEST and flags & _BROKE_OFF:
        return HTTPStatus.BAD_GATEWAY
    return status
