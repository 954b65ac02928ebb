"""Probes of servers in the background: whether servers are healthy, and how busy they are."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

import msgspec

from fleet.names import Stamps
from runtime.engines.vllm_api import parse_metrics
from runtime.gateway.traffic.balancer import LoadBalancer
from runtime.gateway.traffic.concurrency import PROBE_TIMEOUT_S, ConcurrencyLimiter

HEALTH_EVERY_S: Final = 2.0
"""Interval of the health checks of a server."""
HEALTH_TIMEOUT_S: Final = 2.0
MIN_GAP_S: Final = 0.05
"""Least time between two load reports of a server: the engine should have made a step."""
CAUTIOUS_GAP_S: Final = 0.2
"""Least time where requests waited inside the server: its limit changes by little then."""
LOAD_PATH: Final = "/metrics/?" + "&".join(
    f"name[]=vllm:{name}"
    for name in (
        "num_requests_running",
        "num_requests_waiting",
        "prompt_tokens_total",
        "generation_tokens_total",
    )
)
"""The slash after `metrics` makes vLLM leave out all other metrics."""
MODELS_PATH: Final = "/v1/models"
Urls = Callable[[], Mapping[str, str]]
"""Returns the servers' base URLs by name, of the table being served."""
Get = Callable[[str, str, float], Awaitable[tuple[int, bytes]]]
"""Sends a GET request (base URL, path, timeout in seconds); returns status and body.

Raises OSError, TimeoutError where no complete response came in time.
"""


class _Card(msgspec.Struct):
    id: str
    parent: str | None = None
    max_model_len: int | None = None


class _Models(msgspec.Struct):
    data: list[_Card]


_MODELS: Final = msgspec.json.Decoder(_Models)


@dataclass(frozen=True, slots=True)
class ServerListing:
    """The models that a server lists: who answers, and the versions that are there."""

    stamps: Stamps
    adapters: frozenset[str]
    max_model_len: int | None = None
    """Tokens of the context; None: the server does not say."""


def parse_listing(status: int, body: bytes) -> ServerListing | None:
    """Read an answer of `MODELS_PATH`; None: the answer lists no models."""
    try:
        cards = _MODELS.decode(body).data
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if status != HTTPStatus.OK:
        return None
    names = (card.id for card in cards if card.parent is None)
    adapters = frozenset(card.id for card in cards if card.parent is not None)
    contexts = [card.max_model_len for card in cards if card.max_model_len is not None]
    return ServerListing(Stamps.among(names), adapters, min(contexts, default=None))


async def check_health(
    urls: Urls, get: Get, balancer: LoadBalancer, on_listing: Callable[[str, ServerListing], None]
) -> None:
    """Check the health of every server again and again, until cancelled.

    A server whose launch must be the one in its URL lists its models too, for `on_listing`.
    """
    while True:
        await asyncio.sleep(HEALTH_EVERY_S)
        checks = (_check(server, url, get, balancer, on_listing) for server, url in urls().items())
        await asyncio.gather(*checks, return_exceptions=True)  # a defect must not end the rest


async def _check(
    server: str,
    url: str,
    get: Get,
    balancer: LoadBalancer,
    on_listing: Callable[[str, ServerListing], None],
) -> None:
    fault = ""
    try:
        status, _ = await get(url, "/health", HEALTH_TIMEOUT_S)
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            fault = f"/health answers {status}"
        elif "#" in url:
            listing = parse_listing(*await get(url, MODELS_PATH, HEALTH_TIMEOUT_S))
            fault = "it lists no models" if listing is None else ""
            if listing is not None:
                on_listing(url, listing)
    except TimeoutError:
        fault = f"no answer within {HEALTH_TIMEOUT_S:g} s"
    except OSError as error:
        fault = str(error) or type(error).__name__
    balancer.record_health(server, healthy=not fault, why=fault)


@dataclass(slots=True)
class LoadProbes:
    """The load probes of a gateway process; for a server a single probe at a time."""

    _urls: Urls
    _get: Get
    _limiter: ConcurrencyLimiter
    _balancer: LoadBalancer
    _on_report: Callable[[], None]
    """Called when a waiting request may be able to proceed."""
    _running: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    def start(self, server: str) -> None:
        """Ask a server for its load in a task of its own, unless a probe is on its way."""
        url = self._urls().get(server)
        if server not in self._running and url is not None:
            self._running[server] = asyncio.create_task(self._probe(server, url))

    async def close(self) -> None:
        """End all probes."""
        running = [*self._running.values()]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _probe(self, server: str, url: str) -> None:
        try:
            await self._ask(server, url)
            self._on_report()
            is_cautious = self._limiter.is_cautious(server)
            await asyncio.sleep(CAUTIOUS_GAP_S if is_cautious else MIN_GAP_S)
        finally:
            del self._running[server]
        self._on_report()  # a request that still waits starts the next probe

    async def _ask(self, server: str, url: str) -> None:
        try:
            status, page = await self._get(url, LOAD_PATH, PROBE_TIMEOUT_S)
        except (OSError, TimeoutError):
            self._limiter.record_no_load(server, answered=False)
            return
        load = parse_metrics(page.decode(errors="replace"))
        if load.tokens is not None:
            self._balancer.outliers.record_tokens(server, load.tokens, time.monotonic())
        self._balancer.record_resident(server, load.resident)
        if status != HTTPStatus.OK or load.running is None or load.waiting is None:
            self._limiter.record_no_load(server, answered=True)
            self._balancer.shares.record_no_load(server)
        else:
            self._limiter.record_load(server, load.running, load.waiting)
            self._balancer.shares.record_load(server, load.running, load.waiting)
