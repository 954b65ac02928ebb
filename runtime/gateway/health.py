"""Looking after the servers: each is asked for its health, again and again."""

import asyncio
from contextlib import suppress
from http import HTTPStatus
from typing import Final

import aiohttp

from runtime.gateway.shared import Shared

EVERY_S: Final = 2.0
PATIENCE_S: Final = 2.0


async def watch(shared: Shared) -> None:
    """Check every server of the table being served, until cancelled."""
    timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),  # to wait for a connection takes from the patience
        timeout=timeout,
        cookie_jar=aiohttp.DummyCookieJar(),
    ) as http:
        while True:
            await asyncio.sleep(EVERY_S)
            urls = shared.current.lookup.urls
            checks = (_check(shared, http, name, url) for name, url in urls.items())
            await asyncio.gather(*checks, return_exceptions=True)  # a check must not end the rest


async def _check(shared: Shared, http: aiohttp.ClientSession, server: str, url: str) -> None:
    healthy = False
    with suppress(aiohttp.ClientError, OSError, TimeoutError):
        async with http.get(f"{url}/health", allow_redirects=False) as reply:
            healthy = reply.status < HTTPStatus.INTERNAL_SERVER_ERROR
    shared.replicas.checked(server, healthy=healthy)
