"""HTTP/1.1 messages as bytes, and heads that repeat, read without the parser."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from http.client import responses as phrases
from typing import Final, Generic, TypeVar
from urllib.parse import urlsplit

from runtime.gateway.body import errors
from runtime.gateway.body.endpoints import PRIORITY
from runtime.gateway.request.app import error_response

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK: Final = b"0\r\n\r\n"
CLOSE: Final = b"Connection: close\r\n"
REQUEST_HEAD: Final = b"%b%d\r\nX-Request-Id: %b\r\n%b\r\n"
"""Head of a request to a server: `request_start`, length of the body, id of the request, headers of
a trace or nothing."""
RELAYED: Final = b"%b%b\r\nContent-Length: %d\r\n%b\r\n%b"
"""A server's complete response for the client: `relayed_start`, id of the request, length of the
body, `CLOSE` or nothing, and the body."""


class Origin:
    """A server's base URL, split. `origin` gives one object for one URL, compared by identity."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.url = url
        self.launch, _, key = parts.fragment.partition(":")
        """Launch that must answer; empty: any launch may."""
        self.key_header = f"Authorization: Bearer {key}\r\n" if key else ""
        """The server's own key, never a client's."""
        self.is_tls = parts.scheme == "https"
        self.host = parts.hostname or ""
        self.port = parts.port or (443 if self.is_tls else 80)
        self.prefix = parts.path
        self.host_header = parts.netloc.rpartition("@")[2]


origin: Final = lru_cache(maxsize=4096)(Origin)
aside: Final = lru_cache(maxsize=4096)(Origin)
"""Another object for the server at a URL, with connections of its own: answers on these say nothing
of the engine."""


@lru_cache(maxsize=4096)
def request_start(server: Origin, path: str, priority: int | None) -> bytes:
    """Return the head of a request to a server, up to the length of its body."""
    urgent = "" if priority is None else f"{PRIORITY}: {priority}\r\n"
    return (
        f"POST {server.prefix}{path} HTTP/1.1\r\nHost: {server.host_header}\r\nAccept: */*\r\n"
        f"{server.key_header}{urgent}Content-Type: application/json\r\nContent-Length: "
    ).encode("ascii")


def get_request(server: Origin, path: str, *, closing: bool = True) -> bytes:
    """Return a request of the gateway's own; `closing`: the connection ends with the response."""
    end = "Connection: close\r\n\r\n" if closing else "\r\n"
    return (
        f"GET {server.prefix}{path} HTTP/1.1\r\nHost: {server.host_header}\r\nAccept: */*\r\n"
        f"{server.key_header}{end}"
    ).encode("ascii")


@lru_cache(maxsize=1024)
def _status_line(status: int) -> bytes:
    phrase = phrases.get(status, "Unknown")
    return f"HTTP/1.1 {status} {phrase}\r\nServer: fleetctl\r\n".encode("ascii")


def response_head(status: int, headers: Mapping[str, str], length: int, *, closing: bool) -> bytes:
    """Return the head of a response whose length in bytes is known."""
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    return b"%b%bContent-Length: %d\r\n%b\r\n" % (
        _status_line(status), lines.encode("latin-1"), length, CLOSE if closing else b"",
    )  # fmt: skip


@lru_cache(maxsize=4096)
def relayed_start(status: int, content_type: str, adapter: str) -> bytes:
    """Return the head of a server's complete response, up to the id of the request."""
    lines = f"Content-Type: {content_type}\r\nx-fleetctl-version: {adapter}\r\nx-request-id: "
    return _status_line(status) + lines.encode("latin-1")


def stream_head(status: int, headers: Mapping[str, str], *, chunked: bool, closing: bool) -> bytes:
    """Return the head of a response of unknown length, in chunks or up to the connection's end."""
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    return b"%b%bCache-Control: no-cache\r\n%b%b\r\n" % (
        _status_line(status),
        lines.encode("latin-1"),
        b"Transfer-Encoding: chunked\r\n" if chunked else b"",
        CLOSE if closing or not chunked else b"",
    )


def chunk(data: bytes) -> bytes:
    """Return a part of a body as a chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


@lru_cache
def unrecorded(path: str) -> bytes:
    """Return the response to a request whose usage row could not be written."""
    status, headers, body = error_response(errors.usage_log_down(), path)
    return response_head(status, headers, len(body), closing=True) + body


Meaning = TypeVar("Meaning")
LENGTH: Final = b"content-length"
_HEAD_END: Final = b"\r\n\r\n"
_VARYING: Final = re.compile(
    rb"\r\n(content-length|traceparent|tracestate|x-request-id): ?([!-~]{1,128})(?=\r\n)",
    re.IGNORECASE,
)
_SOUND: Final = re.compile(rb"[!-~]{1,128}")
"""Values that no parser takes for anything else, whatever the header: letters without blanks."""
_MAX_VALUE: Final = 128
_MAX_DIGITS: Final = 8
"""Upper bound of the digits of a length."""
MAX_REPEATED: Final = 16_384
"""Upper bound of a head that is read without the parser, bytes; longer heads are seldom, and their
size is the parser's to judge."""


@dataclass(slots=True)
class RepeatedHead(Generic[Meaning]):
    """A head, split around the values that vary, and its meaning but for these."""

    meaning: Meaning
    names: tuple[bytes, ...]
    """Lower-case names of the headers whose values vary, besides the length."""
    _start: bytes
    """The head up to the first value that varies."""
    _pieces: tuple[tuple[bool, bytes, int], ...]
    """By value that varies: whether the value is the length, what follows the value, and the size
    of what follows."""

    def split(self, data: bytes) -> tuple[int, bytes, list[bytes]] | None:
        """Return the length, the bytes behind the head, and the values of `names`.

        None: the data begins with another head.
        """
        if not data.startswith(self._start):
            return None
        at, length = len(self._start), 0
        values: list[bytes] = []
        for is_length, piece, size in self._pieces:
            end = data.find(b"\r", at, at + _MAX_VALUE + 1)
            if end < 0 or not data.startswith(piece, end):
                return None
            value = data[at:end]
            if not is_length:
                if _SOUND.fullmatch(value) is None:
                    return None
                values.append(value)
            elif value.isdigit() and end - at <= _MAX_DIGITS:
                length = int(value)
            else:
                return None
            at = end + size
        return length, data[at:], values


def repeated_head(data: bytes, meaning: Meaning) -> RepeatedHead[Meaning] | None:
    """Return the head at the start of parsed `data`; None: its length is not given exactly once."""
    head = data[: data.find(_HEAD_END) + len(_HEAD_END)]
    if len(head) > MAX_REPEATED:
        return None
    lowered = head.lower()
    found = [match for match in _VARYING.finditer(head) if lowered.count(match[1].lower()) == 1]
    names = [match[1].lower() for match in found]
    if LENGTH not in names or not found[names.index(LENGTH)][2].isdigit():
        return None
    ends = [*(match.start(2) for match in found[1:]), len(head)]
    pieces = tuple(
        (name == LENGTH, piece := head[match.end(2) : end], len(piece))
        for name, match, end in zip(names, found, ends, strict=True)
    )
    varying = tuple(name for name in names if name != LENGTH)
    return RepeatedHead(meaning, varying, head[: found[0].start(2)], pieces)
