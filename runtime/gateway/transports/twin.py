"""The transport made of aiohttp on both sides: the fallback, and the measure of the other one."""

import asyncio
import logging
import sys
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from http import HTTPStatus

import aiohttp
from aiohttp import web

from runtime.gateway import refusals
from runtime.gateway.desk import COMPLETIONS, MAX_BODY, Answer, Desk
from runtime.gateway.exchange import Exchange, told
from runtime.gateway.refusals import RefusalError
from runtime.gateway.transports.timing import CONNECT_S, GRACE_S, IDLE_S, KEEP_ALIVE_S

_BACKLOG = 1024
_SILENT = logging.getLogger(__name__)
"""aiohttp would log what it cannot parse, keys included."""
_SILENT.setLevel(logging.CRITICAL + 1)


class _Connection(web.RequestHandler):
    """A client's connection that repeats nothing of what it could not parse."""

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = HTTPStatus.INTERNAL_SERVER_ERROR,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer in our words; aiohttp's would quote the header at which it stopped."""
        super().handle_error(request, status, exc, message)
        refusal = refusals.invalid("The request is not HTTP.")
        answer = _response(Answer.of(refusal))
        answer.headers["Server"] = "fleetctl"
        answer.force_close()
        return answer


class Twin:
    """Keeps the contract of `Transport`."""

    def __init__(self, desk: Desk) -> None:
        """Wire up; `open` begins."""
        self._desk = desk
        self._session: aiohttp.ClientSession | None = None
        self._listener: asyncio.Server | None = None
        app = web.Application(client_max_size=MAX_BODY, middlewares=[_in_our_words])
        app.router.add_route("*", "/{path:.*}", self._take)
        app.on_response_prepare.append(_name_no_software)
        self._runner = web.AppRunner(
            app,
            handler_cancellation=True,  # a client that leaves ends its request on the server
            shutdown_timeout=GRACE_S,
        )

    async def open(self, host: str, port: int) -> int:
        """Listen, as `Transport` says."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_S),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=IDLE_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("User-Agent", "Accept-Encoding"),
        )
        await self._runner.setup()
        server, loop = self._runner.server, asyncio.get_running_loop()
        assert server is not None, "the runner is set up"
        self._listener = await loop.create_server(
            lambda: _Connection(
                server, loop=loop, access_log=_SILENT, logger=_SILENT, auto_decompress=False
            ),
            host,
            port,
            backlog=_BACKLOG,
        )
        return int(self._listener.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop, as `Transport` says."""
        if self._listener is not None:
            self._listener.close()
        await self._runner.cleanup()
        if self._session is not None:
            await self._session.close()

    async def _take(self, request: web.Request) -> web.StreamResponse:
        path = request.raw_path.partition("?")[0]
        authorization = request.headers.getall("Authorization", [])
        if path not in COMPLETIONS or request.method != "POST":
            return _response(self._desk.answer(request.method, path, authorization))
        exchange = self._desk.begin(path, authorization)
        try:
            return await self._complete(request, path, exchange)
        except RefusalError as error:
            exchange.refuse(error.status)
            raise
        except (asyncio.CancelledError, ConnectionError):
            exchange.left()
            raise
        except Exception:
            exchange.refuse(HTTPStatus.INTERNAL_SERVER_ERROR)
            raise

    async def _complete(
        self, request: web.Request, path: str, exchange: Exchange
    ) -> web.StreamResponse:
        exchange.admit()
        body = await _body(request)
        header = request.headers.get
        loop = asyncio.get_running_loop()
        kind, encoding = header("Content-Type", ""), header("Content-Encoding", "")
        exchange.route(body, kind, encoding, header("X-Session-Id", ""), loop.time())
        async with await self._ask(exchange, path) as reply:
            kind = reply.headers.get("Content-Type", "application/json")
            exchange.answered(kind)
            headers = {
                "Content-Type": kind,
                "x-fleetctl-version": exchange.choice.adapter,
                "x-request-id": exchange.request_id,
            }
            if exchange.is_stream:
                return await _stream(request, reply, headers, exchange)
            try:
                whole = await reply.read()
            except (aiohttp.ClientError, OSError):
                raise refusals.broken() from None
            exchange.whole(reply.status, whole)
            return web.Response(status=reply.status, body=whole, headers=headers)

    async def _ask(self, exchange: Exchange, path: str) -> aiohttp.ClientResponse:
        """Return the head of the answer of the first server that takes the request."""
        assert self._session is not None, "`open` has been called"
        headers = {"Content-Type": "application/json", "X-Request-Id": exchange.request_id}
        now = asyncio.get_running_loop().time
        while True:
            url = exchange.seek() + path
            try:
                reply = await self._session.post(
                    url, data=exchange.body, headers=headers, allow_redirects=False
                )
            except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
                exchange.passed_over(now())
                continue
            except (aiohttp.ClientError, OSError):
                raise refusals.broken() from None
            if reply.status != HTTPStatus.NOT_FOUND:
                return reply
            reply.close()
            exchange.passed_over(now())


async def _body(request: web.Request) -> bytes:
    with suppress(web.HTTPRequestEntityTooLarge):
        return await request.read()
    raise refusals.too_large(MAX_BODY)


async def _stream(
    request: web.Request,
    reply: aiohttp.ClientResponse,
    headers: dict[str, str],
    exchange: Exchange,
) -> web.StreamResponse:
    """Pass a stream on; one that breaks off ends without its last chunk, so that it shows."""
    headers["Cache-Control"] = "no-cache"
    answer = web.StreamResponse(status=reply.status, headers=headers)
    await answer.prepare(request)
    try:
        async for chunk in _chunks(reply):
            if passed := exchange.pass_on(reply.status, chunk):
                await answer.write(passed)
    except _BrokenOffError:
        exchange.broke_off()
        if request.transport is not None:
            request.transport.abort()
        return answer
    if rest := exchange.end(reply.status):
        await answer.write(rest)
    await answer.write_eof()
    return answer


class _BrokenOffError(Exception):
    """The server ended a stream in the middle, as opposed to the client leaving."""


async def _chunks(reply: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    try:
        async for chunk in reply.content.iter_any():
            yield chunk
    except (aiohttp.ClientError, OSError) as error:
        raise _BrokenOffError from error


def _response(answer: Answer) -> web.Response:
    return web.Response(status=answer.status, body=answer.body, headers=answer.headers)


async def _name_no_software(_: web.Request, response: web.StreamResponse) -> None:
    response.headers["Server"] = "fleetctl"


@web.middleware
async def _in_our_words(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except (ConnectionError, web.HTTPException):
        raise
    except Exception as error:  # noqa: BLE001 (the last net: a client gets our words)
        refusal = told(error)
        if refusal is not error:
            traceback.print_exc(file=sys.stderr)
        return _response(Answer.of(refusal))
