"""The endpoints that the gateway answers itself: models, health and readiness."""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, NamedTuple
from urllib.parse import unquote

import msgspec

from runtime.gateway.body import errors
from runtime.gateway.body.endpoints import ANTHROPIC, PATHS
from runtime.gateway.body.errors import ApiError
from runtime.gateway.request.state import GatewayState
from runtime.gateway.table.routing import Credentials

_MODELS: Final = "/v1/models"
_HEALTH: Final = "/healthz"
_READY: Final = "/readyz"
_JSON: Final = {"Content-Type": "application/json"}


class LocalResponse(NamedTuple):
    """A response that no server takes part in."""

    status: int
    headers: dict[str, str]
    body: bytes


def error_response(error: ApiError, path: str, request_id: str = "") -> LocalResponse:
    """Return an error's response in the shape of `path`'s API; `request_id` empty: no row."""
    body = error.anthropic_body if path in ANTHROPIC else error.body
    numbered = {"x-request-id": request_id} if request_id else {}
    return LocalResponse(error.status, error.headers | numbered, body)


@dataclass(frozen=True, slots=True)
class GatewayApp:
    """The gateway's own endpoints. Nothing here waits, and nothing here knows a socket."""

    state: GatewayState

    def respond(self, method: str, path: str, credentials: Credentials) -> LocalResponse:
        """Return the response to a request that is for no server; `path` is without its query."""
        try:
            return self._respond(method, path, credentials)
        except ApiError as error:
            return error_response(error, path)

    def _respond(self, method: str, path: str, credentials: Credentials) -> LocalResponse:
        if path not in PATHS and path not in {_HEALTH, _READY, _MODELS} and not _model(path):
            raise errors.no_such_path()
        if path in PATHS or method not in {"GET", "HEAD"}:
            raise errors.wrong_method()
        if path == _HEALTH:
            return _json({"status": "ok"})
        if path == _READY:
            if not self.state.is_ready:
                raise errors.not_ready()
            return _json({"ready": True})
        routes = self.state.active.routes
        client = credentials.authenticate(routes, b"").client
        names = routes.names_by_client.get(client, ())
        if path == _MODELS:
            cards = [self._card(name, client) for name in names]
            return _json({"object": "list", "data": cards})
        if _model(path) not in names:
            raise errors.no_such_model()
        return _json(self._card(_model(path), client))

    def _card(self, name: str, client: str) -> dict[str, object]:
        created = int(self.state.active.loaded_at.timestamp())
        card = {"id": name, "object": "model", "created": created, "owned_by": client}
        tokens = self._context(name, client)
        return card if tokens is None else card | {"max_model_len": tokens}

    def _context(self, name: str, client: str) -> int | None:
        """Return the least context of the servers that may answer; None: none has said it."""
        route = self.state.active.routes.find(client, name)
        servers = (server for arm in route.arms for server in arm.target.servers) if route else ()
        known = (self.state.contexts.get(server) for server in servers)
        return min((tokens for tokens in known if tokens is not None), default=None)


def _model(path: str) -> str:
    """Return the model that a path names; empty: the path names no model."""
    before, _, name = path.rpartition("/")
    return unquote(name) if before == _MODELS else ""


def _json(document: object) -> LocalResponse:
    return LocalResponse(HTTPStatus.OK, _JSON, msgspec.json.encode(document))
