"""One request for completions between a client's connection and a server's."""

import asyncio
from http import HTTPStatus
from typing import Final

from runtime.gateway import refusals
from runtime.gateway.defects import tell_of, told
from runtime.gateway.desk import Answer
from runtime.gateway.exchange import Exchange
from runtime.gateway.transports import heads
from runtime.gateway.transports.back import Connection
from runtime.gateway.transports.client import Client, Nobody
from runtime.gateway.transports.pool import Pool


class Conversation:
    """Asks servers until one answers, and passes its answer on. Keeps `back.Listener`."""

    __slots__ = (
        "_client", "_connecting", "_connection", "_content_type", "_deadline", "_exchange",
        "_is_chunked", "_loop", "_parts", "_path", "_pool", "_retried", "_started",
        "_status", "_to",
    )  # fmt: skip

    def __init__(self, client: Client, pool: Pool, exchange: Exchange, path: str) -> None:
        """Begin; the exchange has been routed."""
        self._client = client
        self._pool = pool
        self._loop = pool.loop
        self._exchange = exchange
        self._path = path
        self._connection: Connection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._retried = False
        self._started = False
        """Whether the client has the head of a stream."""
        self._is_chunked = True
        self._status = 0
        self._content_type = ""
        self._parts: list[bytes] = []
        self._to: heads.Target = _NOWHERE

    def begin(self) -> None:
        """Ask a server once it is this request's turn."""
        if not self._exchange.must_wait:
            self.ask()
            return
        patience = self._exchange.wait(self._have_turn)
        self._deadline = self._loop.call_later(patience, self._give_up)

    def _have_turn(self) -> None:
        self._stop_clock()
        self.ask()

    def _give_up(self) -> None:
        self._refuse(self._exchange.gave_up())

    def ask(self) -> None:
        """Ask the next server; without one, the client is refused."""
        try:
            self._to = heads.target(self._exchange.seek())
            found = self._pool.take(self._to)
            if found is None:
                self._connecting = self._loop.create_task(self._connect())
            else:
                self._send(found)
        except Exception as error:  # noqa: BLE001 (the last net)
            self._refuse(error)

    def leave(self) -> None:
        """The client has left: the server must not work for it any longer."""
        self._let_go()
        self._exchange.left()

    def pause(self, *, paused: bool) -> None:
        """The client reads slower than the server writes, or has caught up."""
        if self._connection is not None:
            self._connection.pause(paused=paused)

    # ------------------------------------------------------- a server's answer
    def on_head(self, status: int, content_type: str) -> None:
        """Pass the head of a stream on; a server that lost the adapter is passed over."""
        try:
            self._status = status
            if status == HTTPStatus.NOT_FOUND:  # its body says of what
                return
            if self._exchange.goes_on(status):
                self._let_go()
                self._exchange.turned_away(status, self._loop.time())
                self.ask()
                return
            self._exchange.answered(content_type)
            if self._exchange.is_stream:
                self._is_chunked = self._client.send_head(status, self._headers(content_type))
                self._started = True
            else:
                self._content_type = content_type
        except Exception as error:  # noqa: BLE001 (the last net)
            self._refuse(error)

    def on_part(self, data: bytes) -> None:
        """Pass a part of a stream on; keep one of a whole answer."""
        if not self._started:
            self._parts.append(data)
            return
        try:
            if passed := self._exchange.pass_on(self._status, data):
                self._client.send(heads.chunk(passed) if self._is_chunked else passed)
        except Exception as error:  # noqa: BLE001 (the last net)
            self._refuse(error)

    def on_end(self) -> None:
        """Write the row, then send what the client still lacks."""
        self._connection = None
        try:
            if not self._started:
                body = b"".join(self._parts)
                if self._status == HTTPStatus.NOT_FOUND:
                    self._parts.clear()
                    self._exchange.not_found(body, self._loop.time())
                    self.ask()
                else:
                    self._pass_back(body)
                return
            rest = self._exchange.end(self._status)
            if self._is_chunked:
                rest = (heads.chunk(rest) if rest else b"") + heads.LAST_CHUNK
            self._client.send(rest)
            self._client.finish()
        except Exception as error:  # noqa: BLE001 (the last net)
            self._refuse(error)

    def on_whole(self, status: int, content_type: str, body: bytes) -> None:
        """The head and all of the body have come at once: write the row, then send."""
        self._connection = None
        try:
            self._exchange.answered(content_type)
            self._status, self._content_type = status, content_type
            self._pass_back(body)
        except Exception as error:  # noqa: BLE001 (the last net)
            self._refuse(error)

    def on_broken(self, *, stale: bool) -> None:
        """Tell the client, unless the request cannot have reached the server."""
        self._connection = None
        if stale and not self._retried:
            self._retried = True
            self._connecting = self._loop.create_task(self._connect())
        else:
            self._refuse(refusals.broken())

    def on_late(self) -> None:
        """The server took longer than it may; what it does now is of no use."""
        self._connection = None
        self._refuse(refusals.late())

    # ------------------------------------------------------- towards a server
    async def _connect(self) -> None:
        try:
            made = await self._pool.connect(self._to)
        except (OSError, TimeoutError):
            self._connecting = None
            if self._retried:  # the server may have had the request and fallen over it
                self._refuse(refusals.broken())
                return
            self._exchange.unreached(self._loop.time())
            self.ask()
        except Exception as error:  # noqa: BLE001 (the last net)
            self._connecting = None
            self._refuse(error)
        else:
            self._connecting = None
            self._send(made)

    def _send(self, connection: Connection) -> None:
        exchange = self._exchange
        self._connection = connection
        body = exchange.body
        number, priority = exchange.request_id, exchange.priority
        head = heads.request(self._to, self._path, number, len(body), priority)
        connection.ask(self, head, body, exchange.patience)
        copy = exchange.copies()
        if copy is not None:
            Shadow(self._pool, copy, self._path).ask()

    def _pass_back(self, body: bytes) -> None:
        exchange = self._exchange
        exchange.whole(self._status, body)
        start = heads.answer_start(self._status, self._content_type, exchange.choice.adapter)
        self._client.pass_back(start, exchange.request_id, body)

    def _headers(self, content_type: str) -> dict[str, str]:
        return {
            "Content-Type": content_type,
            "x-fleetctl-version": self._exchange.choice.adapter,
            "x-request-id": self._exchange.request_id,
        }

    def _refuse(self, error: Exception) -> None:
        self._let_go()
        refusal = told(error)
        try:
            if self._started:
                self._exchange.broke_off(refusal.status)
            else:
                self._exchange.refuse(refusal.status)
        except OSError as refused:  # no row can be written: what was refused needs none
            tell_of(refused)
        if self._started:
            self._client.abort()
        else:
            self._client.reply(Answer.of(refusal, self._path, self._exchange.request_id))

    def _stop_clock(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _let_go(self) -> None:
        self._stop_clock()
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        if self._connection is not None:
            self._connection.abandon()
            self._connection = None


class Shadow(Conversation):
    """A conversation whose answer nobody gets; the pool keeps it until it is over."""

    __slots__ = ()

    def __init__(self, pool: Pool, exchange: Exchange, path: str) -> None:
        """Begin; `ask` is next."""
        super().__init__(Nobody(self._over), pool, exchange, path)
        pool.shadows.add(self)

    def leave(self) -> None:
        """End it in the middle; its row is written."""
        self._over()
        super().leave()

    def _over(self) -> None:
        self._pool.shadows.discard(self)


_NOWHERE: Final = heads.Target("http://nowhere")
