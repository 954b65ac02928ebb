"""One request for completions, from its head to the last byte of its answer.

A transport calls, in this order: `admit` when the head is there, `route` when the body is,
`seek` for a server to ask (again where that one was `passed_over`), `answered` when its head
is there; then `whole`, or `pass_on` for each part of a stream and `end`. `refuse`, `broke_off`
and `left` end it early. Exactly one usage row is written, before the client has its last byte.
"""

import secrets
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import Final

from fleet.formats import Format
from runtime.gateway import refusals, rewrite
from runtime.gateway.answers import Said, of_reply
from runtime.gateway.authentication import authenticated
from runtime.gateway.current import Current
from runtime.gateway.events import Events
from runtime.gateway.inflight import InFlight
from runtime.gateway.refusals import RefusalError
from runtime.gateway.routing import Choice, Lookup
from runtime.gateway.typed_events import TypedEvents
from runtime.gateway.usage import Record

CLIENT_LEFT: Final = 499
RETRY_AFTER_S: Final = 2
_JSON: Final = frozenset({"application/json", "application/octet-stream"})
_EVENT_STREAM: Final = "text/event-stream"


class Exchange:
    """The state of one request; `body` is what a server gets, `choice` who answers."""

    __slots__ = (
        "_authorization",
        "_current",
        "_events",
        "_in_flight",
        "_lookup",
        "_record",
        "_server",
        "_servers",
        "_wanted",
        "body",
        "choice",
        "is_stream",
        "request_id",
    )

    def __init__(
        self,
        current: Current,
        in_flight: InFlight,
        record: Record,
        authorization: Sequence[str],
    ) -> None:
        """Begin; the desk makes exchanges."""
        self._current = current
        self._in_flight = in_flight
        self._record = record
        self._authorization = authorization
        self._lookup: Lookup = current.lookup
        self._server = ""
        self._servers: Iterator[str] = iter(())
        self._events: Events | TypedEvents = Events(last_count=True, all_counts=True)
        self._wanted: Format | None = None
        self.body = b""
        self.choice = Choice("", "", "", ())
        self.is_stream = False
        self.request_id: str = record.row.request_id

    def admit(self) -> None:
        """Find out who asks.

        Raises:
            RefusalError: 401.
        """
        self._record.row.client = authenticated(self._lookup, self._authorization)

    def route(self, raw: bytes, content_type: str, encoding: str, session: str, now: float) -> None:
        """Decide which version answers, by the table of this moment.

        Args:
            raw: The request's body, whole.
            content_type: The header of that name, empty if it was not given.
            encoding: The header Content-Encoding, empty if it was not given.
            session: The header X-Session-Id, empty if it was not given.
            now: The event loop's time, seconds.

        Raises:
            RefusalError: 400, or 404 for a model that is not this client's.
        """
        _check_headers(content_type, encoding)
        body = rewrite.read(raw)
        row, self._lookup = self._record.row, self._current.lookup
        row.revision, row.stream = self._lookup.revision, body.stream
        named = session or body.sticky
        sticky = named.encode("utf-8", "surrogateescape") if named else secrets.token_bytes(16)
        choice = self._lookup.choose(row.client, body.model, sticky)
        if choice is None:
            raise refusals.no_such_model()
        row.alias, row.version, self.choice = choice.alias, choice.adapter, choice
        self.body = body.for_server(choice.adapter, choice.client)
        self._servers = iter(self._in_flight.preferred(choice.servers, now))
        self._wanted = choice.policy.format
        if body.stream:
            self._events = Events(
                last_count=body.last_count, all_counts=body.all_counts, wanted=self._wanted
            )

    def seek(self) -> str:
        """Return the base URL of the server to ask; the request counts as in flight on it.

        Raises:
            RefusalError: 503, all that hold the version were passed over.
        """
        server = next(self._servers, "")
        if not server:
            raise refusals.unavailable(RETRY_AFTER_S)
        self._server = server
        self._in_flight.enter(server, self.choice.adapter)
        return self._lookup.urls[server]

    def passed_over(self, now: float) -> None:
        """The server could not be reached or does not hold the version: nothing worked on it."""
        self._in_flight.avoid(self._server, now)
        self._leave_server()

    def answered(self, content_type: str) -> None:
        """The server's head is there."""
        self._record.row.server = self._server
        self.is_stream = content_type.partition(";")[0].strip().lower() == _EVENT_STREAM

    def whole(self, status: int, body: bytes) -> None:
        """The server's whole answer is there; it may go to the client once this returns."""
        self._record.first_byte()
        self._note(of_reply(body, self._wanted if status == HTTPStatus.OK else None))
        self._finish(status)

    def pass_on(self, status: int, chunk: bytes) -> bytes:
        """Return what of a part of a stream goes to the client now."""
        self._record.first_byte()
        passed = self._events.feed(chunk)
        if self._events.done:  # for most clients the last that they read
            self._count_stream()
            self._record.write(status)
        return passed

    def end(self, status: int) -> bytes:
        """The stream has ended as it should; return what is left for the client."""
        rest = self._events.end()
        self._count_stream()
        self._finish(status)
        return rest

    def refuse(self, status: int) -> None:
        """The client gets an error of the gateway's own."""
        self._finish(status)

    def broke_off(self) -> None:
        """The server broke off in the middle of a stream; so must the answer to the client."""
        self._count_stream()
        self._finish(HTTPStatus.BAD_GATEWAY)

    def left(self) -> None:
        """The client has left."""
        self._count_stream()
        self._finish(CLIENT_LEFT)

    def _count_stream(self) -> None:
        if self.is_stream:
            self._note(self._events.said())

    def _note(self, said: Said) -> None:
        record = self._record
        record.tokens, record.row.finish = said.tokens, said.finish
        record.row.format_ok = said.format_ok

    def _finish(self, status: int) -> None:
        self._leave_server()
        self._record.write(status)

    def _leave_server(self) -> None:
        if self._server:
            server, self._server = self._server, ""
            self._in_flight.leave(server, self.choice.adapter)


def _check_headers(content_type: str, encoding: str) -> None:
    if encoding and encoding.lower() != "identity":
        raise refusals.invalid("Send the request body without Content-Encoding.")
    if content_type in {"", "application/json"}:
        return
    kind, *parameters = (each.strip().lower() for each in content_type.split(";"))
    charsets = {each.partition("=")[2].strip('"') for each in parameters if "charset" in each}
    if kind not in _JSON or charsets - {"utf-8"}:
        raise refusals.invalid("Send the request body as `application/json` in UTF-8.")


def told(error: Exception) -> RefusalError:
    """Return what a client is told of an error: a refusal is one, anything else is our defect."""
    return error if isinstance(error, RefusalError) else refusals.failed()
