"""Long work in a thread beside the event loop, which runs in the same interpreter."""

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

WORK_S: Final = 0.0005
REST_S: Final = 0.0003

Breathe = Callable[[], None]
"""Called between small pieces of long work."""


def hurry() -> None:
    """Let nobody in: nobody waits."""


def breather() -> Breathe:
    """Return what lets the event loop in when a piece of work has taken half a millisecond.

    A thread that computes gives the interpreter up only every 5 ms, and each request would
    wait that long.
    """
    began = time.perf_counter()

    def breathe() -> None:
        nonlocal began
        if time.perf_counter() - began > WORK_S:
            time.sleep(REST_S)
            began = time.perf_counter()

    return breathe


@contextmanager
def uncollected() -> Iterator[None]:
    """Make what is there for long without a search for garbage, now or later.

    The search looks at each new object, and nothing else runs meanwhile. What is freed in the
    usual way, as a table is once no request needs it, is freed all the same.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.freeze()
            gc.enable()
