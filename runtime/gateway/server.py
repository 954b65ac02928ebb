"""The client side of the gateway: OpenAI's paths, for each client its own aliases only.

Nothing that a client sends reaches a server but its rewritten body; nothing that a server
sends reaches a client but status, content type and body.
"""

import asyncio
import secrets
import sys
import traceback
from collections.abc import Awaitable, Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Final

import msgspec
from aiohttp import web

from runtime.gateway import refusals, rewrite
from runtime.gateway.current import Current
from runtime.gateway.inflight import InFlight
from runtime.gateway.refusals import RefusalError
from runtime.gateway.relay import relay_stream, relay_whole
from runtime.gateway.upstream import Upstream
from runtime.gateway.usage import Record, UsageLog

MAX_BODY: Final = 16 * 2**20
"""Largest request body in bytes."""
CLIENT_LEFT: Final = 499
COMPLETIONS: Final = ("/v1/chat/completions", "/v1/completions")
_JSON: Final = frozenset({"application/json", "application/octet-stream"})


class Gateway:
    """One gateway process's client side."""

    def __init__(self, current: Current, in_flight: InFlight, log: UsageLog) -> None:
        """Wire up; `application` makes what is served."""
        self._current = current
        self._in_flight = in_flight
        self._log = log
        self._upstream: Upstream | None = None

    def application(self) -> web.Application:
        """Return the application; its paths are all that clients can reach."""
        app = web.Application(client_max_size=MAX_BODY, middlewares=[_in_our_words])
        app.router.add_get("/healthz", _health)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/v1/models/{model}", self._model)
        for path in COMPLETIONS:
            app.router.add_post(path, self._complete)
        app.on_startup.append(self._open)
        app.on_cleanup.append(self._close)
        app.on_response_prepare.append(_name_no_software)
        return app

    async def _open(self, _: web.Application) -> None:
        self._upstream = Upstream(self._in_flight)

    async def _close(self, _: web.Application) -> None:
        if self._upstream is not None:
            await self._upstream.close()

    async def _models(self, request: web.Request) -> web.StreamResponse:
        lookup = self._current.lookup
        client = _authenticated(request, lookup.authenticate)
        data = [self._card(alias, client) for alias in lookup.aliases(client)]
        return _json({"object": "list", "data": data})

    async def _model(self, request: web.Request) -> web.StreamResponse:
        lookup = self._current.lookup
        client = _authenticated(request, lookup.authenticate)
        alias = request.match_info["model"]
        if alias not in lookup.aliases(client):
            raise refusals.no_such_model()
        return _json(self._card(alias, client))

    def _card(self, alias: str, client: str) -> dict[str, object]:
        created = int(self._current.loaded_at.timestamp())
        return {"id": alias, "object": "model", "created": created, "owned_by": client}

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        record = Record(self._log, request.path, self._current.lookup.revision)
        try:
            return await self._routed(request, record)
        except RefusalError as error:
            record.write(error.status)
            raise
        except (asyncio.CancelledError, ConnectionError):
            record.write(CLIENT_LEFT)
            raise
        except Exception:
            record.write(HTTPStatus.INTERNAL_SERVER_ERROR)
            raise

    async def _routed(self, request: web.Request, record: Record) -> web.StreamResponse:
        row = record.row
        row.client = _authenticated(request, self._current.lookup.authenticate)
        body = rewrite.read(await _body(request))
        lookup = self._current.lookup  # after the wait for the body; nothing waits from here on
        row.revision, row.stream = lookup.revision, body.stream
        choice = lookup.choose(row.client, body.model, _sticky(request, body))
        if choice is None:
            raise refusals.no_such_model()
        row.alias, row.version = choice.alias, choice.adapter
        sent = body.for_server(choice.adapter, choice.client)
        assert self._upstream is not None, "the application has started"
        asked = self._upstream.ask(choice, lookup.urls, request.path, sent, row.request_id)
        async with asked as reply:
            row.server = reply.server
            headers = {
                "Content-Type": reply.response.headers.get("Content-Type", "application/json"),
                "x-fleetctl-version": choice.adapter,
                "x-request-id": row.request_id,
            }
            relay = relay_stream if reply.is_stream else relay_whole
            return await relay(request, reply, headers, record)


def _authenticated(request: web.Request, authenticate: Callable[[str], str | None]) -> str:
    given = request.headers.getall("Authorization", [])
    scheme, _, secret = given[0].partition(" ") if len(given) == 1 else ("", "", "")
    client = authenticate(secret.strip()) if scheme.lower() == "bearer" else None
    if client is None:
        raise refusals.unauthorized()
    return client


async def _body(request: web.Request) -> bytes:
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise refusals.invalid("Send the request body without Content-Encoding.")
    if request.content_type not in _JSON or (request.charset or "utf-8").lower() != "utf-8":
        raise refusals.invalid("Send the request body as `application/json` in UTF-8.")
    with suppress(web.HTTPRequestEntityTooLarge):
        return await request.read()
    raise refusals.too_large(MAX_BODY)


def _sticky(request: web.Request, body: rewrite.Body) -> bytes:
    """Return what keeps a user on one version; a request that names nobody gets chance."""
    named = request.headers.get("X-Session-Id") or body.sticky
    return named.encode("utf-8", "surrogateescape") if named else secrets.token_bytes(16)


def _json(document: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(document), content_type="application/json")


async def _health(_: web.Request) -> web.StreamResponse:
    return _json({"status": "ok"})


async def _name_no_software(_: web.Request, response: web.StreamResponse) -> None:
    response.headers["Server"] = "fleetctl"


@web.middleware
async def _in_our_words(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except RefusalError as error:
        refusal = error
    except web.HTTPNotFound:
        refusal = refusals.no_such_path()
    except web.HTTPMethodNotAllowed:
        refusal = refusals.wrong_method()
    except (ConnectionError, web.HTTPException):
        raise
    except Exception:  # noqa: BLE001 (the last net: a client gets our words, the log the trace)
        traceback.print_exc(file=sys.stderr)
        refusal = refusals.failed()
    return web.Response(status=refusal.status, body=refusal.body, headers=refusal.headers)
