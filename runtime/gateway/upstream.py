"""The gateway's side towards the servers.

A request goes to another replica only where nothing can have worked on it: the connection
failed, or the server has no adapter of that name (it was restarted). Anything else is never
repeated: a request that kills one server must not be passed on to the next.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus

import aiohttp

from runtime.gateway.inflight import InFlight
from runtime.gateway.refusals import broken, unavailable
from runtime.gateway.routing import Choice

CONNECT_S = 2.0
IDLE_S = 600.0
"""Longest silence of a server while it generates."""
KEEP_ALIVE_S = 3.0
"""vLLM closes idle connections after 5 s; a request must not meet that moment."""
RETRY_AFTER_S = 2


@dataclass(frozen=True, slots=True)
class Reply:
    """A server's answer, its body not read yet."""

    server: str
    response: aiohttp.ClientResponse

    @property
    def is_stream(self) -> bool:
        """Whether the body is a stream of events."""
        return self.response.content_type == "text/event-stream"


class Upstream:
    """Connections to all servers, with the counters of what runs on them."""

    def __init__(self, in_flight: InFlight) -> None:
        """Prepare; call within a running event loop."""
        self.in_flight = in_flight
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_S),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=IDLE_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("User-Agent", "Accept-Encoding"),
        )

    @asynccontextmanager
    async def ask(
        self, choice: Choice, urls: Mapping[str, str], path: str, body: bytes, request_id: str
    ) -> AsyncIterator[Reply]:
        """Give the answer of one server that holds the chosen version.

        Leaving the block before the body is read closes the connection, which makes the
        server abort the request.

        Raises:
            RefusalError: 503 when no server took it, 502 when one broke off.
        """
        now = asyncio.get_running_loop().time()
        headers = {"Content-Type": "application/json", "X-Request-Id": request_id}
        for server in self.in_flight.preferred(choice.servers, now):
            with self.in_flight.counted(server, choice.adapter):
                try:
                    response = await self._session.post(
                        urls[server] + path, data=body, headers=headers, allow_redirects=False
                    )
                except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
                    self.in_flight.avoid(server, now)
                    continue
                except (aiohttp.ClientError, OSError):
                    raise broken() from None
                if response.status == HTTPStatus.NOT_FOUND:
                    response.close()
                    self.in_flight.avoid(server, now)
                    continue
                async with response:
                    yield Reply(server, response)
                return
        raise unavailable(RETRY_AFTER_S)

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()
