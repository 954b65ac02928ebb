"""Holds the bounds, lengths and errors of a start, which engines share."""

from typing import Final

from fleet.errors import EngineError, EngineTimedOutError
from fleet.resources import Server, ServerFlags

START_TIMEOUT_S: Final = 1800.0
"""Upper bound of the start of a server: a large base on a slow disk. Raise it for larger bases."""
LAUNCH_LENGTH: Final = 12
"""Hex digits of a launch's mark that a server is stamped with."""


def flags_of(server: Server) -> ServerFlags:
    """Return the flags of a server that is to be started.

    Raises:
        EngineError: FC4015, there are none.
    """
    if server.flags is None:
        detail = f"The plan starts `{server.name}` and gives no flags for it."
        command = "fleetctl plan --out plan.json"
        raise EngineError.of("FC4015", "A server without flags", detail, command=command)
    return server.flags


def not_ready(server: str, waited_s: float) -> EngineTimedOutError:
    """Return the error FC4019 of a server that runs and does not answer."""
    return EngineTimedOutError.of(
        "FC4019",
        "A server does not become ready",
        f"`{server}` runs and does not answer after {waited_s:.0f} s.",
        hint="The log shows the reason; the server is left running.",
        command=f"fleetctl server logs {server}",
    )
