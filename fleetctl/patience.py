"""Tells a waiting person what is being waited for."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Timer

import click


@contextmanager
def waiting(message: str, after_s: float = 1.0) -> Iterator[None]:
    """Print `message` to stderr if the block takes longer than `after_s` seconds."""
    timer = Timer(after_s, click.echo, args=(message,), kwargs={"err": True})
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
