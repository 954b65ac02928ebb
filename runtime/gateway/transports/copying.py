"""Reading answers in the aiohttp transport: by the clock, and those that nobody gets."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from http import HTTPStatus

import aiohttp

from runtime.gateway import refusals
from runtime.gateway.defects import told
from runtime.gateway.exchange import Exchange
from runtime.gateway.refusals import RefusalError

Ask = Callable[[Exchange], Awaitable[aiohttp.ClientResponse]]


class BrokenOffError(Exception):
    """The server ended a stream in the middle, as opposed to the client leaving."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__()
        self.status = status


class Deadline:
    """The time by which one answer must have ended."""

    def __init__(self, exchange: Exchange) -> None:
        """Begin."""
        self._patience = exchange.patience
        self._asked_at = asyncio.get_running_loop().time()
        self._end = self._asked_at + self._patience.total_s

    def first_byte(self) -> asyncio.Timeout:
        """Limit the wait for an answer to begin, from now on."""
        self._asked_at = asyncio.get_running_loop().time()
        return self.first_part()

    def first_part(self) -> asyncio.Timeout:
        """Limit the wait for the first part of its body: vLLM sends a stream's head before that."""
        return asyncio.timeout_at(min(self._asked_at + self._patience.first_byte_s, self._end))

    def idle(self) -> asyncio.Timeout:
        """Limit the wait for more of it."""
        now = asyncio.get_running_loop().time()
        return asyncio.timeout_at(min(now + self._patience.idle_s, self._end))


async def turn(exchange: Exchange) -> None:
    """Wait until it is a request's turn.

    Raises:
        RefusalError: 429: it has not come in time.
    """
    come: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def begin() -> None:
        if not come.done():
            come.set_result(None)

    patience = exchange.wait(begin)
    try:
        async with asyncio.timeout(patience):
            await come
    except TimeoutError:
        if exchange.must_wait:
            raise exchange.gave_up() from None


async def whole(reply: aiohttp.ClientResponse, deadline: Deadline) -> bytes:
    """Return the whole body of an answer.

    Raises:
        RefusalError: 502 or 504.
    """
    try:
        async with deadline.first_byte():
            return await reply.read()
    except TimeoutError:
        raise refusals.late() from None
    except (aiohttp.ClientError, OSError):
        raise refusals.broken() from None


async def chunks(reply: aiohttp.ClientResponse, deadline: Deadline) -> AsyncIterator[bytes]:
    """Yield a stream as it comes.

    Raises:
        BrokenOffError: it ended in the middle, or too much time has passed.
    """
    limit = deadline.first_part
    while True:
        try:
            async with limit():
                chunk = await reply.content.readany()
        except TimeoutError:
            raise BrokenOffError(HTTPStatus.GATEWAY_TIMEOUT) from None
        except (aiohttp.ClientError, OSError) as error:
            raise BrokenOffError(HTTPStatus.BAD_GATEWAY) from error
        if not chunk:
            return
        limit = deadline.idle
        yield chunk


async def discard(exchange: Exchange, ask: Ask) -> None:
    """Carry the shadow of a request: its answer is counted and dropped."""
    try:
        deadline = Deadline(exchange)
        async with await ask(exchange) as reply:
            exchange.answered(reply.headers.get("Content-Type", "application/json"))
            if not exchange.is_stream:
                exchange.whole(reply.status, await whole(reply, deadline))
                return
            async for chunk in chunks(reply, deadline):
                exchange.pass_on(reply.status, chunk)
            exchange.end(reply.status)
    except RefusalError as error:
        exchange.refuse(error.status)
    except BrokenOffError as error:
        exchange.broke_off(error.status)
    except asyncio.CancelledError:
        exchange.left()
        raise
    except Exception as error:  # noqa: BLE001 (nobody waits for it)
        exchange.refuse(told(error).status)
