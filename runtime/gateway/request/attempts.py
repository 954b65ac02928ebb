"""The servers that are tried for a request, until a server responds."""

import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

import msgspec

from runtime.gateway.body import errors
from runtime.gateway.body.endpoints import NOT_SERVED
from runtime.gateway.request.state import GatewayState
from runtime.gateway.table.routing import RouteTarget
from runtime.gateway.traffic.balancer import MAX_ATTEMPTS
from runtime.gateway.traffic.outliers import AGAIN_S, LEFT_S, SILENT_S
from runtime.usage.row import UsageRow

_SERVER_ERROR: Final = int(HTTPStatus.INTERNAL_SERVER_ERROR)
_NOT_BEGUN: Final = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
"""Statuses of a server that has not begun to work on a request."""


class UpstreamAttempts(msgspec.Struct, eq=False):
    """The servers that were tried for a request, and the server that has the request now.

    Another server is tried only where the last server was not reached, had not begun (429, 503) or
    lacks the version. The retry budget bounds the last two.
    """

    _state: GatewayState
    _target: RouteTarget
    _urls: Mapping[str, str]
    """Servers of the table that the request began with; the table itself would stay in memory for
    as long as the request."""
    _now: float
    """The event loop's time, seconds."""
    _user: bytes = b""
    """The user or session that keeps to a server; empty: the request names none."""
    _is_shadow: bool = False
    _is_retry: bool = False
    """Whether the request counts towards the retry budget."""
    is_judged: bool = True
    """Whether answers and silence of a server tell how its engine is."""
    has_resent: bool = False
    _silent_s: float = 0.0
    """Silence of the server that has counted as an error, in seconds."""
    _tried: tuple[str, ...] = ()
    server: str = ""
    """The server that has the request; empty: none has."""
    url: str = ""
    retries: int = 0

    def acquire_free(self) -> bool:
        """Choose a server below its limit; return whether there is one."""
        server = self._state.balancer.acquire_free(self._target, self._now, self._user)
        if not server:
            return False
        self.server, self.url = server, self._urls[server]
        return True

    def acquire(self) -> None:
        """Choose a server, busy or not, and count the request on the server."""
        server = self._state.balancer.acquire(
            self._target, self._tried, self._now, self._user, is_shadow=self._is_shadow
        )
        if server:
            self.server, self.url = server, self._urls[server]

    def next_url(self) -> str:
        """Return the base URL of the next server, on which the request counts, or refuse (503)."""
        if not self.server:
            self.acquire()
        if not self.server:
            raise errors.no_server()
        return self.url

    def on_unreachable(self, now: float) -> None:
        """Pass over a server that has not begun: no connection, or the gateway's key refused.

        The next server is no retry, for all servers together get no more than one request.
        """
        self._state.balancer.eject(self.server, now)
        self._pass_over(now)

    def should_retry(self, status: int) -> bool:
        """Return whether, after an answer of this status, another server is to be tried."""
        if status not in _NOT_BEGUN or len(self._tried) + 1 >= MAX_ATTEMPTS:
            return False
        tried = (*self._tried, self.server)
        return any(server not in tried for server in self._target.servers) and self._may_retry()

    def should_resend(self) -> bool:
        """Return whether the same server is to get the request again, once, on a new connection.

        The last connection had been kept open and ended before a byte of the answer: most likely
        the server closed it just when the request was on its way, and may have read the request.
        """
        if self.has_resent or not self._may_retry():
            return False
        self.has_resent = True
        self.retries += 1
        return True

    def on_overloaded(self, status: int, now: float) -> None:
        """Pass over a server that is too busy to begin or, with 503, not able to."""
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            self._state.balancer.record_error(self.server, now)
        self._pass_over(now)

    def on_not_found(self, body: bytes, now: float) -> None:
        """Pass over a server that lacks the version, by its 404.

        Raises:
            ApiError: 404, the server does not serve the path, nor would another. 503, the retry
                budget is used up.
        """
        if body == NOT_SERVED:
            raise errors.not_served()
        self._state.balancer.record_missing(self.server, self._target.adapter, now)
        may_retry = self._may_retry()
        self._pass_over(now)
        if not may_retry:
            raise errors.no_server()

    def on_silence(self, silent_s: float, *, has_left: bool = False) -> None:
        """Count the silence of a server as an error, and every second more as a further error.

        Unless the server makes tokens. `silent_s`: the time in which no client has had a part of an
        answer from the server. `has_left`: the client has left, perhaps for a reason of its own.
        """
        state, server = self._state, self.server
        longest_s = self._silent_s + AGAIN_S if self._silent_s else SILENT_S
        if has_left:
            longest_s = LEFT_S
        if not server or silent_s <= 0 or not self.is_judged:
            return
        state.limiter.probe(server)
        balancer, now = state.balancer, time.monotonic()
        if min(silent_s, now - balancer.outliers.made_tokens_at(server)) >= longest_s:
            self._silent_s = silent_s
            balancer.record_error(server, now, self._target.client if has_left else "")

    def on_leave(self, silent_s: float) -> None:
        """Count the silence of a server that made its client leave, as `on_silence`."""
        self.on_silence(silent_s, has_left=True)

    def finish(self, status: int | None, row: UsageRow) -> None:
        """Count the request no longer; `status` judges the server, None: there was no response.

        `row` gets the server that has the request, though there may have been no response.
        """
        row.retries = self.retries
        if self.server:
            row.server = self.server
            server, self.server, self.url = self.server, "", ""
            state, adapter, client = self._state, self._target.adapter, self._target.client
            if not self.is_judged:
                status = None
            if status is not None and status >= _SERVER_ERROR:
                state.balancer.record_error(server, time.monotonic(), client)
            elif status is not None:
                state.balancer.record_success(server, adapter, client)
            state.in_flight.remove(server, adapter, client, is_shadow=self._is_shadow)
        if self._is_retry:
            self._is_retry = False
            self._state.retry_budget.release()

    def for_shadow(self, target: RouteTarget) -> "UpstreamAttempts":
        """Return the attempts of a shadow request, on the table that this request began with."""
        return UpstreamAttempts(self._state, target, self._urls, self._now, _is_shadow=True)

    def _may_retry(self) -> bool:
        """Return whether the retry budget allows a retry, and from then on all of the request's."""
        self._is_retry = self._is_retry or self._state.retry_budget.acquire()
        return self._is_retry

    def _pass_over(self, now: float) -> None:
        self._now = now
        self._tried = (*self._tried, self.server)
        self.retries += 1
        server, self.server, self.url = self.server, "", ""
        adapter, client = self._target.adapter, self._target.client
        self._state.in_flight.remove(server, adapter, client, is_shadow=self._is_shadow)
        if self._state.admission.queues:
            self._state.admission.serve_waiting()
