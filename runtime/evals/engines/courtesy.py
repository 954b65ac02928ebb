"""Courtesy: an evaluation asks nothing more of a server on which clients' requests queue up."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from fleet.errors import EngineError, EvalError, problem
from runtime.json_client import JsonClient

LOOK_S = 1.0
"""How old a look at the queue may be, and how long a pause is."""
LONGEST_S = 1800.0
"""Of all pauses of a run together; then the server is too busy to be evaluated now."""
_ASK_S = 2.0
_SERIES = "vllm:num_requests_waiting{"


class Courtesy:
    """Says when the next question may be asked. For the turns of one run, all on one server."""

    def __init__(
        self,
        client: JsonClient,
        most: int,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare; nothing is asked.

        Args:
            client: Of the server, not of a gateway before it.
            most: Requests that may wait there.
            pause: Waits so many seconds.
            seconds: A clock.
        """
        self._client, self._most = client, most
        self._pause, self._seconds = pause, seconds
        self._looked: float | None = None
        self._one = asyncio.Lock()
        self.paused_s = 0.0
        """Of all pauses so far."""

    async def turn(self) -> None:
        """Return once the queue is short; a server that shows none is not waited for.

        Raises:
            EvalError: FC4509, it stayed long.
        """
        async with self._one:  # whoever comes meanwhile finds the answer
            now = self._seconds()
            if self._looked is not None and now - self._looked < LOOK_S:
                return
            while (waiting := await self._waiting()) > self._most:
                if self.paused_s >= LONGEST_S:
                    raise _busy(self._client.url, waiting, self.paused_s)
                await self._pause(LOOK_S)
                self.paused_s += LOOK_S
            self._looked = self._seconds()

    async def _waiting(self) -> float:
        try:
            text = await self._client.get_text("/metrics", timeout_s=_ASK_S, attempts=1)
            series = [line for line in text.splitlines() if line.startswith(_SERIES)]
            return sum(float(each.rpartition(" ")[2]) for each in series)
        except (EngineError, ValueError):
            return 0.0


def _busy(url: str, waiting: float, paused_s: float) -> EvalError:
    return EvalError(
        problem(
            "FC4509",
            "The server is too busy to be evaluated",
            f"{waiting:g} requests wait on {url}, after pauses of {paused_s / 60:g} minutes "
            "together.",
            hint="Run it again in a quieter hour, or raise `evals.pause_above`; clients then wait "
            "longer.",
        )
    )
