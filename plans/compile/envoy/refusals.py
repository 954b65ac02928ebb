"""Word Envoy's refusals: OpenAI's error shape, the texts of fleetctl's gateway."""

import json
from collections.abc import Mapping
from itertools import starmap
from typing import Any, Final

from plans.compile.envoy.messages import Json, header

INVALID: Final = "invalid_request_error"


def error(
    message: str, kind: str = INVALID, code: str | None = None, param: str | None = None
) -> Json:
    """Return an error document."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


NO_SUCH_MODEL: Final[Json] = {
    "type": "error",
    **error(
        "The model does not exist or you do not have access to it. GET /v1/models lists yours.",
        code="model_not_found",
        param="model",
    ),
}
"""Refusal of an alias. The `type` is for clients of the Anthropic API."""
NO_SUCH_PATH: Final = error("No such path.", code="unknown_url")
WRONG_METHOD: Final = error("This path does not take this method.")
ECHO: Final = error("`echo` with `logprobs` is not served.", param="logprobs")
CHOICES: Final = error("`n` asks for more answers than are given to one request.", param="n")
TOOLS: Final = error("Only tools that the client runs itself are offered.", param="tools")


def stored(field: str) -> Json:
    """Return the refusal of a field that needs a kept conversation."""
    return error(f"`{field}` is not offered: no conversation is kept here.", param=field)


_UNAUTHORIZED: Final = error(
    "Incorrect or missing API key. Send it as `Authorization: Bearer KEY` or `x-api-key: KEY`.",
    code="invalid_api_key",
)
_TOO_LARGE: Final = error("The request body is larger than 16777216 bytes.")
_HEAD_TOO_LARGE: Final = error("The request's headers are larger than 32768 bytes.")
_TOO_MANY: Final = error("Too many requests.", "requests", "rate_limit_exceeded")
_UNAVAILABLE: Final = error(
    "No server can answer for this model right now. Please retry.", "server_error", "unavailable"
)
_BROKEN: Final = error("The server did not answer.", "server_error", "bad_gateway")


def answer(status: int, document: Json) -> Json:
    """Return the action of a route that answers without a server."""
    body = json.dumps(document, separators=(",", ":"))  # the bytes of fleetctl's gateway
    return {
        "direct_response": {"status": status, "body": {"inline_string": body}},
        "response_headers_to_add": [header("content-type", "application/json")],
    }


def local_replies() -> Json:
    """Return the bodies of the answers that Envoy's filters make."""
    return {"mappers": list(starmap(_mapper, _BY_STATUS.items()))}


_BY_STATUS: Final[Mapping[int, Json]] = {
    401: _UNAUTHORIZED,
    413: _TOO_LARGE,
    429: _TOO_MANY,
    431: _HEAD_TOO_LARGE,
    502: _BROKEN,
    503: _UNAVAILABLE,
    504: _BROKEN,
}
_ADDED: Final = {
    401: ("www-authenticate", "Bearer"),
    429: ("retry-after", "1"),
    503: ("retry-after", "2"),
}
"""Headers of answers, by status."""


def _mapper(status: int, document: Json) -> Json:
    compared = {"op": "EQ", "value": {"default_value": status, "runtime_key": "fleetctl.none"}}
    mapper: dict[str, Any] = {
        "filter": {"status_code_filter": {"comparison": compared}},
        "body_format_override": {"json_format": document, "content_type": "application/json"},
    }
    if status in _ADDED:
        name, value = _ADDED[status]
        mapper["headers_to_add"] = [{"header": {"key": name, "value": value}}]
    return mapper
