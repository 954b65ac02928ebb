"""Rows that an Envoy wrote, translated into the fields of `UsageRow`."""

import json
from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus
from typing import Any, Final

from runtime.usage.row import LIVE

CLIENT_LEFT: Final = 499
_CLIENT_LEFT_FLAG: Final = "DC"
_SERVER_ABORT_FLAGS: Final = frozenset({"UC", "UR", "UPE", "UMSDR", "SI"})
"""Envoy's response flags for a server that broke off or fell silent."""
_MARK_OF_ENVOY: Final = b'"latency_us":'
"""In every line that an Envoy wrote, and in no line of a gateway: quotes in a value are escaped."""
_TEXTS: Final = ("client", "alias", "version", "server", "path")


def to_usage_row(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row with the fields of `UsageRow`; a row of a gateway comes back as it is.

    Raises:
        KeyError, TypeError, ValueError: `row` is no usage row.
    """
    if "latency_us" not in row:
        return row
    latency_us, first_byte_us = row["latency_us"], row.get("first_byte_us")
    return {
        **row,
        **{name: row.get(name) or "" for name in _TEXTS},
        "latency_s": row["duration_ms"] / 1e3 if latency_us is None else latency_us / 1e6,
        "first_byte_s": None if first_byte_us is None else first_byte_us / 1e6,
        "status": _status(row),
        "stream": row.get("stream") == "true",
        "purpose": LIVE,
    }


def translate_lines(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the lines of a usage log with the fields of `UsageRow`; damaged lines as they are."""
    for line in lines:
        if _MARK_OF_ENVOY not in line:
            yield line
            continue
        try:
            row = to_usage_row(json.loads(line))
        except (KeyError, TypeError, ValueError):
            yield line
            continue
        yield json.dumps(row).encode() + b"\n"


def _status(row: Mapping[str, Any]) -> int:
    status, flags = int(row["status"]), set(str(row.get("flags") or "").split(","))
    if _CLIENT_LEFT_FLAG in flags:
        return CLIENT_LEFT
    if status < HTTPStatus.BAD_REQUEST and flags & _SERVER_ABORT_FLAGS:
        return HTTPStatus.BAD_GATEWAY
    return status
