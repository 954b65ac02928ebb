"""How many requests may be asked anew elsewhere at a time: servers in trouble get no more load."""

from collections.abc import Mapping
from typing import Final

SHARE: Final = 0.1
"""Most requests that are on their second or third server, as part of all in flight."""
LEAST: Final = 3
"""So many are allowed however few are in flight."""


class Retries:
    """The budget of one gateway process."""

    __slots__ = ("_in_flight", "working")

    def __init__(self, in_flight: Mapping[str, int]) -> None:
        """Begin with none; `in_flight` counts requests by server."""
        self._in_flight = in_flight
        self.working = 0
        """Requests that were asked anew and have not ended."""

    def take(self) -> bool:
        """Say whether one more request may be asked anew, and count it."""
        if self.working >= max(LEAST, int(SHARE * sum(self._in_flight.values()))):
            return False
        self.working += 1
        return True

    def give_back(self) -> None:
        """Count one less."""
        self.working -= 1
