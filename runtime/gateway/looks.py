"""Looking at servers that have much to do: how many requests they run, how many wait in them."""

import asyncio
import re
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Final

import aiohttp

from runtime.gateway.rooms import PATIENCE_S, Load, Rooms

GAP_S: Final = 0.05
"""Least time between two looks at a server: a step of the engine should have passed."""
TIGHT_GAP_S: Final = 0.2
"""The same for a server in which somebody waits: what it is given then changes by little."""
PAGE: Final = "/metrics/?name[]=vllm:num_requests_running&name[]=vllm:num_requests_waiting"
"""With the slash at the end vLLM leaves out what was not asked for."""
_SAMPLE: Final = re.compile(
    rb"^vllm:num_requests_(running|waiting)(?:\{[^\n]*\})? ([0-9.e+]+)$", re.MULTILINE
)


def load_of(page: bytes) -> Load | None:
    """Return what a page of metrics says, of all engines behind it; None: nothing."""
    found = {b"running": 0.0, b"waiting": 0.0}
    samples = _SAMPLE.findall(page)
    for what, value in samples:
        found[what] += float(value)
    names = {what for what, _ in samples}
    if len(names) < len(found):
        return None
    return Load(int(found[b"running"]), int(found[b"waiting"]))


class Looks:
    """The looks of one gateway process; at most one at a server at a time."""

    def __init__(
        self, rooms: Rooms, urls: Callable[[], Mapping[str, str]], freed: Callable[[], None]
    ) -> None:
        """Wire up.

        Args:
            rooms: Takes what servers say, and asks for looks.
            urls: Gives each server's base URL by its name.
            freed: Called when there may be room for whoever waits.
        """
        self._rooms = rooms
        self._urls = urls
        self._freed = freed
        self._http: aiohttp.ClientSession | None = None
        self._running: dict[str, asyncio.Task[None]] = {}

    def start(self, server: str) -> None:
        """Look at a server in a task of its own, unless one does."""
        url = self._urls().get(server)
        if server not in self._running and url is not None:
            self._running[server] = asyncio.create_task(self._look(server, url))

    async def close(self) -> None:
        """End all looks."""
        running = [*self._running.values()]
        for each in running:
            each.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        if self._http is not None:
            await self._http.close()

    async def _look(self, server: str, url: str) -> None:
        try:
            await self._ask(server, url)
            self._freed()
            await asyncio.sleep(TIGHT_GAP_S if self._rooms.is_tight(server) else GAP_S)
        finally:
            del self._running[server]
        self._freed()  # whoever still waits has it looked at again

    async def _ask(self, server: str, url: str) -> None:
        if self._http is None:
            self._http = aiohttp.ClientSession(
                # A connection that was kept may end just as it is used again.
                connector=aiohttp.TCPConnector(limit=0, force_close=True),
                timeout=aiohttp.ClientTimeout(total=PATIENCE_S),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        try:
            async with self._http.get(f"{url}{PAGE}", allow_redirects=False) as reply:
                page = await reply.read() if reply.status == HTTPStatus.OK else b""
        except (aiohttp.ClientError, OSError, TimeoutError):
            self._rooms.untold(server, answered=False)
            return
        load = load_of(page)
        if load is None:
            self._rooms.untold(server, answered=True)
        else:
            self._rooms.told(server, load)
