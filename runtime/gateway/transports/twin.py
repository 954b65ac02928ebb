"""The transport made of aiohttp on both sides: the fallback, and the measure of the other one."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from http import HTTPStatus

import aiohttp
from aiohttp import web

from runtime.gateway import refusals
from runtime.gateway.authentication import Proof, as_bearer
from runtime.gateway.defects import told
from runtime.gateway.desk import COMPLETIONS, MAX_BODY, Answer, Desk
from runtime.gateway.endpoints import PRIORITY
from runtime.gateway.exchange import Exchange
from runtime.gateway.refusals import RefusalError
from runtime.gateway.transports import capacity
from runtime.gateway.transports.copying import (
    BrokenOffError,
    Deadline,
    chunks,
    discard,
    turn,
    whole,
)
from runtime.gateway.transports.seats import Seats
from runtime.gateway.transports.timing import CONNECT_S, GRACE_S, KEEP_ALIVE_S, LINGER_S
from runtime.gateway.transports.twinfront import TwinFront, response

_BACKLOG = 1024
_NUMBER = web.RequestKey("request_id", str)
"""Where a request keeps the number of its usage row."""


class Twin:
    """Keeps the contract of `Transport`."""

    def __init__(self, desk: Desk) -> None:
        """Wire up; `open` begins."""
        self._desk = desk
        self._session: aiohttp.ClientSession | None = None
        self._listener: asyncio.Server | None = None
        self._shadows: set[asyncio.Task[None]] = set()
        self._running = 0
        """Requests whose heads are there and whose answers are not."""
        self._is_closing = False
        app = web.Application(client_max_size=MAX_BODY, middlewares=[_in_our_words])
        app.router.add_route("*", "/{path:.*}", self._take)
        app.on_response_prepare.append(self._prepare)
        self._runner = web.AppRunner(
            app,
            handler_cancellation=True,  # a client that leaves ends its request on the server
            shutdown_timeout=LINGER_S,  # what runs has had its time before
        )

    async def open(self, host: str, port: int) -> int:
        """Listen, as `Transport` says."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_S),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("User-Agent", "Accept-Encoding"),
        )
        await self._runner.setup()
        server, loop = self._runner.server, asyncio.get_running_loop()
        assert server is not None, "the runner is set up"
        seats = Seats(capacity.most_clients())

        def accepted() -> asyncio.Protocol:
            return TwinFront(seats, server, loop)

        self._listener = await loop.create_server(accepted, host, port, backlog=_BACKLOG)
        return int(self._listener.sockets[0].getsockname()[1])

    async def close(self, hurry: asyncio.Event) -> None:
        """Stop, as `Transport` says.

        aiohttp's own way would read no further, so that a body under way never came.
        """
        if self._listener is not None:
            self._listener.close()
        self._is_closing = True
        with suppress(TimeoutError):
            async with asyncio.timeout(GRACE_S):
                while self._running and not hurry.is_set():  # noqa: ASYNC110 (counted by many tasks)
                    await asyncio.sleep(0.005)
        if hurry.is_set() and self._runner.server is not None:
            for connection in self._runner.server.connections:
                connection.force_close()
        await self._runner.cleanup()
        for each in [*self._shadows]:
            each.cancel()
        await asyncio.gather(*self._shadows, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    async def _take(self, request: web.Request) -> web.StreamResponse:
        self._running += 1
        connection = request.protocol
        assert isinstance(connection, TwinFront), "every client's connection is one"
        try:
            return await self._answer(request, connection)
        finally:
            self._running -= 1
            connection.rest()

    async def _prepare(self, _: web.Request, response: web.StreamResponse) -> None:
        """Name no software; let no client ask again on a connection that is about to end."""
        response.headers["Server"] = "fleetctl"
        if self._is_closing:
            response.force_close()
            response.headers["Connection"] = "close"

    async def _answer(self, request: web.Request, connection: TwinFront) -> web.StreamResponse:
        path = request.raw_path.partition("?")[0]
        transfer = request.headers.get("Transfer-Encoding", "chunked")
        if transfer.lower() != "chunked":
            answer = response(Answer.of(refusals.unclear_length(), path))
            answer.force_close()
            return answer
        proof = Proof()
        proof.shown += request.headers.getall("Authorization", [])
        proof.shown += map(as_bearer, request.headers.getall("X-Api-Key", []))
        if path not in COMPLETIONS or request.method != "POST":
            page = self._desk.answer(request.method, path, proof)
            connection.has_proved |= page.status == HTTPStatus.OK and path.startswith("/v1/")
            return response(page)
        exchange = self._desk.begin(path, proof)
        request[_NUMBER] = exchange.request_id
        try:
            exchange.admit()
            connection.work()
            return await self._complete(request, exchange)
        except RefusalError as error:
            exchange.refuse(error.status)
            raise
        except (asyncio.CancelledError, ConnectionError):
            exchange.left()
            raise
        except Exception:
            exchange.refuse(HTTPStatus.INTERNAL_SERVER_ERROR)
            raise

    async def _complete(self, request: web.Request, exchange: Exchange) -> web.StreamResponse:
        header, now = request.headers.get, asyncio.get_running_loop().time
        kind, encoding = header("Content-Type", ""), header("Content-Encoding", "")
        exchange.route(  # no name for the body, which would keep it until the answer is there
            await _body(request, exchange), kind, encoding, header("X-Session-Id", ""), now(),
            header("X-Fleetctl-Purpose", ""), header("X-Fleetctl-Version", ""),
        )  # fmt: skip
        if exchange.must_wait:
            await turn(exchange)
        deadline = Deadline(exchange)
        async with await self._ask(exchange, deadline) as reply:
            kind = reply.headers.get("Content-Type", "application/json")
            exchange.answered(kind)
            headers = {
                "Content-Type": kind,
                "x-fleetctl-version": exchange.choice.adapter,
                "x-request-id": exchange.request_id,
            }
            if exchange.is_stream:
                return await _stream(request, reply, headers, exchange, deadline)
            answer = await whole(reply, deadline)
            exchange.whole(reply.status, answer)
            return web.Response(status=reply.status, body=answer, headers=headers)

    async def _ask(
        self, exchange: Exchange, deadline: Deadline | None = None
    ) -> aiohttp.ClientResponse:
        """Return the head of the answer of the first server that takes the request."""
        assert self._session is not None, "`open` has been called"
        headers = {"Content-Type": "application/json", "X-Request-Id": exchange.request_id}
        if exchange.priority is not None:
            headers[PRIORITY] = str(exchange.priority)
        now, deadline = asyncio.get_running_loop().time, deadline or Deadline(exchange)
        while True:
            url = exchange.seek() + exchange.path
            if (copy := exchange.copies()) is not None:  # its task begins once this one waits
                task = asyncio.create_task(discard(copy, self._ask))
                self._shadows.add(task)
                task.add_done_callback(self._shadows.discard)
            try:
                async with deadline.first_byte():
                    reply = await self._session.post(
                        url, data=exchange.body, headers=headers, allow_redirects=False
                    )
            except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
                exchange.unreached(now())
                continue
            except TimeoutError:
                raise refusals.late() from None
            except (aiohttp.ClientError, OSError):
                raise refusals.broken() from None
            if reply.status < HTTPStatus.OK:  # it would go on in another protocol
                reply.close()
                raise refusals.broken()
            if exchange.goes_on(reply.status):
                reply.close()
                exchange.turned_away(reply.status, now())
            elif reply.status == HTTPStatus.NOT_FOUND:
                exchange.not_found(await whole(reply, deadline), now())
            else:
                return reply


async def _body(request: web.Request, exchange: Exchange) -> bytes:
    length, parts, size = request.content_length, [], 0
    if length is not None and length <= MAX_BODY:
        exchange.hold(length)
    async for part in request.content.iter_any():
        size += len(part)
        if size > MAX_BODY:
            raise refusals.too_large(MAX_BODY)
        if length is None:
            exchange.hold(len(part))
        parts.append(part)
    return b"".join(parts)


async def _stream(
    request: web.Request,
    reply: aiohttp.ClientResponse,
    headers: dict[str, str],
    exchange: Exchange,
    deadline: Deadline,
) -> web.StreamResponse:
    """Pass a stream on; one that breaks off ends without its last chunk, so that it shows."""
    headers["Cache-Control"] = "no-cache"
    answer = web.StreamResponse(status=reply.status, headers=headers)
    await answer.prepare(request)
    try:
        async for chunk in chunks(reply, deadline):
            if passed := exchange.pass_on(reply.status, chunk):
                await answer.write(passed)
        rest = exchange.end(reply.status)
    except (BrokenOffError, RefusalError) as error:
        if isinstance(error, BrokenOffError):
            exchange.broke_off(error.status)
        else:  # no row can be written, for which the server can do nothing
            exchange.left()
        if request.transport is not None:
            request.transport.abort()
        return answer
    if rest:
        await answer.write(rest)
    await answer.write_eof()
    return answer


@web.middleware
async def _in_our_words(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except (ConnectionError, web.HTTPException):
        raise
    except Exception as error:  # noqa: BLE001 (the last net: a client gets our words)
        path, number = request.raw_path.partition("?")[0], request.get(_NUMBER, "")
        return response(Answer.of(told(error), path, number))
