"""Rounds of work: at an interval until a signal, in parts of which an error ends a single part."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TypeVar

from fleet.errors import LockHeldError, problem_of
from runtime.messages import EmitMessage, FailureMessage, failure_of

Found = TypeVar("Found")


@contextmanager
def stop_signals() -> Iterator[asyncio.Event]:
    """Give an event that the first SIGINT or SIGTERM sets; the second cancels this task."""
    loop, task, stop = asyncio.get_running_loop(), asyncio.current_task(), asyncio.Event()

    def on_signal() -> None:
        if stop.is_set() and task is not None:
            task.cancel()
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    try:
        yield stop
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


async def repeat(
    run_round: Callable[[asyncio.Event], Awaitable[Found]], interval: timedelta, emit: EmitMessage
) -> AsyncIterator[Found]:
    """Run rounds at an interval until a signal, and yield their results.

    A round gets the event of the signal. An error of a round is emitted, and the next round runs.
    """
    with stop_signals() as stop:
        while not stop.is_set():
            try:
                yield await run_round(stop)
            except Exception as error:  # noqa: BLE001 (the next round may find all well)
                emit(failure_of(error))
            try:
                async with asyncio.timeout(interval.total_seconds()):
                    await stop.wait()
            except TimeoutError:
                continue


@dataclass(slots=True)
class RoundParts:
    """The parts of a round, and whether any has failed."""

    emit: EmitMessage
    exit_code: int = 0
    """1 once a part has failed."""

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Report any error that ends the block, and go on behind the block.

        Raises:
            LockHeldError: the lease is another run's, so that this run has to end.
        """
        try:
            yield
        except LockHeldError:
            raise
        except Exception as error:  # noqa: BLE001 (a part may be ended by anything)
            self.exit_code = 1
            shown = (
                replace(problem, detail=f"This ended {name}, and nothing else. {problem.detail}")
                for problem in problem_of(error).diagnostics
            )
            self.emit(FailureMessage(tuple(shown)))
