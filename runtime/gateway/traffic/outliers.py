"""Servers that keep failing: ejected for all clients, or for the client whose requests fail.

A client can make requests fail, and must not take a server away from the others by that. So errors
that a request can bring about put a server to rest for all once two clients have met them, and
until then for the client alone. After its rest a server gets a single request at a time, until an
answer shows that it works.
"""

from collections.abc import Container
from dataclasses import dataclass, field
from typing import Final

FIRST_EJECTION_S: Final = 1.0
"""Time for which a server that failed is chosen last; doubles with every further failure."""
MAX_EJECTION_S: Final = 30.0
MAX_CONSECUTIVE_ERRORS: Final = 3
"""Answers of 500 or above in a row after which a server is ejected; of two clients at least, where
the server has more than one."""
SILENT_S: Final = 5.0
"""Time in which a server has sent nothing, and made no token, after which a request counts as an
error: more than a step of an engine takes, less than clients wait."""
AGAIN_S: Final = 1.0
"""Further silence that counts as a further error: a single request finds a server that hangs."""
LEFT_S: Final = 2.0
"""The same for a request whose client has left: fewer wait so long in vain on a sound server."""
_ALL: Final = ""
"""Stands for all clients."""


@dataclass(slots=True)
class _Failures:
    """The failures of a server that has not worked since."""

    ejected_until: float
    errors: int = 0
    """Errors in a row."""
    clients: set[str] = field(default_factory=set)
    """Clients that met the errors."""
    ejection_s: float = 0.0
    """Length of the last ejection; 0: none yet."""
    is_tried: bool = False
    """Whether a request tries the server, once the ejection is over."""


@dataclass(slots=True)
class Outliers:
    """The servers that failed in a gateway process; a server that works leaves no trace."""

    failures: dict[tuple[str, str], _Failures] = field(default_factory=dict)
    """By server, and client or `_ALL`."""
    shared: Container[str] = frozenset()
    """Servers that the routing table gives to two clients or more."""
    _tokens: dict[str, tuple[int, float]] = field(default_factory=dict)
    """By server: tokens so far, and when that number was new."""

    def is_ejected(self, server: str, client: str, now: float) -> bool:
        """Return whether a server is chosen last for a client."""
        return self._until(server, _ALL) > now or self._until(server, client) > now

    def resting_for(self, server: str, now: float) -> list[str]:
        """Return the clients that a server rests for, and for no other, sorted."""
        failures = [*self.failures.items()]
        return sorted(
            client
            for (name, client), its in failures
            if name == server and client != _ALL and its.ejected_until > now
        )

    def eject(self, server: str, now: float, client: str = _ALL) -> float:
        """Choose a server last for a while; return until when."""
        failures = self.failures.setdefault((server, client), _Failures(now))
        failures.ejection_s = min(2 * failures.ejection_s or FIRST_EJECTION_S, MAX_EJECTION_S)
        failures.errors, failures.is_tried = 0, False
        failures.clients.clear()
        failures.ejected_until = now + failures.ejection_s
        return failures.ejected_until

    def record_error(self, server: str, now: float, client: str = _ALL) -> float | None:
        """Count an error, and by `client` if its request can have brought the error about.

        Returns until when the server is ejected, or None: no further ejection.
        """
        if client == _ALL or server not in self.shared:
            return self._count(server, now, _ALL, {_ALL}, least=1)
        own = self._count(server, now, client, {client}, least=1)
        return self._count(server, now, _ALL, {client}, least=2) or own

    def record_success(self, server: str, client: str) -> bool:
        """Forget the failures of a server that has answered properly; return whether any."""
        found = self.failures.pop((server, _ALL), None)
        return self.failures.pop((server, client), None) is not None or found is not None

    def begin_trial(self, server: str, client: str, now: float) -> float | None:
        """Note that a server gets a request; return until when no other request tries the server.

        None: the server has not been ejected.
        """
        until = None
        for name in (_ALL, client):
            failures = self.failures.get((server, name))
            if failures is not None and failures.ejection_s and failures.ejected_until <= now:
                failures.is_tried = True
                until = failures.ejected_until = now + SILENT_S
        return until

    def record_tokens(self, server: str, tokens: int, now: float) -> None:
        """Take the number of tokens that a server has read and made since its start."""
        if self._tokens.get(server, (None, now))[0] != tokens:
            self._tokens[server] = (tokens, now)

    def made_tokens_at(self, server: str) -> float:
        """Return when a server was last seen to have made tokens; 0: never."""
        return self._tokens.get(server, (0, 0.0))[1]

    def retain(self, servers: Container[str]) -> None:
        """Forget all but these servers, as `LoadBalancer.retain`."""
        for server, client in [*self.failures]:
            if server not in servers:
                self.failures.pop((server, client), None)
        for server in [*self._tokens]:
            if server not in servers:
                self._tokens.pop(server, None)

    def _until(self, server: str, client: str) -> float:
        failures = self.failures.get((server, client))
        return failures.ejected_until if failures is not None else 0.0

    def _count(
        self, server: str, now: float, name: str, clients: set[str], *, least: int
    ) -> float | None:
        """Count an error of `clients`; eject once the errors are of `least` clients."""
        failures = self.failures.setdefault((server, name), _Failures(now))
        if failures.ejected_until > now and not failures.is_tried:
            return None  # of a request from before
        failures.errors += 1
        failures.clients |= clients
        enough = least if failures.ejection_s else MAX_CONSECUTIVE_ERRORS
        if failures.errors >= enough and len(failures.clients) >= least:
            return self.eject(server, now, name)
        if failures.is_tried:  # by this request, which says little: another request may try
            failures.is_tried, failures.ejected_until = False, now
            return now
        return None
