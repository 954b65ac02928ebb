"""Heads of HTTP/1.1 messages as bytes."""

from collections.abc import Mapping
from functools import lru_cache
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from runtime.gateway.endpoints import PRIORITY

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK: Final = b"0\r\n\r\n"
_CLOSE: Final = b"Connection: close\r\n"


class Target:
    """A server's base URL, taken apart."""

    __slots__ = ("host", "is_tls", "port", "prefix", "shown")

    # Compared by identity: `target` gives one object for one URL.

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.is_tls = parts.scheme == "https"
        self.host = parts.hostname or ""
        self.port = parts.port or (443 if self.is_tls else 80)
        self.prefix = parts.path
        self.shown = parts.netloc.rpartition("@")[2]


@lru_cache(maxsize=4096)
def target(url: str) -> Target:
    """Return a base URL taken apart."""
    return Target(url)


@lru_cache(maxsize=4096)
def _request_start(to: Target, path: str, priority: int | None) -> bytes:
    urgent = "" if priority is None else f"{PRIORITY}: {priority}\r\n"
    return (
        f"POST {to.prefix}{path} HTTP/1.1\r\nHost: {to.shown}\r\nAccept: */*\r\n"
        f"{urgent}Content-Type: application/json\r\nContent-Length: "
    ).encode("ascii")


def request(
    to: Target, path: str, request_id: str, length: int, priority: int | None = None
) -> bytes:
    """Return the head of a request to a server: nothing in it is a client's."""
    start = _request_start(to, path, priority)
    number = request_id.encode("ascii")
    return b"%b%d\r\nX-Request-Id: %b\r\n\r\n" % (start, length, number)


@lru_cache(maxsize=1024)
def _status_line(status: int) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Unknown"
    return f"HTTP/1.1 {status} {phrase}\r\nServer: fleetctl\r\n".encode("ascii")


def answer(status: int, headers: Mapping[str, str], length: int, *, closing: bool) -> bytes:
    """Return the head of an answer whose length in bytes is known."""
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    return b"%b%bContent-Length: %d\r\n%b\r\n" % (
        _status_line(status), lines.encode("latin-1"), length, _CLOSE if closing else b"",
    )  # fmt: skip


@lru_cache(maxsize=4096)
def answer_start(status: int, content_type: str, adapter: str) -> bytes:
    """Return the head of a server's whole answer on its way back, up to the request's id."""
    lines = f"Content-Type: {content_type}\r\nx-fleetctl-version: {adapter}\r\nx-request-id: "
    return _status_line(status) + lines.encode("latin-1")


def passed_back(start: bytes, request_id: str, body: bytes, *, closing: bool) -> bytes:
    """Return a server's whole answer as the client gets it."""
    number, close = request_id.encode("ascii"), _CLOSE if closing else b""
    return b"%b%b\r\nContent-Length: %d\r\n%b\r\n%b" % (start, number, len(body), close, body)


def stream(status: int, headers: Mapping[str, str], *, chunked: bool, closing: bool) -> bytes:
    """Return the head of an answer of unknown length, in chunks or up to the connection's end."""
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    return b"%b%bCache-Control: no-cache\r\n%b%b\r\n" % (
        _status_line(status),
        lines.encode("latin-1"),
        b"Transfer-Encoding: chunked\r\n" if chunked else b"",
        _CLOSE if closing or not chunked else b"",
    )


def chunk(data: bytes) -> bytes:
    """Return a part of a body as a chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)
