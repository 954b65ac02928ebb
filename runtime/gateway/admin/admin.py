"""The admin API of a gateway: the table, what is in flight, and the usage log.

A reader on another machine keeps a copy of each segment of the usage log and asks for what lies
beyond the copy's end.
"""

import asyncio
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from fleet.environment import secret_mark
from fleet.errors import NewerFormatError
from runtime.gateway.request.state import GatewayState, StaleTableError
from runtime.gateway.table.routing import digest
from runtime.gateway.table.table import RoutingTable
from runtime.gateway.table.table_loader import InvalidTableError, parse_routes
from runtime.gateway.traffic.accounting import CONTENT_TYPE, exposition
from runtime.gateway.traffic.concurrency import counts_document
from runtime.gateway.traffic.limits import MonthFigures
from runtime.usage.log import USAGE_PATH, gateway_segments

MAX_TABLE: Final = 256 * 2**20
"""Upper bound of a table, in bytes: tens of thousands of aliases."""
MAX_USAGE_PART: Final = 2**20
"""Upper bound of usage rows in an answer, in bytes; a larger answer would hold up requests."""
MAX_LEAD_S: Final = 600.0
"""Upper bound of the wait before a restart, in seconds."""
_SHOWN_CLIENTS: Final = 5
"""Upper bound of the clients that are named beside a server."""
_HEALTH: Final = "/-/healthz"
_READY: Final = "/-/readyz"
_OFFSET: Final = re.compile(r"[0-9]{1,18}")
_OPEN: Final = frozenset({_HEALTH, _READY})
"""Paths that need no secret."""


@dataclass(frozen=True, slots=True)
class Admin:
    """Shows and accepts routing tables, shows requests in flight, metrics and the usage log."""

    _state: GatewayState
    _secret: str = ""
    """The operator's; empty where the socket is the owner's alone."""
    _keep: Callable[[RoutingTable, str], None] | None = None
    """Writes the served table, and the id of its fleet, for the next start; None: the publisher has
    written the table."""
    _restart: asyncio.Event | None = None
    """Set to start anew; None: the process cannot."""

    def application(self) -> ASGIApp:
        """Return the ASGI application."""
        routes = [
            Route("/-/config", self._get_config),
            Route("/-/config", self._put_config, methods=["PUT"]),
            Route("/-/table", self._get_table),
            Route("/-/loaded", self._post_loaded, methods=["POST"]),
            Route("/-/restart", self._post_restart, methods=["POST"]),
            Route("/-/month", self._put_month, methods=["PUT"]),
            Route("/-/inflight", self._get_in_flight),
            Route("/-/shares", self._get_shares),
            Route(_HEALTH, self._get_health),
            Route(_READY, self._get_readiness),
            Route("/metrics", self._get_metrics),
            Route(USAGE_PATH, self._list_usage),
            Route(USAGE_PATH + "/{key}", self._get_usage),
        ]
        guard = Middleware(_SecretGuard, secret=digest(self._secret))
        return Starlette(routes=routes, middleware=[guard] if self._secret else [])

    async def _get_config(self, _: Request) -> Response:
        state, now = self._state, asyncio.get_running_loop().time()
        health = {name: _shown_health(state, name, now) for name in state.active.routes.urls}
        shown = {"servers": health, "missing": state.balancer.missing(now)}
        keys = state.server_keys
        state.log.try_write()  # a disk may have become full since the last request
        shown |= {
            "refusing": state.log.refusal,
            "unlogged": state.counters.refusals.by_client(),
            "servers_secret": secret_mark(keys.secret),
            "server_keys": {name: secret_mark(key) for name, (_, key) in keys.attached.items()},
            "fleet_id": state.fleet_id,
        }
        return JSONResponse(self._state.active.document() | shown)

    async def _put_config(self, request: Request) -> Response:
        body = await _read_body(request)
        if body is None:
            return _error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"above {MAX_TABLE} bytes")
        fleet, served = request.query_params.get("fleet", ""), self._state.fleet_id
        if reason := self._other_fleet(fleet, "this table is"):
            return _error(HTTPStatus.CONFLICT, reason)
        try:
            keys = self._state.server_keys
            await self._state.active.apply(await asyncio.to_thread(parse_routes, body, keys))
        except ValidationError as error:
            details = json.loads(error.json(include_input=False, include_url=False))
            return _error(HTTPStatus.BAD_REQUEST, f"not a routing table: {details}")
        except (InvalidTableError, NewerFormatError) as error:
            return _error(HTTPStatus.BAD_REQUEST, str(error))
        except StaleTableError as error:
            return _error(HTTPStatus.CONFLICT, str(error))
        self._state.fleet_id = served or fleet
        if self._keep is not None:
            table = RoutingTable.model_validate_json(body)
            await asyncio.to_thread(self._keep, table, self._state.fleet_id)
        return JSONResponse(self._state.active.document())

    async def _get_table(self, _: Request) -> Response:
        return Response(self._state.active.routes.text, media_type="application/json")

    async def _post_loaded(self, request: Request) -> Response:
        try:
            pair = json.loads(await _read_body(request) or b"")
            self._state.balancer.forget_missing(str(pair["server"]), str(pair["adapter"]))
        except (ValueError, KeyError, TypeError):
            return _error(HTTPStatus.BAD_REQUEST, "Name a server and an adapter.")
        return JSONResponse({})

    def _other_fleet(self, fleet: str, what: str) -> str:
        """Return why a document of another fleet is refused; empty: the fleet is the same."""
        served = self._state.fleet_id
        if not fleet or not served or fleet == served:
            return ""
        return f"serves the fleet of id {served}, and {what} of the fleet of id {fleet}"

    async def _put_month(self, request: Request) -> Response:
        reason = self._other_fleet(request.query_params.get("fleet", ""), "these figures are")
        if reason:
            return _error(HTTPStatus.CONFLICT, reason)
        try:
            figures = MonthFigures.model_validate_json(await _read_body(request) or b"")
        except ValidationError:
            return _error(HTTPStatus.BAD_REQUEST, "Not figures of a month.")
        try:
            self._state.month.replace(figures)
        except OSError as error:
            return _error(HTTPStatus.INSUFFICIENT_STORAGE, f"not kept: {error}")
        return JSONResponse({})

    async def _post_restart(self, request: Request) -> Response:
        """Turn readiness off, and start anew after `after_s` seconds and the running requests."""
        restart = self._restart
        try:
            after_s = float(json.loads(await _read_body(request) or b"")["after_s"])
        except (ValueError, KeyError, TypeError):
            after_s = -1.0
        if not 0 <= after_s <= MAX_LEAD_S:
            return _error(HTTPStatus.BAD_REQUEST, f"`after_s`: seconds, {MAX_LEAD_S:g} at most.")
        if restart is None:
            return _error(HTTPStatus.CONFLICT, "This gateway is no process of its own.")
        self._state.ready.clear()
        asyncio.get_running_loop().call_later(after_s, restart.set)
        return JSONResponse({"boot": self._state.boot}, HTTPStatus.ACCEPTED)

    async def _get_in_flight(self, _: Request) -> Response:
        state = self._state
        return JSONResponse(
            {
                "in_flight": counts_document(state.in_flight.versions),
                "waiting": state.admission.waiting,
                "queued": counts_document(state.admission.queued),
                "room": state.limiter.document(),
            }
        )

    async def _get_shares(self, _: Request) -> Response:
        return JSONResponse({"shares": self._state.split.document(self._state.active.routes)})

    async def _get_metrics(self, _: Request) -> Response:
        state, now = self._state, asyncio.get_running_loop().time()
        state.counters.expire(state.active.routes, now)
        text = exposition(
            state.counters,
            state.in_flight.versions,
            state.split.document(self._state.active.routes),
            {s: state.balancer.health(s, now) == "up" for s in self._state.active.routes.urls},
            state.admission.waiting,
        )
        return Response(text.encode(), headers={"Content-Type": CONTENT_TYPE})

    async def _get_health(self, _: Request) -> Response:
        return JSONResponse({"status": "ok", "pid": os.getpid(), "boot": self._state.boot})

    async def _get_readiness(self, _: Request) -> Response:
        is_ready = self._state.is_ready
        status = HTTPStatus.OK if is_ready else HTTPStatus.SERVICE_UNAVAILABLE
        return JSONResponse({"ready": is_ready}, status)

    async def _list_usage(self, _: Request) -> Response:
        files = await asyncio.to_thread(_list_segments, self._state.log.folder)
        clock = datetime.now(UTC).isoformat(timespec="milliseconds")
        return JSONResponse({"time": clock, "files": files})

    async def _get_usage(self, request: Request) -> Response:
        start = request.query_params.get("from", "0")
        if not _OFFSET.fullmatch(start):
            return _error(HTTPStatus.BAD_REQUEST, "`from` is a number of bytes, 0 or more.")
        key = request.path_params["key"]
        rows = await asyncio.to_thread(_read_segment, self._state.log.folder, key, int(start))
        if rows is None:
            return _error(HTTPStatus.NOT_FOUND, "There is no such usage log.")
        return Response(rows, media_type="application/x-ndjson")


def _shown_health(state: GatewayState, server: str, now: float) -> str:
    """Return the health of a server; `resting for …`: for these clients alone, others see `up`."""
    health = state.balancer.health(server, now)
    clients = state.balancer.outliers.resting_for(server, now)
    if health != "up" or not clients:
        return health
    more = f" and {len(clients) - _SHOWN_CLIENTS} more" if len(clients) > _SHOWN_CLIENTS else ""
    return f"resting for {', '.join(clients[:_SHOWN_CLIENTS])}{more}"


@dataclass(frozen=True, slots=True)
class _SecretGuard:
    """Answers 401 to a request without the secret; `secret` is the SHA-256."""

    app: ASGIApp
    secret: bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        header = next((v for name, v in scope["headers"] if name == b"authorization"), b"")
        scheme, _, shown = header.decode("utf-8", "surrogateescape").partition(" ")
        is_operator = scheme.lower() == "bearer" and digest(shown.strip()) == self.secret
        if is_operator or scope["path"] in _OPEN:
            await self.app(scope, receive, send)
            return
        answer = _error(HTTPStatus.UNAUTHORIZED, "Show the operator's secret.")
        answer.headers["WWW-Authenticate"] = "Bearer"
        await answer(scope, receive, send)


async def _read_body(request: Request) -> bytes | None:
    """Return the body of a request; None: the body exceeds `MAX_TABLE`."""
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_TABLE:
            return None
        chunks.append(chunk)
    return b"".join(chunks)


def _list_segments(folder: Path) -> list[dict[str, Any]]:
    files = []
    for segment in gateway_segments(folder):
        written = datetime.fromtimestamp(segment.path.stat().st_mtime, UTC)
        files.append({"key": segment.key, "size": segment.end, "written": written.isoformat()})
    return files


def _read_segment(folder: Path, key: str, start: int) -> bytes | None:
    """Return whole rows of a segment from an offset on; None: there is no such segment."""
    for segment in gateway_segments(folder):
        if segment.key == key:
            return segment.read_rows(start, MAX_USAGE_PART)
    return None


def _error(status: HTTPStatus, reason: str) -> JSONResponse:
    return JSONResponse({"error": {"message": reason}}, status)
