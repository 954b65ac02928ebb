"""How long a transport waits."""

from typing import Final

STALE_S: Final = 0.25
"""A connection that was closed while a request was on its way shows it within this time. Later
the server may have worked on the request, which then is not sent again."""
CONNECT_S: Final = 2.0
"""For a server to take a connection."""
IDLE_S: Final = 600.0
"""Longest silence of a server while it generates."""
KEEP_ALIVE_S: Final = 3.0
"""vLLM closes idle connections after 5 s; a request must not meet that moment."""
CLIENT_IDLE_S: Final = 75.0
"""For a client's next request on its connection, and for each part of one."""
SWEEP_S: Final = 2.5
"""How often clients' connections are looked at."""
HEAD_S: Final = 10.0
"""For the head of a request to arrive whole, from its first byte."""
READ_S: Final = 300.0
"""For a request to arrive whole."""
LINGER_S: Final = 2.0
"""For a client to read an answer that came before it had sent all of its request."""
GRACE_S: Final = 30.0
"""For running requests to finish once the gateway is told to stop."""
