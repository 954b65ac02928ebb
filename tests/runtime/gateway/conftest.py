"""Tests of a gateway on sockets run on the event loop of its process, many through an Envoy too."""

import asyncio
import gc
import tracemalloc
from collections.abc import Iterator

import pytest
import uvloop

from runtime.gateway.traffic import probes
from tests.runtime.gateway.envoy_stage import needs_envoy
from tests.runtime.gateway.fronts import ENVOY, OURS, Front

__all__ = ["front", "serving_loop", "traced"]


@pytest.fixture
def serving_loop() -> Iterator[None]:
    """Serve gateways on uvloop, as their processes do, without health checks.

    Servers that play a script know no health check, and on a slow machine one would come.
    """
    before = asyncio.get_event_loop_policy()
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probes, "HEALTH_EVERY_S", 3600.0)
        yield
    asyncio.set_event_loop_policy(before)


@pytest.fixture(params=[OURS, pytest.param(ENVOY, marks=needs_envoy)])
def front(request: pytest.FixtureRequest, serving_loop: None) -> Front:  # noqa: ARG001 (the loop)
    """Put our gateway in front of the servers, then an Envoy."""
    return Front(request.param)


@pytest.fixture
def traced() -> Iterator[None]:
    """Count the memory that is kept; a process that serves hardly looks for garbage in cycles."""
    gc.collect()
    gc.disable()
    tracemalloc.start()
    yield
    tracemalloc.stop()
    gc.enable()
