"""The admin side of the gateway, on a socket that only its owner can open."""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from aiohttp import web
from pydantic import ValidationError

from fleet.file_formats import NewerFormatError
from runtime.gateway.authentication import digest
from runtime.gateway.current import StaleTableError
from runtime.gateway.inflight import counted
from runtime.gateway.metrics import CONTENT_TYPE
from runtime.gateway.routing import InvalidTableError
from runtime.gateway.shared import Shared
from runtime.gateway.tableparse import read_lookup
from runtime.gateway.usageserve import usage_routes

_HEALTH = "/-/healthz"
_READY = "/-/readyz"
MAX_TABLE = 256 * 2**20
"""Largest table in bytes: tens of thousands of aliases."""


class Admin:
    """Shows and takes tables, and shows what is in flight."""

    def __init__(self, shared: Shared, secret: str = "") -> None:
        """Wire up; `application` makes what is served.

        Args:
            shared: What the requests of this process share.
            secret: What callers must show; empty where only the owner can call anyway.
        """
        self._shared = shared
        self._current = shared.current
        self._secret = digest(secret) if secret else b""

    def application(self) -> web.Application:
        """Return the application for the admin socket."""
        app = web.Application(client_max_size=MAX_TABLE, middlewares=[self._guarded])
        app.router.add_get("/-/config", self._config)
        app.router.add_put("/-/config", self._take)
        app.router.add_get("/-/table", self._table)
        app.router.add_get("/-/inflight", self._count)
        app.router.add_get("/-/shares", self._show_shares)
        app.router.add_get(_HEALTH, self._health)
        app.router.add_get(_READY, self._readiness)
        app.router.add_get("/metrics", self._expose)
        app.router.add_routes(usage_routes(self._shared.log.folder))
        return app

    async def _config(self, _: web.Request) -> web.Response:
        shared, now = self._shared, asyncio.get_running_loop().time()
        health = {name: shared.replicas.health(name, now) for name in self._current.lookup.urls}
        beside = {"servers": health, "missing": shared.replicas.missing(now)}
        return web.json_response(self._current.document() | beside)

    async def _take(self, request: web.Request) -> web.Response:
        try:
            await self._current.take(await asyncio.to_thread(read_lookup, await request.read()))
        except ValidationError as error:
            kept = json.loads(error.json(include_input=False, include_url=False))
            return _refused(HTTPStatus.BAD_REQUEST, f"not a routing table: {kept}")
        except (InvalidTableError, NewerFormatError) as error:
            return _refused(HTTPStatus.BAD_REQUEST, str(error))
        except StaleTableError as error:
            return _refused(HTTPStatus.CONFLICT, str(error))
        return web.json_response(self._current.document())

    async def _table(self, _: web.Request) -> web.Response:
        return web.Response(body=self._current.lookup.text, content_type="application/json")

    async def _count(self, _: web.Request) -> web.Response:
        shared = self._shared
        queued, waiting = counted(shared.admission.queued), shared.admission.waiting
        shown = {"in_flight": shared.in_flight.document(), "waiting": waiting, "queued": queued}
        return web.json_response(shown | {"room": shared.rooms.document()})

    async def _expose(self, _: web.Request) -> web.Response:
        shared = self._shared
        now = asyncio.get_running_loop().time()
        urls = self._current.lookup.urls
        text = shared.metrics.text(
            shared.in_flight.document(),
            shared.shares.document(self._current.lookup),
            {name: shared.replicas.health(name, now) == "up" for name in urls},
            shared.admission.waiting,
        )
        return web.Response(body=text.encode(), headers={"Content-Type": CONTENT_TYPE})

    async def _show_shares(self, _: web.Request) -> web.Response:
        shares = self._shared.shares.document(self._current.lookup)
        return web.json_response({"shares": shares})

    async def _readiness(self, _: web.Request) -> web.Response:
        is_ready = self._shared.is_ready
        status = HTTPStatus.OK if is_ready else HTTPStatus.SERVICE_UNAVAILABLE
        return web.json_response({"ready": is_ready}, status=status)

    @web.middleware
    async def _guarded(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        scheme, _, shown = request.headers.get("Authorization", "").partition(" ")
        if self._secret and request.path not in {_HEALTH, _READY}:
            proved = scheme.lower() == "bearer" and digest(shown.strip()) == self._secret
            if not proved:
                answer = _refused(HTTPStatus.UNAUTHORIZED, "Show the operator's secret.")
                answer.headers["WWW-Authenticate"] = "Bearer"
                return answer
        return await handler(request)

    async def _health(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "ok", "pid": os.getpid()})


def _refused(status: HTTPStatus, reason: str) -> web.Response:
    return web.json_response({"error": {"message": reason}}, status=status)
