"""Ports for servers that a test starts by their number."""

import os
import secrets
import socket
from collections import deque
from contextlib import suppress
from typing import Final

from fleet.hardware import PORT_STRIDE

WORKERS = 8
"""Upper bound of workers with ports of their own; more share."""
FIRST, SIZE = 10_000, 20_000 // WORKERS
_given: set[int] = set()
_recent: Final[deque[int]] = deque(maxlen=60)
"""Ports given last, modulo the distance of a host's further servers: a host looks for its servers
at these distances, too, and would find those of another test's host."""


def two_free_ports() -> int:
    """Return the first of two neighbours that are as `free_port`."""
    while True:
        first = free_port()
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", first + 1))
            if first + 1 not in _given:
                _given.add(first + 1)
                return first


def free_port() -> int:
    """Return a port that nobody listens on right now, and that was not returned before.

    It is below those that kernels give out by themselves: one of these could go to another
    test's server or to a connection before it is bound, and after its server has ended. Workers
    of one run draw from ranges of their own.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % WORKERS
    while True:
        # `random` is seeded, so others draw the same.
        port = FIRST + worker * SIZE + secrets.randbelow(SIZE)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in _given and port % PORT_STRIDE not in _recent:
                _given.add(port)
                _recent.append(port % PORT_STRIDE)
                return port
