"""Times for which connections wait, seconds."""

from typing import Final

STALE_S: Final = 0.25
"""Longest time until a connection shows that the server had closed the connection already. A server
that closes later may have worked on the request, which then is not sent again."""
SUSPECT_S: Final = 1.0
"""Silence of a server after which the server is asked whether tokens are made."""
CONNECT_S: Final = 2.0
"""For a server to take a connection."""
VERIFY_S: Final = 15.0
"""For a server to list its models on a new connection, before the first request is sent there. A
step of an engine on a CPU can keep its API waiting for seconds."""
POOL_IDLE_S: Final = 3.0
"""Longest idle time of a connection to a server: vLLM closes after 5 s, and a request must not meet
that moment."""
CLIENT_UNREAD_S: Final = 600.0
"""Longest silence of a client that has not read its answer yet."""
CLIENT_IDLE_S: Final = 75.0
"""Longest wait for a client's next request."""
SWEEP_S: Final = 2.5
"""Interval at which the times of clients' connections are checked."""
HEAD_S: Final = 10.0
"""For the head of a request to arrive, from its first byte."""
READ_S: Final = 300.0
"""For a request to arrive whole."""
LINGER_S: Final = 2.0
"""For a client to read an answer that came before its request was complete."""
GRACE_S: Final = 30.0
"""For running requests to finish once the gateway is told to stop."""
