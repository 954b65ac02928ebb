"""Answers on their way back: whole ones and streams, byte for byte."""

import asyncio
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Final

import aiohttp
from aiohttp import web

from runtime.gateway import refusals
from runtime.gateway.upstream import Reply
from runtime.gateway.usage import TAIL_BYTES, Record, tokens_in_reply, tokens_in_stream

_DONE: Final = b"\n\ndata: [DONE]"
"""Ends a stream; a model cannot write it, for in JSON its line ends are escaped."""


async def relay_whole(
    _: web.Request, reply: Reply, headers: dict[str, str], record: Record
) -> web.StreamResponse:
    """Answer with a body that the server sends whole; the row is written before it goes out.

    Raises:
        RefusalError: 502, the server broke off.
    """
    try:
        body = await reply.response.read()
    except (aiohttp.ClientError, OSError):
        raise refusals.broken() from None
    record.first_byte()
    record.tokens = tokens_in_reply(body)
    record.write(reply.response.status)
    return web.Response(status=reply.response.status, body=body, headers=headers)


async def relay_stream(
    request: web.Request, reply: Reply, headers: dict[str, str], record: Record
) -> web.StreamResponse:
    """Pass a stream of events on as it is generated; the row is written before its last one.

    A stream that the server breaks off ends without its last chunk, so that no client takes
    it for a whole one.
    """
    headers["Cache-Control"] = "no-cache"
    answer = web.StreamResponse(status=reply.response.status, headers=headers)
    await answer.prepare(request)
    tail = b""
    try:
        async for chunk in _chunks(reply.response):
            record.first_byte()
            tail = (tail + chunk)[-TAIL_BYTES:]
            record.tokens = record.tokens if _DONE not in tail else tokens_in_stream(tail)
            if _DONE in tail:  # for most clients the last that they read
                record.write(reply.response.status)
            await answer.write(chunk)
    except _BrokenOffError:
        record.tokens = tokens_in_stream(tail)
        record.write(HTTPStatus.BAD_GATEWAY)
        if request.transport is not None:  # an end without the last chunk: the client must see it
            request.transport.abort()
        return answer
    except (asyncio.CancelledError, ConnectionError):
        record.tokens = tokens_in_stream(tail)
        raise
    record.tokens = tokens_in_stream(tail)
    record.write(reply.response.status)
    await answer.write_eof()
    return answer


class _BrokenOffError(Exception):
    """The server ended a stream in the middle, as opposed to the client leaving."""


async def _chunks(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    try:
        async for chunk in response.content.iter_any():
            yield chunk
    except (aiohttp.ClientError, OSError) as error:
        raise _BrokenOffError from error
