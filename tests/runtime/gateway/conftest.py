"""Every test of a gateway on sockets runs on each transport, many through an Envoy too."""

import asyncio
import gc
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import uvloop

from runtime.gateway import health
from runtime.gateway.transports import DEFAULT, TRANSPORTS
from tests.runtime.gateway.envoy_stage import needs_envoy
from tests.runtime.gateway.fronts import ENVOY, Front
from tests.runtime.gateway.stage import TRANSPORT

__all__ = ["front", "traced", "transport"]


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> Iterator[str]:
    """Serve gateways with one transport after the other, on the loops that they run on."""
    with _carried_by(request.param):
        yield request.param


@pytest.fixture(params=[*TRANSPORTS, pytest.param(ENVOY, marks=needs_envoy)])
def front(request: pytest.FixtureRequest) -> Iterator[Front]:
    """Put our gateway on each transport in front of the servers, then an Envoy."""
    with _carried_by(DEFAULT if request.param == ENVOY else request.param):
        yield Front(request.param)


@pytest.fixture
def traced() -> Iterator[None]:
    """Count what is kept; a process that serves hardly looks for garbage in cycles."""
    gc.collect()
    gc.disable()
    tracemalloc.start()
    yield
    tracemalloc.stop()
    gc.enable()


@contextmanager
def _carried_by(transport: str) -> Iterator[None]:
    """Servers that play a script know no probe, and on a slow machine one would come."""
    token = TRANSPORT.set(transport)
    before = asyncio.get_event_loop_policy()
    if transport == DEFAULT:
        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(health, "EVERY_S", 3600.0)
        yield
    asyncio.set_event_loop_policy(before)
    TRANSPORT.reset(token)
