"""An incoming request: its head, and its body as far as received."""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Final

import httptools
import msgspec

from runtime.gateway.body import errors
from runtime.gateway.body.body import BodyText
from runtime.gateway.body.endpoints import PATHS
from runtime.gateway.body.errors import ApiError
from runtime.gateway.request.request import ProxyRequest, RequestMeta
from runtime.gateway.request.state import GatewayState
from runtime.gateway.table.routing import Credentials
from runtime.gateway.traffic.limits import UNCOUNTED_BYTES
from runtime.usage.row import UsageRecorder, sound_id

MAX_HEAD: Final = 32_768
"""Upper bound of request line and headers together, bytes."""
MAX_BODY: Final = 16 * 2**20
"""Upper bound of a request body, bytes."""
MAX_IGNORED: Final = 65_536
"""Largest body that is read though its request is refused, bytes; above, the connection ends."""
_COUNTED_BYTES: Final = 4096
"""Bytes of a body without a length that are counted as held together."""
_META: Final = {
    b"content-type": "content_type",
    b"content-encoding": "encoding",
    b"x-fleetctl-purpose": "purpose",
    b"x-fleetctl-version": "version",
    b"traceparent": "trace",
    b"tracestate": "trace_state",
    b"x-request-id": "request_id",
}
"""Field of `RequestMeta` by header."""


@dataclass(slots=True)
class RequestHead:
    """The head of a request, which grows while being parsed and is constant once `complete`d."""

    url: bytes = b""
    method: str = ""
    path: str = ""
    credentials: Credentials = field(default_factory=Credentials)
    meta: RequestMeta = field(default_factory=RequestMeta)
    length: bytes | None = None
    transfer: bytes | None = None
    expects_continue: bool = False
    """Whether the client waits for `100 Continue`."""
    keeps_alive: bool = False
    """Whether the connection may serve another request afterwards."""
    is_http10: bool = False
    """Whether the client knows no chunks."""
    _version: str = ""
    _hosts: int = 0
    """Number of its headers `Host`."""
    is_complete: bool = False
    size: int = 0
    """Bytes of its headers, trailers included."""
    _is_upgrade: bool = False
    is_for_server: bool = False
    """Whether a server is to answer, if the request may be answered at all."""

    def add_header(self, name: bytes, value: bytes) -> None:
        """Keep a header that matters; trailers do not."""
        self.size += len(name) + len(value) + 4
        if self.is_complete:
            return
        match name.lower():
            case b"authorization":
                self.credentials.values.append(value.decode("utf-8", "surrogateescape"))
            case b"x-api-key":
                key = value.decode("utf-8", "surrogateescape")
                self.credentials.values.append(f"Bearer {key}")
            case b"host":
                self._hosts += 1
            case b"content-length":
                self.length = value
            case b"transfer-encoding":
                self.transfer = value if self.transfer is None else b"twice"
            case b"expect":
                self.expects_continue = value.lower() == b"100-continue"
            case b"x-session-id":
                self.meta.session = self.meta.session or value.decode("utf-8", "surrogateescape")
            case other:
                if field_name := _META.get(other):
                    setattr(self.meta, field_name, value.decode("latin-1"))

    def complete(self, parser: httptools.HttpRequestParser) -> None:
        """Take the parser's findings at the end of the head."""
        self.is_complete = True
        self._is_upgrade = parser.should_upgrade()
        self.method = parser.get_method().decode("ascii")
        self._version = parser.get_http_version()
        self.is_http10 = self._version != "1.1"
        self.keeps_alive = (
            parser.should_keep_alive() and not self.is_http10 and not self._is_upgrade
        )
        self.path = _path(self.url)
        self.is_for_server = self.method == "POST" and self.path in PATHS

    def flaw(self) -> ApiError | None:
        """Return the error after which no bytes can be trusted to be a request; None: no error."""
        if self.size + len(self.url) > MAX_HEAD:
            return errors.head_too_large(MAX_HEAD)
        if (
            self._version not in {"1.0", "1.1"}
            or self._hosts > 1
            or self._hosts < (not self.is_http10)
        ):
            return errors.unclear_host()
        if self.transfer is not None and (
            self.length is not None
            or self.is_http10
            or self._is_upgrade
            or self.transfer.lower() != b"chunked"
        ):
            return errors.unclear_length()
        return None

    @property
    def is_repeatable(self) -> bool:
        """Whether the same head with another length would be handled the same way."""
        return (
            self.is_for_server
            and self.keeps_alive
            and not self.expects_continue
            and self.transfer is None
            and self.length is not None
        )


class IncomingRequest(msgspec.Struct, eq=False):
    """The received part of a request, and its error if the request is refused already."""

    head: RequestHead
    meta: RequestMeta
    """Of `head`, with its own values of headers that vary."""
    keeps_alive: bool = False
    expects_continue: bool = False
    is_complete: bool = False
    proxied: ProxyRequest | None = None
    """The request for a server; None: for the gateway itself."""
    error: ApiError | None = None
    body: bytes | bytearray = b""
    """The body, once the request is complete."""
    _received_body: BodyText = msgspec.field(default_factory=BodyText)
    """The body so far, joined: parts of a few bytes would take many times their size."""
    _length: int = 0
    _size: int = 0
    _counted: int = 0
    """Bytes of the body that count as held."""
    _received: int = 0

    def start(self, length: int, state: GatewayState) -> None:
        """Find out the client before the body is read; `length` 0: the head does not say."""
        head, self._length = self.head, length
        self.keeps_alive, self.expects_continue = head.keeps_alive, head.expects_continue
        if (flaw := head.flaw()) is not None:
            self.refuse(flaw, closing=True)
        elif head.is_for_server:
            self._admit(state)
            if self.error is None and length > MAX_BODY:
                self.refuse(errors.too_large(MAX_BODY))
            self._hold(length)
        if self.is_ignored and (self.expects_continue or length > MAX_IGNORED):
            self.keeps_alive = False
            self.is_complete = True

    def arrive(self, body: bytes, state: GatewayState) -> None:
        """Take a flawless request for a server whose head and body have come at once."""
        self.keeps_alive = self.is_complete = True
        self.body = body
        self._admit(state)
        if len(body) > UNCOUNTED_BYTES:
            self._hold(len(body))

    def finish(self) -> None:
        """Take the received bytes as the body, without a copy: 8 ms of 15 MB."""
        self.is_complete = True
        self._count_body()
        self.body = self._received_body
        self._received_body = BodyText()

    @property
    def missing(self) -> int:
        """Bytes of the body that are still to come, where its length was given."""
        return self._length - self._size

    @property
    def is_ignored(self) -> bool:
        """Whether the body does not matter."""
        return self.error is not None or self.proxied is None

    def refuse(self, error: ApiError, *, closing: bool = False) -> None:
        """Refuse the request; `closing`: nothing after it can be trusted to be a request."""
        self.error = error.with_traceback(None)  # its frames have this request: a cycle
        self._received_body = BodyText()
        if closing:
            self.keeps_alive = False
            self.is_complete = True

    def add(self, data: bytes) -> None:
        """Take a part of the body."""
        self._size += len(data)
        is_ignored = self.is_ignored
        if self._size > (MAX_IGNORED if is_ignored else MAX_BODY):
            self.refuse(self.error or errors.too_large(MAX_BODY), closing=True)
        elif not is_ignored:
            self._received_body.add(data)
            if self._size - self._counted >= _COUNTED_BYTES and self._size > self._length:
                self._count_body()

    def _count_body(self) -> None:
        """Count the bytes so far of a body whose length was not given, many chunks at once."""
        counted = max(self._counted, self._length)
        if self._size > counted:
            self._counted = self._size
            self._hold(self._size - counted)

    def count_received(self, count: int) -> None:
        """Count bytes that did not complete the request; refuse it if they are too many."""
        self._received += count
        if not self.head.is_complete and self._received > MAX_HEAD:
            self.refuse(errors.head_too_large(MAX_HEAD), closing=True)

    def _admit(self, state: GatewayState) -> None:
        if state.log.is_refusing:
            self.refuse(errors.usage_log_down())
            return
        path = self.head.path
        record = UsageRecorder(state.usage.add, path, state.active.routes.revision)
        if self.meta.request_id:
            record.row.given_id = sound_id(self.meta.request_id)
        self.proxied = ProxyRequest(state, path, self.head.credentials, record)
        try:
            self.proxied.admit()
        except ApiError as error:
            self.refuse(error)

    def _hold(self, size: int) -> None:
        """Count bytes of the body against the memory budget."""
        if self.error is None and self.proxied is not None:
            try:
                self.proxied.hold(size)
            except ApiError as error:
                self.refuse(error)


def repeated_request(
    head: RequestHead, names: Sequence[bytes], values: Sequence[bytes]
) -> IncomingRequest:
    """Return a request with a head that was parsed before, but for headers that vary."""
    if not names:
        return IncomingRequest(head, head.meta)
    meta = copy(head.meta)
    for name, value in zip(names, values, strict=True):
        setattr(meta, _META[name], value.decode("ascii"))
    return IncomingRequest(head, meta)


def _path(url: bytes) -> str:
    if not url.startswith(b"/"):  # `http://host/path`, which a proxy's client sends
        try:
            url = httptools.parse_url(url).path or b""
        except httptools.HttpParserInvalidURLError:
            return ""
    return url.partition(b"?")[0].decode("latin-1")
