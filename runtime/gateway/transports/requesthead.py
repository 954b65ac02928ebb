"""The head of a client's request: what matters of it, and whether it can be trusted."""

from typing import Final

import httptools

from runtime.gateway import refusals
from runtime.gateway.authentication import Proof, as_bearer
from runtime.gateway.desk import COMPLETIONS
from runtime.gateway.refusals import RefusalError

MAX_HEAD: Final = 32_768
"""Largest request line and headers in bytes."""
_TEXTS: Final = {
    b"content-type": "content_type",
    b"content-encoding": "encoding",
    b"x-fleetctl-purpose": "purpose",
    b"x-fleetctl-version": "version",
}
"""Headers of which the last one counts, and where its text is kept."""


class RequestHead:
    """Grows while it is parsed and is the same for good once it is `complete`."""

    __slots__ = (
        "_is_upgrade", "asks_a_server", "content_type", "encoding", "expects",
        "is_complete", "is_old", "keeps", "length", "method", "path", "proof", "purpose", "session",
        "size", "transfer", "url", "version",
    )  # fmt: skip

    def __init__(self) -> None:
        """Begin with nothing."""
        self.url = b""
        self.method = ""
        self.path = ""
        self.proof = Proof()
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
        self.is_complete = False
        self.size = 0
        """Bytes of its headers, trailers included."""
        self._is_upgrade = False
        self.asks_a_server = False
        """Whether it is for one of the servers to answer, if it may be answered at all."""

    def header(self, name: bytes, value: bytes) -> None:
        """Keep what matters of a header; trailers do not."""
        self.size += len(name) + len(value) + 4
        if self.is_complete:
            return
        name = name.lower()
        if name in _TEXTS:
            setattr(self, _TEXTS[name], value.decode("latin-1"))
            return
        match name:
            case b"authorization":
                self.proof.shown.append(value.decode("utf-8", "surrogateescape"))
            case b"x-api-key":
                self.proof.shown.append(as_bearer(value.decode("utf-8", "surrogateescape")))
            case b"x-session-id":
                self.session = self.session or value.decode("utf-8", "surrogateescape")
            case b"content-length":
                self.length = value
            case b"transfer-encoding":
                self.transfer = value if self.transfer is None else b"twice"
            case b"expect":
                self.expects = value.lower() == b"100-continue"
            case _:  # of no interest, and dropped
                pass

    def complete(self, parser: httptools.HttpRequestParser) -> None:
        """The parser has seen its end."""
        self.is_complete = True
        self._is_upgrade = parser.should_upgrade()
        self.method = parser.get_method().decode("ascii")
        self.is_old = parser.get_http_version() != "1.1"
        self.keeps = parser.should_keep_alive() and not self.is_old and not self._is_upgrade
        self.path = _path(self.url)
        self.asks_a_server = self.method == "POST" and self.path in COMPLETIONS

    def flaw(self) -> RefusalError | None:
        """Return why nothing after it can be trusted to be a request, if that is so."""
        if self.size + len(self.url) > MAX_HEAD:
            return refusals.head_too_large(MAX_HEAD)
        if self.transfer is not None and (
            self.length is not None
            or self.is_old
            or self._is_upgrade
            or self.transfer.lower() != b"chunked"
        ):
            return refusals.unclear_length()
        return None

    def asks(self, body: bytes, now: float) -> tuple[bytes, str, str, str, float, str, str]:
        """Return what `Exchange.route` goes by."""
        kind, encoding = self.content_type, self.encoding
        return body, kind, encoding, self.session, now, self.purpose, self.version

    @property
    def is_repeatable(self) -> bool:
        """Whether the same head with another length would go the same way."""
        return (
            self.asks_a_server
            and self.keeps
            and not self.expects
            and self.transfer is None
            and self.length is not None
        )


def _path(url: bytes) -> str:
    if not url.startswith(b"/"):  # `http://host/path`, which a proxy's client sends
        try:
            url = httptools.parse_url(url).path or b""
        except httptools.HttpParserInvalidURLError:
            return ""
    return url.partition(b"?")[0].decode("latin-1")
