"""Decide access: signed tokens, revocations, hosts, origins of writes, and guards of requests."""

import secrets
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

from itsdangerous import BadData, URLSafeSerializer
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as Connection

from fleet.errors import Diagnostic, FleetError, problem_of
from fleet.history import DashboardRevoked, Entry
from fleet.usage import OfClient, Operator, Scope
from runtime.messages import EmitMessage, FailureMessage
from runtime.secrets import read_or_make_secret

KEY_FILE: Final = "dashboard.key"
"""File of the state folder with the key that signs links, sessions and tokens."""
TokenKind = Literal["link", "session", "token"]
"""`link`: opens a session. `session`: in a cookie. `token`: a bearer's, for JSON and CSV alone."""
LINK_S: Final = 600
"""Time for which an operator's link opens a session, once. Seconds."""
MOST_NAME: Final = 200
"""Upper bound of the characters of a person's name from a header."""
SESSION_S: Final = 12 * 3600
"""Time for which an operator's session lasts. Seconds."""


@dataclass(frozen=True, slots=True)
class Grant:
    """The content of a token: who may see what, until when."""

    scope: Scope
    by: str
    """The person or program that the token was made for; author of its writes in the ledger."""
    until: datetime
    generation: int = 0
    """Number of revocations of the scope when the token was made."""
    nonce: str = field(default_factory=lambda: secrets.token_hex(8))


@dataclass(frozen=True, slots=True)
class TrustedProxy:
    """A proxy that lets operators alone through, and names the person in a header."""

    header: str
    address: str
    """Address from which the proxy connects; the header counts from there alone."""

    def person_of(self, request: HTTPConnection) -> str:
        """Return the person of a request; empty: of another sender, or not named exactly once."""
        names, peer = request.headers.getlist(self.header), request.client
        is_trusted = peer is not None and peer.host == self.address and len(names) == 1
        return names[0][:MOST_NAME] if is_trusted else ""


def signing_key(state_dir: Path) -> bytes:
    """Return the key of the state folder, made on first use; or raise FC6112."""
    path = state_dir / KEY_FILE
    key = read_or_make_secret(path)
    if not key:  # anybody could sign with an empty key
        raise FleetError.of(
            "FC6112",
            "The dashboard's key cannot be read",
            f"`{path}` is empty or no text, so nothing can be signed or opened.",
            hint="Remove it: the next start makes another one, and all links given out end.",
        )
    return key.encode()


def subject_of(scope: Scope) -> str:
    """Return the client of a scope; empty: operators."""
    return scope.name if isinstance(scope, OfClient) else ""


def revocations(entries: Iterable[Entry]) -> Mapping[str, int]:
    """Return how often tokens were revoked, by client; the empty name stands for operators."""
    events = (entry.event for entry in entries)
    return Counter(event.client for event in events if isinstance(event, DashboardRevoked))


@dataclass(frozen=True, slots=True)
class TokenSigner:
    """Makes and reads tokens; a token of one kind is none of another."""

    key: bytes

    def make(self, kind: TokenKind, grant: Grant) -> str:
        """Return a token."""
        text: str = self._serializer(kind).dumps(
            {
                "client": subject_of(grant.scope),
                "by": grant.by,
                "until": int(grant.until.timestamp()),
                "generation": grant.generation,
                "nonce": grant.nonce,
            }
        )
        return text

    def read(
        self, kind: TokenKind, token: str, now: datetime, revoked: Mapping[str, int]
    ) -> Grant | None:
        """Return the grant of a token; None: forged, expired, revoked, of another kind."""
        serializer = self._serializer(kind)
        try:
            data = serializer.loads(token)
        except BadData:
            return None
        if serializer.dumps(data) != token:  # base64's last character has bits that nobody reads
            return None
        client = data["client"]
        until = datetime.fromtimestamp(data["until"], UTC)
        if until <= now or data["generation"] != revoked.get(client, 0):
            return None
        scope = OfClient(client) if client else Operator()
        return Grant(scope, data["by"], until, data["generation"], data["nonce"])

    def _serializer(self, kind: TokenKind) -> URLSafeSerializer:
        return URLSafeSerializer(self.key, salt=f"fleetctl-dashboard-{kind}")


def allowed_hosts(listen: str, url: str) -> frozenset[str]:
    """Return the values of `Host` that are answered: names of this machine, and of the public URL.

    Others are refused, as a page elsewhere may resolve its own name to this address.
    """
    host, _, port = listen.rpartition(":")
    local = {"localhost", "127.0.0.1", "[::1]"} if is_loopback(listen) else {host}
    return frozenset({f"{name}:{port}" for name in local} | {urlsplit(url).netloc.lower()} - {""})


def is_loopback(listen: str) -> bool:
    """Say whether an address `host:port` can be reached from this machine alone."""
    host = listen.rpartition(":")[0].strip("[]")
    return host in {"localhost", "::1"} or host.startswith("127.")


def is_same_origin(headers: Mapping[str, str]) -> bool:
    """Say whether a page of ours sent a write: by `Sec-Fetch-Site`, else by `Origin`.

    A write with neither is refused: browsers send one, and programs use the command line.
    """
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc.lower() == headers.get("host", "").lower()


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

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
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
