"""One request for an adapter's answer, from its head to the last byte of the answer.

A transport calls, in this order: `admit` when the head is there, `hold` before a body is read or
for each part of it, `route` when it is there, `wait` where it `must_wait` for its turn, `seek` for
a server to ask (again where that one was `passed_over`), `answered` when its head is there; then
`whole`, or `pass_on` for each part of a stream and `end`. `refuse`, `broke_off` and `left` end it
early. Exactly one usage row is written, before the client has its last byte. Once a server has been
asked, `copies` gives the shadow of the request, if it has one, whose answer nobody gets.
"""

from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from runtime.gateway import endpoints, refusals, rewrite
from runtime.gateway.admission import Place
from runtime.gateway.answers import Said, of_reply
from runtime.gateway.authentication import PURPOSES, Proof
from runtime.gateway.bodies import SMALL
from runtime.gateway.decide import decide
from runtime.gateway.drawn import Drawn, draw
from runtime.gateway.errand import Errand
from runtime.gateway.events import Events
from runtime.gateway.refusals import RefusalError
from runtime.gateway.rewrite import Body
from runtime.gateway.routing import Asker, Choice, Patience, unit
from runtime.gateway.shared import Shared
from runtime.gateway.typed_events import TypedEvents
from runtime.usage.row import UsageRecorder

CLIENT_LEFT: Final = 499
SHADOW: Final = "shadow"
_EVENT_STREAM: Final = "text/event-stream"
_NOBODY: Final = Asker("", b"")
_SERVERS_FAULT: Final = frozenset({HTTPStatus.BAD_GATEWAY, HTTPStatus.GATEWAY_TIMEOUT})
_LAST: Final = 1
"""Priority of a shadow request: clients' are 0 or below, the lower the sooner."""
_OK: Final = int(HTTPStatus.OK)


class Exchange(Errand):
    """The state of one request; a server gets `body` and `priority`, `choice` answers."""

    __slots__ = (
        "_asker", "_drawn", "_events", "_held", "_place", "_proof", "_record", "_size", "body",
        "is_stream", "must_wait", "path", "priority", "request_id",
    )  # fmt: skip

    def __init__(self, shared: Shared, path: str, record: UsageRecorder, proof: Proof) -> None:
        """Begin; the desk makes exchanges."""
        super().__init__(shared)
        self._record, self._proof = record, proof
        self._asker = _NOBODY
        self._size = self._held = 0
        self._place: Place | None = None
        self._drawn: Drawn | None = None
        self._events: Events | TypedEvents | None = None
        self.path = path
        self.body = b""
        self.is_stream = False
        self.must_wait = False
        """Whether it has to wait for its turn before a server may be asked."""
        self.priority: int | None = None
        self.request_id: str = record.row.request_id

    @property
    def patience(self) -> Patience:
        """How long the answer may take."""
        return self.choice.patience

    def admit(self) -> None:
        """Find out who asks.

        Raises:
            RefusalError: 401.
        """
        self._asker = self._proof.asker(self._shared.current.lookup, self._shared.operator)
        self._record.row.client = self._asker.client

    def hold(self, size: int) -> None:
        """Count so many bytes more of the body as held in memory, until the request has ended.

        Raises:
            RefusalError: 503: there is no room for them.
        """
        self._size += size
        if self._size > SMALL:
            self._shared.bodies.take(self._asker.client, self._size - self._held)
            self._held = self._size

    def route(
        self,
        raw: bytes,
        content_type: str,
        encoding: str,
        session: str,
        now: float,
        purpose: str = "",
        version: str = "",
    ) -> None:
        """Decide which version answers, by the table of this moment.

        Args:
            raw: The request's body, whole.
            content_type: The header of that name, empty if it was not given.
            encoding: The header Content-Encoding, empty if it was not given.
            session: The header X-Session-Id, empty if it was not given.
            now: The event loop's time, seconds.
            purpose: The header X-Fleetctl-Purpose; only the operator's counts.
            version: The header X-Fleetctl-Version; only the operator's counts.

        Raises:
            RefusalError: 400, 404 for a model that is not this client's, or 429.
        """
        endpoints.check_headers(content_type, encoding)
        body = rewrite.read(raw)
        row, lookup, asker = self._record.row, self._shared.current.lookup, self._asker
        self._urls, self._now = lookup.urls, now
        row.revision, row.stream = lookup.revision, body.stream
        if asker.is_operator:
            row.purpose = purpose if purpose in PURPOSES else PURPOSES[0]
        alias, choice, user = decide(lookup, asker, body, session, version)
        row.client, row.alias, row.version = choice.client, choice.alias, choice.adapter
        if user:
            row.unit = unit(alias.key, user, self._shared.operator)
        endpoints.check(self.path, body.fields, choice.policy.choices)
        self._take(choice, body)
        if asker.is_operator:
            return
        if alias.shadow is not None:
            self._drawn = draw(self._shared, alias.shadow, body, len(raw))
        if choice.limited or not self._shared.admission.passes(choice.servers, choice.adapter):
            self._place = Place(
                choice.client, choice.alias, choice.policy, choice.servers, choice.adapter
            )
            self.must_wait = not self._shared.admission.ask(self._place, now)

    def wait(self, proceed: Callable[[], None]) -> float:
        """Wait for a turn; `proceed` is called when it has come.

        Returns:
            How long to wait at most, seconds; then `gave_up` says what a client is told.
        """
        place = self._place
        assert place is not None, "only who is limited waits"

        def begin() -> None:
            self.must_wait = False
            self._enter()
            proceed()

        place.proceed = begin
        return place.patience_s

    def gave_up(self) -> RefusalError:
        """Its turn has not come in time."""
        return refusals.too_many(1)

    def copies(self) -> "Exchange | None":
        """Return the shadow of this request, once, if it has one and there is room for it."""
        drawn, self._drawn = self._drawn, None
        if drawn is None or not drawn.begins(self._shared):
            return None
        shadow, body, held = drawn
        record = self._record.aside(SHADOW)
        row = record.row
        row.client, row.alias, row.version = shadow.client, shadow.alias, shadow.adapter
        row.stream = self._record.row.stream
        copy = Exchange(self._shared, self.path, record, self._proof)
        copy._urls, copy._now = self._urls, self._now
        copy._is_copy, copy._asker, copy._held = True, self._asker, held
        copy._take(shadow, body)
        return copy

    def answered(self, content_type: str) -> None:
        """The server's head is there."""
        row = self._record.row
        row.server, row.retries = self._server, self._retried
        self.is_stream = content_type.partition(";")[0].strip().lower() == _EVENT_STREAM
        if self.is_stream and self._events is None:  # which nobody asked for
            self._events = Events(last_count=True, all_counts=True)

    def whole(self, status: int, body: bytes) -> None:
        """The server's whole answer is there; it may go to the client once this returns."""
        self._record.first_byte()
        wanted = self.choice.policy.format if status == _OK else None
        self._note(of_reply(body, wanted))
        self._judge_server(status)
        self._finish(status)

    def pass_on(self, status: int, chunk: bytes) -> bytes:
        """Return what of a part of a stream goes to the client now."""
        events = self._events
        assert events is not None, "it has been answered with a stream"
        self._record.first_byte()
        passed = events.feed(chunk)
        if events.done:  # for most clients the last that they read
            self._count_stream()
            self._record.write(events.failed or status)
        return passed

    def end(self, status: int) -> bytes:
        """The stream has ended as it should; return what is left for the client."""
        events = self._events
        assert events is not None, "it has been answered with a stream"
        rest = events.end()
        self._count_stream()
        status = events.failed or status
        self._judge_server(status)
        self._finish(status)
        return rest

    def refuse(self, status: int) -> None:
        """The client gets an error of the gateway's own."""
        if status in _SERVERS_FAULT:
            self._judge_server(status)
        self._record.row.retries = self._retried
        self._finish(status)

    def broke_off(self, status: int = HTTPStatus.BAD_GATEWAY) -> None:
        """The server broke off in the middle of a stream; so must the answer to the client."""
        self._judge_server(status)
        self._stop(status)

    def left(self) -> None:
        """The client has left; many do at an error in the stream, which is the server's."""
        events = self._events
        if events is not None and events.failed:
            self.broke_off(events.failed)
        else:
            self._stop(CLIENT_LEFT)

    def _take(self, choice: Choice, body: Body) -> None:
        """Write the body for the version that answers."""
        self.choice = choice
        is_last = self._is_copy and choice.priority is not None
        self.priority = _LAST if is_last else choice.priority
        self.body = body.for_server(choice.adapter, choice.client, self.path, self.priority)
        if self._record.row.stream:
            wanted = choice.policy.format
            self._events = (
                TypedEvents(wanted)
                if self.path in endpoints.TYPED
                else Events(
                    last_count=body.last_count,
                    all_counts=body.all_counts,
                    wanted=wanted,
                    answers=endpoints.answers(self.path, body.fields),
                )
            )

    def _stop(self, status: int) -> None:
        """End in the middle."""
        self._count_stream()
        self._finish(status)

    def _count_stream(self) -> None:
        if self.is_stream and self._events is not None:
            self._note(self._events.said())

    def _note(self, said: Said) -> None:
        record = self._record
        record.tokens, record.row.finish = said.tokens, said.finish
        record.row.format_ok, record.row.counted = said.format_ok, said.counted

    def _finish(self, status: int) -> None:
        self._leave_server()
        self._end_retry()
        if self._held:
            pool = self._shared.copied if self._is_copy else self._shared.bodies
            pool.give_back(self._asker.client, self._held)
            self._held = 0
        if self._drawn is not None:
            self._drawn.drop(self._shared)
            self._drawn = None
        place, self._place = self._place, None
        if place is not None:
            self._shared.admission.give_back(place, self._record.tokens.total)
        else:
            if self._is_copy:
                self._is_copy = False
                self._shared.admission.copied(self.choice.alias)
            self._shared.admission.freed()
        self._record.write(status)
