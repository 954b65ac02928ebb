"""Calls that may hang, such as to a ledger's home or to a resolver of names."""

from collections.abc import Callable
from threading import Thread
from typing import TypeVar

Result = TypeVar("Result")

LIMIT_S = 1.0
"""Upper bound of a call in seconds, unless the caller names another. Low, because a rollback
as a whole is over in seconds; raise it where a home is slow and healthy."""


def call_with_timeout(
    call: Callable[[], Result],
    limit_s: float = LIMIT_S,
    hung: list[Thread] | None = None,
    progress: list[int] | None = None,
) -> Result:
    """Run `call` in a daemon thread, for `limit_s` seconds at most, and return its result.

    `hung`: threads of earlier calls that have not ended; while one of them runs, `call` is not
    started. None: a thread that hangs is forgotten. `progress`: changed by `call` as it gets on;
    the seconds begin anew then.

    Raises:
        TimeoutError: `call` has not ended in time; its thread ends with the program.
        Exception: what `call` raises.
    """
    if any(thread.is_alive() for thread in hung or ()):
        raise TimeoutError("no answer yet to what was asked before")
    results: list[Result] = []
    failures: list[Exception] = []

    def run() -> None:
        try:
            results.append(call())
        except Exception as error:  # noqa: BLE001 (raised again below)
            failures.append(error)

    # Not of a pool: the end of a pool waits for its threads.
    thread = Thread(target=run, daemon=True)
    thread.start()
    thread.join(limit_s)
    while progress and thread.is_alive():
        progress.clear()
        thread.join(limit_s)
    if failures:
        raise failures[0]
    if not results:
        if hung is not None:
            hung[:] = [thread]
        raise TimeoutError(f"no answer within {limit_s:g} s")
    return results[0]
