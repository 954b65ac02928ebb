"""One request as it comes in over a client's connection."""

from typing import Final

import httptools

from runtime.gateway import refusals
from runtime.gateway.desk import COMPLETIONS, MAX_BODY, Desk
from runtime.gateway.exchange import Exchange
from runtime.gateway.refusals import RefusalError

MAX_HEAD: Final = 32_768
"""Largest request line and headers in bytes."""
MAX_IGNORED: Final = 65_536
"""Largest body in bytes that is read though its request is refused; above, the connection ends."""
MAX_BUFFERED: Final = 256 * 1024
"""Bytes of an answer that wait for the client before the server is read no further."""
MAX_AHEAD: Final = 64 * 1024
"""Bytes of requests that a client may send ahead before it is read no further."""
_READ: Final = frozenset(
    {
        b"authorization", b"content-type", b"content-encoding", b"x-session-id",
        b"content-length", b"transfer-encoding", b"expect",
        b"x-fleetctl-purpose", b"x-fleetctl-version",
    }
)  # fmt: skip
_OPERATORS: Final = {b"x-fleetctl-purpose": "purpose", b"x-fleetctl-version": "version"}
"""Headers of a client that matter; any other is dropped."""
_OVERHEAD: Final = 16
"""Largest part of chunk heads in an upload, per byte of it: honest ones stay below six."""


class Incoming:
    """What has been read of one request, and whether it is refused already."""

    __slots__ = (
        "_fed", "_parts", "_size", "authorization", "content_type", "encoding", "exchange",
        "expects", "has_head", "head_bytes", "is_complete", "is_old", "keeps", "length", "method",
        "path", "purpose", "refusal", "session", "transfer", "url", "version",
    )  # fmt: skip

    def __init__(self) -> None:
        """Begin with nothing."""
        self.url = b""
        self.method = ""
        self.path = ""
        self.authorization: list[str] = []
        self.content_type = self.encoding = self.session = ""
        self.purpose = self.version = ""
        """Counts only from the operator."""
        self.length: bytes | None = None
        self.transfer: bytes | None = None
        self.expects = False
        """Whether the client waits for `100 Continue`."""
        self.keeps = False
        """Whether the connection may serve another request after this one."""
        self.is_old = False
        """Whether it is HTTP/1.0, which knows no chunks."""
        self.has_head = False
        self.is_complete = False
        self.head_bytes = 0
        self.exchange: Exchange | None = None
        self.refusal: RefusalError | None = None
        self._parts: list[bytes] = []
        self._size = 0
        self._fed = 0

    @property
    def body(self) -> bytes:
        """The body, as far as it was read and kept."""
        return self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)

    def header(self, name: bytes, value: bytes) -> None:
        """Keep what matters of a header; trailers do not."""
        self.head_bytes += len(name) + len(value) + 4
        name = name.lower()
        if self.has_head or name not in _READ:
            return
        if name.startswith(b"x-fleetctl-"):
            setattr(self, _OPERATORS[name], value.decode("latin-1"))
            return
        match name:
            case b"authorization":
                self.authorization.append(value.decode("utf-8", "surrogateescape"))
            case b"content-type":
                self.content_type = value.decode("latin-1")
            case b"content-encoding":
                self.encoding = value.decode("latin-1")
            case b"x-session-id":
                self.session = self.session or value.decode("utf-8", "surrogateescape")
            case b"content-length":
                self.length = value
            case b"transfer-encoding":
                self.transfer = value if self.transfer is None else b"twice"
            case b"expect":
                self.expects = value.lower() == b"100-continue"
            case _:
                pass

    def begin(self, parser: httptools.HttpRequestParser, desk: Desk) -> None:
        """The head is complete: find out who asks, before the body is read."""
        self.has_head = True
        self.method = parser.get_method().decode("ascii")
        self.is_old = parser.get_http_version() != "1.1"
        self.keeps = parser.should_keep_alive() and not self.is_old and not parser.should_upgrade()
        self.path = _path(self.url)
        if self.head_bytes + len(self.url) > MAX_HEAD:
            self.refuse(refusals.head_too_large(MAX_HEAD), closing=True)
        elif (
            self.transfer is not None
            and (self.length is not None or self.is_old or self.transfer.lower() != b"chunked")
        ) or (self.transfer is not None and parser.should_upgrade()):
            self.refuse(refusals.unclear_length(), closing=True)
        elif self.method == "POST" and self.path in COMPLETIONS:
            self.exchange = desk.begin(self.path, self.authorization)
            try:
                self.exchange.admit()
            except RefusalError as error:
                self.refuse(error)
            else:
                if self.length is not None and int(self.length) > MAX_BODY:
                    self.refuse(refusals.too_large(MAX_BODY))
        if self.is_ignored and (self.expects or int(self.length or 0) > MAX_IGNORED):
            self.keeps = False
            self.is_complete = True

    def asks(self, now: float) -> tuple[bytes, str, str, str, float, str, str]:
        """Return what `Exchange.route` goes by."""
        kind, encoding = self.content_type, self.encoding
        return self.body, kind, encoding, self.session, now, self.purpose, self.version

    @property
    def awaited(self) -> int:
        """Bytes of the body that are still to come, where its length was given."""
        return int(self.length or 0) - self._size

    @property
    def is_ignored(self) -> bool:
        """Whether the body is of no interest."""
        return self.refusal is not None or self.exchange is None

    def refuse(self, refusal: RefusalError, *, closing: bool = False) -> None:
        """Refuse it; `closing`: nothing after it can be trusted to be a request."""
        self.refusal = refusal
        self._parts.clear()
        if closing:
            self.keeps = False
            self.is_complete = True

    def part(self, data: bytes) -> None:
        """Take a part of the body."""
        self._size += len(data)
        if self._size > (MAX_IGNORED if self.is_ignored else MAX_BODY):
            self.refuse(self.refusal or refusals.too_large(MAX_BODY), closing=True)
        elif not self.is_ignored:
            self._parts.append(data)

    def fed(self, count: int) -> None:
        """So many bytes came in without completing it: see that they are worth keeping."""
        self._fed += count
        if not self.has_head:
            if self._fed > MAX_HEAD:
                self.refuse(refusals.head_too_large(MAX_HEAD), closing=True)
        elif self._fed > 2 * MAX_HEAD + _OVERHEAD * self._size or self.head_bytes > 2 * MAX_HEAD:
            self.refuse(refusals.unclear_length(), closing=True)


def _path(url: bytes) -> str:
    if not url.startswith(b"/"):  # `http://host/path`, which a proxy's client sends
        try:
            url = httptools.parse_url(url).path or b""
        except httptools.HttpParserInvalidURLError:
            return ""
    return url.partition(b"?")[0].decode("latin-1")
