"""A request for an adapter's answer, from its head to the last byte of the response.

The connections call, in this order:

    admit            the head is there
    hold             for each part of the body that comes in
    route            the body is complete; `must_wait`: `wait`, and `take_turn`, which routes again
    on_head          the head of the response is there
    on_response      the response is complete; of a stream `on_chunk` for each part, then `on_end`

`on_error` and `on_client_disconnect` end the request early. Exactly one usage
row is written, before the client has its last byte. Nothing here knows a socket.
"""

import asyncio
import secrets
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Final, NamedTuple

import msgspec

from fleet.traffic import CapturePolicy
from runtime.gateway.body import errors
from runtime.gateway.body.body import RequestBody, parse_body
from runtime.gateway.body.endpoints import check_fields, is_event_stream, trace_of
from runtime.gateway.body.responses import STOP, ResponseFacts, inspect_response, texts_of
from runtime.gateway.body.sse import CompletionsStream, EventStream, event_stream
from runtime.gateway.request.attempts import UpstreamAttempts
from runtime.gateway.request.state import GatewayState
from runtime.gateway.table.routing import (
    Credentials,
    Principal,
    RouteTarget,
    operator_purpose,
    unit,
)
from runtime.gateway.traffic.admission import ShadowSample, sample_shadow
from runtime.gateway.traffic.limits import UNCOUNTED_BYTES, MemoryBudget
from runtime.gateway.traffic.waiting import Ticket
from runtime.usage.captured import CapturedItem
from runtime.usage.row import CLIENT_LEFT, COUNT_TOKENS, COUNTING, LIVE, UsageRecorder, UsageRow


class RequestCapture(NamedTuple):
    """A request whose text is captured once its answer is whole."""

    state: GatewayState
    user: str
    session: str
    stream: EventStream | None

    def finish(self, row: UsageRow, body: bytes, response: bytes | None) -> None:
        """Have request and answer written after this turn of the event loop.

        Only a single whole answer of text, and only while the table being served asks for it.
        """
        captured, route = self.state.captured, self.state.active.routes.routes.get(row.alias)
        policy = route.arms[0].target.policy.capture if route else None
        if captured is None or policy is None or (row.status, row.finish) != (HTTPStatus.OK, STOP):
            return
        if response is None:
            texts = self.stream.result().texts if self.stream else []
        else:
            texts = texts_of(response)
        if len(texts) == 1:
            item = CapturedItem(
                row.time, row.request_id, row.alias, row.version, row.path, self.user,
                self.session, row.output_tokens, msgspec.Raw(body), texts[0],
            )  # fmt: skip
            loop = asyncio.get_running_loop()
            loop.call_soon(captured.write, row.client, item, policy.keep_days)


def begin_capture(
    state: GatewayState,
    policy: CapturePolicy,
    row: UsageRow,
    body: RequestBody,
    session: str,
    stream: EventStream | None,
) -> RequestCapture | None:
    """Return the capture of a client's request; None: the request is not captured."""
    if row.purpose != LIVE or state.captured is None or secrets.randbelow(100) >= policy.percent:
        return None
    if stream is not None:
        stream.output.collects_text = True
    named = (session or body.session or "").encode("utf-8", "surrogateescape")
    return RequestCapture(state, body.user or "", named.decode("utf-8", "replace"), stream)


_UNKNOWN: Final = Principal("", b"")
_NO_TARGET: Final = RouteTarget("", "", "", ())
_SERVERS_FAULT: Final = frozenset({HTTPStatus.BAD_GATEWAY, HTTPStatus.GATEWAY_TIMEOUT})
_LAST_PRIORITY: Final = 1
"""Priority of a shadow request: clients' are 0 or below, the lower the sooner."""
_OK: Final = int(HTTPStatus.OK)


class RequestMeta(msgspec.Struct):
    """Headers that decide how a request is routed; `purpose`, `version` count for the operator."""

    content_type: str = ""
    encoding: str = ""
    session: str = ""
    purpose: str = ""
    version: str = ""
    trace: str = ""
    trace_state: str = ""
    request_id: str = ""


class ProxyRequest(msgspec.Struct, eq=False):
    """The state of a request; a server gets `body` and `priority`, `target` answers."""

    _state: GatewayState
    path: str
    """A path of `endpoints.PATHS`."""
    _credentials: Credentials
    record: UsageRecorder
    _principal: Principal = _UNKNOWN
    _size: int = 0
    _held: int = 0
    _is_shadow: bool = False
    _ticket: Ticket | None = None
    _stream: EventStream | None = None
    _capture: RequestCapture | None = None
    shadow: ShadowSample | None = None
    """The copy that is to begin once a server has the request."""
    _attempts: UpstreamAttempts | None = None
    target: RouteTarget = _NO_TARGET
    _asked: str = ""
    body: bytes = b""
    is_stream: bool = False
    must_wait: bool = False
    """Whether the request waits for its turn before a server may get the request."""
    _waiting: "tuple[RequestBody, bytes | bytearray, RequestMeta] | None" = None
    """Body and headers that a waiting request is routed by."""
    priority: int | None = None
    trace: bytes = b""
    """Headers by which the server joins the client's trace."""
    rates: Mapping[str, str] | None = None

    @property
    def asked_name(self) -> str:
        """The model that the response names: the asked one; to the operator, the version."""
        return self.target.adapter if self._principal.is_operator else self._asked

    def admit(self) -> None:
        """Find out which client sent the request, or refuse the request (401)."""
        state, credentials = self._state, self._credentials
        if credentials.table_digest != state.active.routes.digest:
            credentials.authenticate(state.active.routes, state.operator)
        self._principal = credentials.principal
        self.record.row.client = self._principal.client

    def hold(self, size: int) -> None:
        """Count more bytes of body or answer as held until the end, or refuse them (503)."""
        self._size += size
        if self._size > UNCOUNTED_BYTES:
            self._memory.acquire(self._principal.client, self._size - self._held)
            self._held = self._size

    @property
    def _memory(self) -> MemoryBudget:
        return self._state.shadow_memory if self._is_shadow else self._state.request_memory

    def route(self, raw: bytes | bytearray, now: float, meta: RequestMeta) -> UpstreamAttempts:
        """Decide which version answers, by the table of this moment; return what finds servers.

        Raises:
            ApiError: 400, 404 for a model that is not this client's, 429, or 503.
        """
        body, routes = parse_body(raw, meta.content_type, meta.encoding), self._state.active.routes
        state, principal, row = self._state, self._principal, self.record.row
        row.revision, row.stream = routes.revision, body.stream
        is_counting = self.path == COUNT_TOKENS
        if is_counting or principal.is_operator:
            row.purpose = COUNTING if is_counting else operator_purpose(meta.purpose)
        route, target, user = routes.decide(principal, body, meta.session, meta.version)
        row.client, row.alias, row.version = target.client, target.alias, target.adapter
        row.digest = target.digest
        if meta.trace:
            row.trace_id, self.trace = trace_of(meta.trace, meta.trace_state)
        if user:
            row.unit = unit(route.people, user, state.operator)
        self.target, self._asked, self.priority = target, body.model, target.priority
        check_fields(self.path, body.fields, target.policy.choices)
        if body.stream:
            self._stream = event_stream(self.path, body, target.policy.format)
        if capture := target.policy.capture:
            self._capture = begin_capture(state, capture, row, body, meta.session, self._stream)
        attempts = self._attempts = UpstreamAttempts(state, target, routes.urls, now, user)
        attempts.is_judged = not is_counting
        if not principal.is_operator:
            if route.shadow is not None and not is_counting:
                self.shadow = sample_shadow(state.shadow_memory, route.shadow, body, len(raw))
            if target.is_limited or state.admission.queues or not attempts.acquire_free():
                ticket = self._ticket = self._ticket or Ticket(target)
                ticket.target = target
                self.must_wait = not state.admission.request(ticket, now)
                self.rates = ticket.rates
                if self.must_wait:
                    self._waiting = body, raw, meta
                    return attempts
        self.body = body.for_server(self.path, *target.json_names, target.priority)
        return attempts

    def wait(self, proceed: Callable[[], None]) -> tuple[float, errors.ApiError]:
        """Have `proceed` called when `take_turn` is due; return the longest wait (s), its error."""
        ticket = self._ticket
        assert ticket is not None, "the request has been routed"
        ticket.proceed = proceed
        self.record.wait()
        has_server = bool(ticket.target.servers)
        return ticket.max_wait_s, errors.too_many(1) if has_server else errors.no_server()

    def take_turn(self, now: float) -> UpstreamAttempts:
        """Choose a server once the turn has come; route again where a newer table asks for it.

        Raises:
            ApiError: as `route`.
        """
        ticket, attempts = self._ticket, self._attempts
        assert ticket is not None and attempts is not None and self._waiting is not None  # noqa: PT018
        (body, raw, meta), self._waiting, self.must_wait = self._waiting, None, False
        self.record.stop_waiting()
        if ticket.is_granted:
            attempts.acquire()
            self.body = body.for_server(self.path, *self.target.json_names, self.priority)
            return attempts
        if self.shadow is not None:
            self.shadow.drop(self._state.shadow_memory)
            self.shadow = None
        return self.route(raw, now, meta)

    def start_shadow(self) -> "tuple[ProxyRequest, UpstreamAttempts] | None":
        """Return the shadow of this request, once; None: there is none, or no room for a shadow."""
        shadow, self.shadow = self.shadow, None
        original, state = self._attempts, self._state
        if shadow is None or original is None:
            return None
        target, body = shadow.target, shadow.body
        if not state.admission.begin_shadow(target):
            shadow.drop(state.shadow_memory)
            return None
        record = self.record.aside("shadow")
        row = record.row
        row.client, row.alias, row.version = target.client, target.alias, target.adapter
        row.stream = self.record.row.stream
        priority = None if target.priority is None else _LAST_PRIORITY
        attempts = original.for_shadow(target)
        copy = ProxyRequest(
            state,
            self.path,
            self._credentials,
            record,
            self._principal,
            _held=shadow.held,
            _is_shadow=True,
            _stream=event_stream(self.path, body, target.policy.format) if body.stream else None,
            _attempts=attempts,
            target=target,
            body=body.for_server(self.path, *target.json_names, priority),
            priority=priority,
        )
        return copy, attempts

    def on_head(self, content_type: str) -> None:
        """Take the server's head, which says whether the response is a stream."""
        row, attempts = self.record.row, self._attempts
        assert attempts is not None, "a server has responded"
        row.server, row.retries = attempts.server, attempts.retries
        self.is_stream = is_event_stream(content_type)
        if self.is_stream and self._stream is None:  # not requested: all of it is passed on
            self._stream = CompletionsStream(keeps_last=True, keeps_all=True)

    def on_response(self, status: int, body: bytes) -> None:
        """Take the server's complete response; the client may have it once this returns."""
        self._finish(status, judges=True, response=body)

    def on_chunk(self, status: int, chunk: bytes) -> bytes:
        """Return the bytes of a part of a stream that the client gets now."""
        stream = self._stream
        assert stream is not None, "the response is a stream"
        if self.record.row.first_byte_s is None:
            self.record.first_byte()
        passed = stream.feed(chunk)
        if stream.lines.size > UNCOUNTED_BYTES:
            self.hold(len(chunk))
        if stream.is_done:  # for most clients the last that they read
            self._note(stream.result())
            self.record.write(stream.failed or status)
        return passed

    def on_end(self, status: int) -> bytes:
        """Finish a stream that has ended properly; return the bytes that the client lacks."""
        stream = self._stream
        assert stream is not None, "the response is a stream"
        rest = stream.end()
        self._finish(stream.failed or status, judges=True)
        return rest

    def on_error(self, status: int) -> None:
        """Finish with an error of the gateway's own, which breaks off a stream that has begun."""
        self._finish(status, judges=status in _SERVERS_FAULT)

    def on_client_disconnect(self) -> None:
        """Finish: the client has left, perhaps at an error in the stream, which is the server's."""
        failed = self._stream.failed if self._stream is not None else 0
        self._finish(failed or CLIENT_LEFT, judges=failed > 0)

    def _note(self, facts: ResponseFacts) -> None:
        record = self.record
        record.tokens, record.row.finish = facts.tokens, facts.finish
        record.row.format_ok, record.row.counted = facts.format_ok, facts.counted

    def _finish(self, status: int, *, judges: bool = False, response: bytes | None = None) -> None:
        """Release all that the request holds and write its row, unless that is done.

        `judges`: the status is held for or against the server. `response` begins and ends now.
        """
        state, record, attempts = self._state, self.record, self._attempts
        if attempts is not None:
            attempts.finish(status if judges else None, record.row)
        if response is not None:
            expected = self.target.policy.format if status == _OK else None
            facts = inspect_response(response, expected)
            record.tokens, record.row.finish = facts.tokens, facts.finish
            record.row.format_ok = facts.format_ok
        elif self.is_stream and self._stream is not None:
            self._note(self._stream.result())
        if self._held:
            self._memory.release(self._principal.client, self._held)
            self._held = 0
        if self.shadow is not None:
            self.shadow.drop(state.shadow_memory)
            self.shadow = None
        ticket, self._ticket = self._ticket, None
        if ticket is not None:
            billed = record.row.purpose != COUNTING
            left = self.body if status == CLIENT_LEFT and billed else b""
            state.admission.release(ticket, record.tokens.total, left, is_billed=billed)
        else:
            if self._is_shadow:
                self._is_shadow = False
                state.admission.end_shadow(self.target.alias)
            if state.admission.queues:
                state.admission.serve_waiting()
        record.write(status, begins=response is not None)
        if self._capture is not None:
            self._capture.finish(record.row, self.body, response)
            self._capture = None
