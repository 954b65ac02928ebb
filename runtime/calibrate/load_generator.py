"""Closed-loop load: a batch of requests of one length is sent at once and timed."""

import asyncio
import time
from collections.abc import Sequence
from itertools import count
from typing import Self

from fleet.errors import EngineRejectedError
from runtime.json_client import JsonClient

CONNECTIONS = 16
"""Upper bound of open requests of an HTTP client."""
DEADLINE_S = 600.0
_FIRST_TOKEN = 10
"""Lower bound of token numbers in prompts; lower numbers are special tokens."""


class LoadGenerator:
    """Sends batches to a server and times them."""

    def __init__(self, url: str, peer: str, vocabulary: int) -> None:
        """Prepare; prompts have token numbers below `vocabulary`, `peer` stands in error texts."""
        self._url, self._peer = url, peer
        self._vocabulary = max(vocabulary, _FIRST_TOKEN + 2)
        self._clients: list[JsonClient] = []
        self._number = count(1)
        self.sent = 0
        """Requests sent so far."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(client.close() for client in self._clients))

    async def batch_seconds(
        self, models: Sequence[str], prompt_tokens: int, output_tokens: int
    ) -> float:
        """Send a request per model at the same time; return the seconds until all are answered.

        Prompts differ from their first token on, so that no cached prefix helps. An answer of
        another length than requested is an error: the time would be worthless.

        Raises:
            EngineError: a request failed or was answered with another number of tokens.
        """
        while len(self._clients) * CONNECTIONS < len(models):
            self._clients.append(JsonClient(self._url, peer=self._peer))
        began = time.monotonic()
        tasks = [
            asyncio.ensure_future(
                self._ask(self._clients[at // CONNECTIONS], model, prompt_tokens, output_tokens)
            )
            for at, model in enumerate(models)
        ]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return time.monotonic() - began

    async def _ask(self, http: JsonClient, model: str, prompt_tokens: int, tokens: int) -> None:
        self.sent += 1
        body = {
            "model": model,
            "prompt": self._prompt(prompt_tokens),
            "max_tokens": tokens,
            "ignore_eos": True,
            "temperature": 0,
        }
        answer = await http.post("/v1/completions", body, timeout_s=DEADLINE_S)
        try:
            counted = int(answer["usage"]["completion_tokens"])
        except (KeyError, TypeError, ValueError):
            counted = -1
        if counted != tokens:
            detail = (
                f"{self._peer} was asked for {tokens} tokens of `{model}` and gave "
                f"{'no count' if counted < 0 else counted}; its speed is unknown."
            )
            hint = "Check that it is a vLLM server and takes `ignore_eos`."
            raise EngineRejectedError.of("FC4004", "Answer not understood", detail, hint=hint)

    def _prompt(self, length: int) -> list[int]:
        """Return token numbers that no earlier prompt had: the stride changes."""
        number = next(self._number)
        span = self._vocabulary - _FIRST_TOKEN
        stride = 1 + number // span % max(span - 1, 1)
        return [_FIRST_TOKEN + (number + at * stride) % span for at in range(length)]
