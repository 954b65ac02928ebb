"""Ports for servers that a test starts by their number."""

import secrets
import socket
from contextlib import suppress


def free_port() -> int:
    """Return a port that nobody listens on right now.

    It is below those that kernels give out by themselves: one of these could go to another
    test's server or to a connection before it is bound, and after its server has ended.
    """
    while True:
        port = 10_000 + secrets.randbelow(20_000)  # `random` is seeded, so others draw the same
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
