"""Guard all answers: allowed hosts, origins of writes, headers, the answer to what is not there."""

from collections.abc import Collection, Mapping
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fleet.errors import Diagnostic, problem_of
from runtime.messages import EmitMessage, FailureMessage
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
FAILED: Final = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>This page failed</title><link rel="stylesheet" href="/static/style.css">
<main><h1>This page failed</h1>
<p>{} The other pages are served. On its machine, <code>fleetctl dashboard</code> has printed more.
</p></main></html>
"""
UNREAD: Final = "FC6110"
"""Code of the error of a fleet that was never read."""


def not_found(_: Request | None = None, __: Exception | None = None) -> Response:
    """Return the answer to addresses that are missing or of others."""
    return Response(NOT_FOUND, 404, media_type="text/html; charset=utf-8")


class Guard:
    """Refuses other hosts and writes from other pages; sets headers; tells of pages that fail."""

    def __init__(self, app: ASGIApp, hosts: Collection[str], emit: EmitMessage) -> None:
        """Prepare; `emit` receives each problem of a page once, as an open page asks on and on."""
        self._app, self._hosts, self._emit = app, hosts, emit
        self._told: set[tuple[Diagnostic, ...]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers, began = Headers(scope=scope), False

        async def send_guarded(message: Message) -> None:
            nonlocal began
            if message["type"] == "http.response.start":
                began = True
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
        except ClientDisconnect:
            pass
        except Exception as error:  # noqa: BLE001 (the other pages are served)
            problems = problem_of(error).diagnostics
            if problems not in self._told:
                self._told.add(problems)
                self._emit(FailureMessage(problems))
            if not began:
                await _failed(problems[0])(scope, receive, send_guarded)


def _failed(problem: Diagnostic) -> Response:
    """Return the answer of a page that failed: a code and no facts, as it may be anybody's."""
    said = f"{problem.summary} [{problem.code}]."
    if problem.code == UNREAD:
        return Response(f"{said} On its machine: fleetctl status\n", 503, media_type="text/plain")
    return Response(FAILED.format(said), 500, media_type="text/html; charset=utf-8")
