"""The admin side of the gateway, on a socket that only its owner can open."""

import json
import os
from http import HTTPStatus

from aiohttp import web
from pydantic import ValidationError

from runtime.gateway.current import Current, StaleTableError
from runtime.gateway.inflight import InFlight
from runtime.gateway.metrics import CONTENT_TYPE, Metrics
from runtime.gateway.routing import InvalidTableError
from runtime.gateway.table import RoutingTable

MAX_TABLE = 256 * 2**20
"""Largest table in bytes: tens of thousands of aliases."""


class Admin:
    """Shows and takes tables, and shows what is in flight."""

    def __init__(self, current: Current, in_flight: InFlight, metrics: Metrics) -> None:
        """Wire up; `application` makes what is served."""
        self._current = current
        self._metrics = metrics
        self._in_flight = in_flight

    def application(self) -> web.Application:
        """Return the application for the admin socket."""
        app = web.Application(client_max_size=MAX_TABLE)
        app.router.add_get("/-/config", self._config)
        app.router.add_put("/-/config", self._take)
        app.router.add_get("/-/table", self._table)
        app.router.add_get("/-/inflight", self._count)
        app.router.add_get("/-/healthz", self._health)
        app.router.add_get("/metrics", self._expose)
        return app

    async def _config(self, _: web.Request) -> web.Response:
        return web.json_response(self._current.document())

    async def _take(self, request: web.Request) -> web.Response:
        try:
            await self._current.take(RoutingTable.model_validate_json(await request.read()))
        except ValidationError as error:
            kept = json.loads(error.json(include_input=False, include_url=False))
            return _refused(HTTPStatus.BAD_REQUEST, f"not a routing table: {kept}")
        except InvalidTableError as error:
            return _refused(HTTPStatus.BAD_REQUEST, str(error))
        except StaleTableError as error:
            return _refused(HTTPStatus.CONFLICT, str(error))
        return web.json_response(self._current.document())

    async def _table(self, _: web.Request) -> web.Response:
        text = self._current.lookup.table.canonical()
        return web.Response(text=text, content_type="application/json")

    async def _count(self, _: web.Request) -> web.Response:
        return web.json_response({"in_flight": self._in_flight.document()})

    async def _expose(self, _: web.Request) -> web.Response:
        text = self._metrics.text(self._in_flight.document())
        return web.Response(body=text.encode(), headers={"Content-Type": CONTENT_TYPE})

    async def _health(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "ok", "pid": os.getpid()})


def _refused(status: HTTPStatus, reason: str) -> web.Response:
    return web.json_response({"error": {"message": reason}}, status=status)
