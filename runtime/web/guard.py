"""Guard all answers: allowed hosts, origins of writes, headers, the answer to what is not there."""

from collections.abc import Collection, Mapping
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fleet.errors import FleetError
from runtime.web.access import is_same_origin

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
NOT_FOUND: Final = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Nothing here</title><link rel="stylesheet" href="/static/style.css">
<main><h1>Nothing here</h1>
<p>There is no such page for you, or your link has expired. Open the link that you were given again,
or ask for another: <code>fleetctl dashboard link</code>.</p></main></html>
"""
"""The answer to addresses that are missing or of others, byte for byte."""


def not_found(_: Request | None = None, __: Exception | None = None) -> Response:
    """Return the answer to addresses that are missing or of others."""
    return Response(NOT_FOUND, 404, media_type="text/html; charset=utf-8")


class Guard:
    """Refuses other hosts and writes from other pages; sets the headers of all answers."""

    def __init__(self, app: ASGIApp, hosts: Collection[str]) -> None:
        self._app, self._hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        read = scope["method"] in {"GET", "HEAD"}
        if headers.get("host", "").lower() not in self._hosts or not (
            read or is_same_origin(headers)
        ):
            await not_found()(scope, receive, send_guarded)
            return
        try:
            await self._app(scope, receive, send_guarded)
        except FleetError:  # there is no reading yet, so nobody can be told from another
            text = "The fleet could not be read yet. On its machine: fleetctl status\n"
            await Response(text, 503, media_type="text/plain")(scope, receive, send_guarded)
