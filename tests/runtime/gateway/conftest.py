"""Every test of a gateway on sockets runs on each transport."""

import asyncio
from collections.abc import Iterator

import pytest
import uvloop

from runtime.gateway.transports import DEFAULT, TRANSPORTS
from tests.runtime.gateway.live import vllm
from tests.runtime.gateway.stage import TRANSPORT

__all__ = ["transport", "vllm"]


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> Iterator[str]:
    """Serve gateways with one transport after the other, on the loops that they run on."""
    token = TRANSPORT.set(request.param)
    before = asyncio.get_event_loop_policy()
    if request.param == DEFAULT:
        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    yield request.param
    asyncio.set_event_loop_policy(before)
    TRANSPORT.reset(token)
