"""JSON over HTTP for the control plane; sources of versions alone use httpx beside it.

Every failure is an `EngineError` with a diagnostic, never the HTTP library's own error. Requests of
clients never pass here. A network host beyond this machine is contacted only where the operator
trusts the host (`runtime.trust`); a redirect is never followed, and no answer is read beyond
`MAX_BODY`.
"""

import asyncio
import importlib.util
import ssl
import sys
from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final, Self

import httpx

from fleet.errors import EngineRejectedError, EngineTimedOutError, EngineUnreachableError, problem
from runtime.server_tls import TlsToServer, tls_fault
from runtime.trust import require_contact

READ_ATTEMPTS = 3
MAX_BODY: Final = 96 << 20
"""Upper bound of an answer's body, which is never compressed. Bytes."""
SERVER_KEYS: Final[dict[str, str]] = {}
"""Keys of the fleet's own servers by base URL: every request there carries its key."""
SERVER_TLS: Final[dict[str, TlsToServer]] = {}
"""TLS to servers that declare files for TLS, by base URL."""
_BACKOFF_S = 0.05
_CONNECTIONS, _KEPT = 16, 1
"""Most connections, and most without a request: a look at 10,000 servers keeps one open to each."""
_IDLE_S = 2.0
"""Time without a request after which a connection is closed: vLLM closes its own after 5 seconds,
and a request that goes out at that moment is lost."""
_LONGEST_DETAIL, _LONGEST_TYPE = 600, 60

if importlib.util.find_spec("sniffio") is None:
    # httpcore looks for sniffio with every request; a search of all paths takes 0.5 ms.
    sys.modules["sniffio"] = None  # type: ignore[assignment]


@cache
def _tls() -> ssl.SSLContext:
    """Loading the certificates takes 20 ms; once is enough."""
    return ssl.create_default_context()


@cache
def _no_tls() -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class JsonClient:
    """Client of a server or a gateway.

    Reads (`get`) are repeated on a broken connection, within their deadline. Nothing else
    is: whether to repeat a call that has effects is the caller's decision.
    """

    def __init__(
        self,
        url: str,
        *,
        peer: str = "",
        socket: Path | None = None,
        app: Any = None,
        timeout_s: float = 5.0,
        headers: Mapping[str, str] | None = None,
        forward: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Prepare; nothing is sent.

        `url`: base URL; with `socket` only its path matters. `peer`: name of the other side in
        error texts; default: the URL. `socket`: Unix socket to connect to instead of the URL's
        host. `app`: ASGI application to call in the process instead of connecting (tests).
        `timeout_s`: deadline of a call, all attempts together, unless the call names a deadline.
        `forward`: makes the forward that the URL leads to; awaited once in a call, where no
        connection was taken.
        """
        self._forward = forward
        self.url = url.rstrip("/")
        self.peer = peer or (f"`{socket}`" if socket else f"`{self.url}`")
        self._timeout_s = timeout_s
        self._is_inside = socket is not None or app is not None
        self._tls = None if self._is_inside else SERVER_TLS.get(self.url)
        # Of httpx the transport alone: cookies, redirects and the rest of a client cost a quarter.
        self._http: httpx.AsyncBaseTransport
        if app is not None:
            self._http = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        else:
            self._http = httpx.AsyncHTTPTransport(
                verify=self._context(),
                uds=str(socket) if socket else None,
                limits=httpx.Limits(
                    max_connections=_CONNECTIONS,
                    max_keepalive_connections=_KEPT,
                    keepalive_expiry=_IDLE_S,
                ),
                trust_env=False,
            )
        self._headers = {"Accept": "*/*", "Accept-Encoding": "identity", **(headers or {})}
        if pair := httpx.URL(self.url).userinfo:
            self._headers["Authorization"] = f"Basic {b64encode(pair).decode()}"

    async def get(
        self, path: str, *, timeout_s: float | None = None, attempts: int = READ_ATTEMPTS
    ) -> Any:
        """Return the JSON document at `path`; repeated on a broken connection.

        Raises:
            EngineUnreachableError: no answer, in time (`EngineTimedOutError`) or at all, or the
                host is not trusted (`UntrustedError`) and nothing was sent.
            EngineRejectedError: an answer that is not a success or not JSON.
        """
        return self._document(await self._call("GET", path, None, timeout_s, attempts))

    async def get_text(
        self, path: str, *, timeout_s: float | None = None, attempts: int = READ_ATTEMPTS
    ) -> str:
        """Return the text at `path`; otherwise as `get`."""
        return (await self._call("GET", path, None, timeout_s, attempts)).text

    async def get_bytes(self, path: str, *, timeout_s: float | None = None) -> bytes:
        """Return the bytes at `path`; otherwise as `get`."""
        return (await self._call("GET", path, None, timeout_s, READ_ATTEMPTS)).content

    async def post(self, path: str, body: Any = None, *, timeout_s: float | None = None) -> Any:
        """Send a document once; return the answer, decoded if it is JSON, else its text.

        Raises:
            EngineUnreachableError: no answer; the call may have taken effect.
            EngineRejectedError: an answer that is not a success.
        """
        return self._any(await self._call("POST", path, body, timeout_s, 1))

    async def put(self, path: str, body: Any = None, *, timeout_s: float | None = None) -> Any:
        """Send a document once with PUT; otherwise as `post`."""
        return self._any(await self._call("PUT", path, body, timeout_s, 1))

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _context(self) -> ssl.SSLContext:
        if self._tls is not None:
            return self._tls.context()
        return _tls() if self.url.startswith("https:") else _no_tls()

    async def _call(
        self, method: str, path: str, body: Any, timeout_s: float | None, attempts: int
    ) -> httpx.Response:
        if not self._is_inside:
            require_contact(self.url)
        limit = self._timeout_s if timeout_s is None else timeout_s
        asked = _shown(method, path)
        try:
            async with asyncio.timeout(limit):
                response = await self._attempts(method, path, body, attempts)
        except TimeoutError:
            detail = f"{self.peer} did not answer {asked} within {limit:g} s."
            hint = "Look at the server's log and load; running the command again is safe."
            raise EngineTimedOutError.of("FC4002", "No answer in time", detail, hint=hint) from None
        if not response.is_success:
            raise EngineRejectedError(
                problem(
                    "FC4003",
                    "A request was refused",
                    f"{self.peer} answered {asked} with {response.status_code}: "
                    f"{_message(response)}",
                ),
                status=response.status_code,
            )
        return response

    async def _attempts(
        self, method: str, path: str, body: Any, attempts: int, *, is_forwarded: bool = False
    ) -> httpx.Response:
        for attempt in range(1, attempts + 1):
            try:
                return await self._bounded(method, path, body)
            except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
                if isinstance(error, httpx.ConnectError) and self._forward and not is_forwarded:
                    await self._forward()
                    return await self._attempts(method, path, body, attempts, is_forwarded=True)
                if attempt < attempts and isinstance(error, httpx.TransportError):
                    await asyncio.sleep(_BACKOFF_S * 2 ** (attempt - 1))
                    continue
                raise self._unreached(_shown(method, path), error) from None
        raise AssertionError("attempts is 1 or more")

    def _unreached(self, asked: str, error: Exception) -> EngineUnreachableError:
        is_ended = isinstance(error, httpx.ReadError) or "disconnected" in str(error)
        is_tls = self.url.startswith("https:")
        fault = tls_fault(error, self._tls, is_ended=is_ended) if is_tls else ""
        hint = "Check that it runs and that its address is right."
        if fault:
            hint = "Check the certificates of both sides; of an attached server, its `tls`."
        reason = fault or str(error).rstrip(".") or type(error).__name__
        detail = f"{self.peer} cannot be reached for {asked}: {reason}."
        return EngineUnreachableError.of("FC4001", "No connection", detail, hint=hint)

    async def _bounded(self, method: str, path: str, body: Any) -> httpx.Response:
        key = "" if self._is_inside else SERVER_KEYS.get(self.url)
        headers = {**self._headers, **({"Authorization": f"Bearer {key}"} if key else {})}
        request = httpx.Request(method, self.url + path, json=body, headers=headers)
        if self._tls is not None and self._tls.name:
            request.extensions["sni_hostname"] = self._tls.name
        response = await self._http.handle_async_request(request)
        response.request = request
        try:
            if response.headers.get("content-encoding", "identity") != "identity":
                raise self._not_understood(response, "a compressed body that was not asked for")
            content = bytearray()
            async for part in response.aiter_raw():
                content += part
                if len(content) > MAX_BODY:
                    raise self._not_understood(response, f"more than {MAX_BODY} bytes")
        finally:
            await response.aclose()
        return httpx.Response(
            response.status_code, headers=response.headers, content=bytes(content)
        )

    def _document(self, response: httpx.Response) -> Any:
        try:
            return response.json()
        except (ValueError, RecursionError):
            kind = response.headers.get("content-type", "no type")[:_LONGEST_TYPE]
            what = f"something else than JSON: {kind}, {len(response.content)} bytes"
            raise self._not_understood(response, what) from None

    def _not_understood(self, response: httpx.Response, what: str) -> EngineRejectedError:
        return EngineRejectedError(
            problem(
                "FC4004",
                "Answer not understood",
                f"{self.peer} answered with {what}.",
                hint="Check that the address is that of a vLLM server.",
            ),
            status=response.status_code,
        )

    def _any(self, response: httpx.Response) -> Any:
        if response.headers.get("content-type", "").startswith("application/json"):
            return self._document(response)
        return response.text


def _shown(method: str, path: str) -> str:
    """Return method and path of a request, without the query, which may be long."""
    return f"{method} {path.partition('?')[0]}"


def _message(response: httpx.Response) -> str:
    """Return the message of an error answer in the form of vLLM, gateways or Starlette.

    No other body is quoted: errors are posted in public, and declarations choose the address.
    """
    try:
        document = response.json()
    except (ValueError, RecursionError):
        document = None
    shown = document if isinstance(document, dict) else {}
    found = shown.get("error", shown.get("detail", shown))
    text = found.get("message") if isinstance(found, dict) else found
    return text[:_LONGEST_DETAIL] if text and isinstance(text, str) else response.reason_phrase
