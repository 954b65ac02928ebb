"""Finds out whether a server does any work: its health, its counters, and a token on request."""

import asyncio
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from fleet.errors import EngineError, EngineRejectedError, EngineTimedOutError
from runtime.engines.vllm_api import list_models, read_metrics
from runtime.json_client import JsonClient

HEALTH_S: Final = 2.0
"""Upper bound of the wait for `/health` or `/metrics`, in seconds."""
TOKEN_S: Final = 5.0
"""Upper bound of the wait for a single token, in seconds. A busy server needs longer, and its
counters move meanwhile."""


@dataclass(frozen=True, slots=True)
class Liveness:
    """Signs of life of a server that does not answer, or answers without a token."""

    is_healthy: bool
    """Whether `/health` answers with success."""
    tokens: int | None
    """Tokens that the server has read and made so far; None: its metrics do not answer."""


async def signs_of_life(http: JsonClient) -> Liveness:
    """Return the signs of life of a server; asks for no token."""
    health, metrics = await asyncio.gather(
        _answers_health(http), read_metrics(http, HEALTH_S, attempts=1)
    )
    return Liveness(health, metrics.tokens)


async def without_token(http: JsonClient) -> Liveness | None:
    """Ask a server that lists its models for a token; None: the server works.

    A server works where the token comes, where the request is refused for its content, or where the
    counters move while a second request waits as well.
    """
    if not await _lacks_token(http):
        return None
    before = await signs_of_life(http)
    if not await _lacks_token(http):
        return None
    after = await signs_of_life(http)
    moved = None not in (before.tokens, after.tokens) and before.tokens != after.tokens
    return None if moved else after


async def _answers_health(http: JsonClient) -> bool:
    try:
        await http.get_text("/health", timeout_s=HEALTH_S, attempts=1)
    except EngineError:
        return False
    return True


async def _lacks_token(http: JsonClient) -> bool:
    """Return whether a request for a token has no answer, or the engine behind has died."""
    try:
        names = (await list_models(http, HEALTH_S)).names
        body = {"model": names[0] if names else "", "prompt": ".", "max_tokens": 1}
        await http.post("/v1/completions", body, timeout_s=TOKEN_S)
    except EngineTimedOutError:
        return True
    except EngineRejectedError as error:
        is_broken = (error.status or 0) >= HTTPStatus.INTERNAL_SERVER_ERROR
        return is_broken and not await _answers_health(http)
    except EngineError:
        return False  # it has just ended, or another program answers there
    return False
