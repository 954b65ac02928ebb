"""Runs a coroutine to its end for synchronous callers, whatever the size of its result."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine in a loop of its own, and return the result.

    `asyncio.run` writes its task out in words twice, in an error that is dropped: with the
    result in the task, these are all servers of a look, or all entries of a ledger.
    """
    results: list[Result] = []

    async def kept_apart() -> None:
        results.append(await work)

    asyncio.run(kept_apart())
    return results[0]
