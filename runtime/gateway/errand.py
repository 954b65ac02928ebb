"""One request's way to a server that answers: which are asked, and what is held against them."""

from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Final

from runtime.gateway import endpoints, refusals
from runtime.gateway.replicas import ATTEMPTS
from runtime.gateway.routing import Choice
from runtime.gateway.shared import Shared

RETRY_AFTER_S: Final = 2
_NONE: Final[Mapping[str, str]] = MappingProxyType({})
_NOWHERE: Final = Choice("", "", "", ())
_SERVER_ERROR: Final = int(HTTPStatus.INTERNAL_SERVER_ERROR)
_LATER: Final = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
"""What a server answers that has not begun to work on a request."""


class Errand:
    """The servers that were asked for one request, and the one that is asked now."""

    __slots__ = (
        "_is_copy", "_is_retry", "_now", "_resent", "_server", "_shared", "_tried", "_urls",
        "choice",
    )  # fmt: skip

    def __init__(self, shared: Shared) -> None:
        """Begin with none."""
        self._shared = shared
        self._urls: Mapping[str, str] = _NONE
        """Of the table that the request began with; to keep all of it would keep it in memory."""
        self._now = 0.0
        self._server = ""
        self._is_copy = False
        """Whether it is the shadow of a request."""
        self._is_retry = False
        """Whether it counts towards the budget of those that are asked anew."""
        self._tried: tuple[str, ...] = ()
        self._resent = 0
        self.choice = _NOWHERE
        """The version that answers."""

    def seek(self) -> str:
        """Return the base URL of the server to ask; the request counts as in flight on it.

        Raises:
            RefusalError: 503, all that hold the version were passed over.
        """
        if not self._server:
            self._enter()
        if not self._server:
            raise refusals.unavailable(RETRY_AFTER_S)
        return self._urls[self._server]

    def unreached(self, now: float) -> None:
        """The server could not be reached: it has not seen the request.

        To ask another one is no retry, for it is no more load than the one request.
        """
        self._shared.replicas.failed(self._server, now)
        self._pass_over(now)

    def goes_on(self, status: int) -> bool:
        """Say whether, after an answer of this status, another server is to be asked."""
        if status not in _LATER or len(self._tried) + 1 >= ATTEMPTS:
            return False
        asked = (*self._tried, self._server)
        return any(each not in asked for each in self.choice.servers) and self._retries()

    def resends(self) -> bool:
        """Say whether the same server is to be asked anew, once, on another connection.

        The one before had been kept open and ended before a byte of the answer: most likely the
        server closed it just when the request was on its way, and it may have read the request.
        """
        if self._resent or not self._retries():
            return False
        self._resent = 1
        return True

    @property
    def _retried(self) -> int:
        """How often a server was asked before."""
        return len(self._tried) + self._resent

    def turned_away(self, status: int, now: float) -> None:
        """The server has not begun: it has too much to do, or (503) is not able to."""
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            self._shared.replicas.erred(self._server, now)
        self._pass_over(now)

    def not_found(self, body: bytes, now: float) -> None:
        """The server answers 404: it has lost the version, or does not serve the path.

        Raises:
            RefusalError: 404, it does not serve the path; no server would. 503, too many
                requests are asked anew already.
        """
        if body == endpoints.NOT_SERVED:
            raise refusals.not_served()
        self._shared.replicas.lost(self._server, self.choice.adapter, now)
        may = self._retries()
        self._pass_over(now)
        if not may:
            raise refusals.unavailable(RETRY_AFTER_S)

    def _retries(self) -> bool:
        """Say whether the budget allows that it is asked anew; once for all servers after."""
        self._is_retry = self._is_retry or self._shared.retries.take()
        return self._is_retry

    def _enter(self) -> None:
        """Choose a server and count as in flight on it."""
        choice, shared = self.choice, self._shared
        most = choice.policy.server_in_flight
        server = shared.replicas.pick(choice.servers, choice.adapter, self._tried, self._now, most)
        if server:
            self._server = server
            shared.in_flight.enter(server, choice.adapter, is_copy=self._is_copy)

    def _pass_over(self, now: float) -> None:
        self._now = now
        self._tried = (*self._tried, self._server)
        self._leave_server()
        self._shared.admission.freed()

    def _end_retry(self) -> None:
        if self._is_retry:
            self._is_retry = False
            self._shared.retries.give_back()

    def _judge_server(self, status: int) -> None:
        if self._server:
            if status >= _SERVER_ERROR:
                self._shared.replicas.erred(self._server, self._now)
            else:
                self._shared.replicas.worked(self._server, self.choice.adapter)

    def _leave_server(self) -> None:
        if self._server:
            server, self._server = self._server, ""
            adapter = self.choice.adapter
            self._shared.in_flight.leave(server, adapter, is_copy=self._is_copy)
