"""Hold the shared parts of an Envoy configuration: input, names, messages, matchers."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import starmap
from typing import Any, Final

from fleet.resources import Route

Json = dict[str, Any]

_TYPES: Final = "type.googleapis.com/"
_HEADER_INPUT: Final = "envoy.type.matcher.v3.HttpRequestHeaderMatchInput"

CLIENT: Final = "x-fleetctl-client"
"""Header with the client that the key belongs to; set by Envoy, never taken from outside."""
ASKED: Final = "x-fleetctl-asked"
"""Header with client and alias of a request, the key of its route."""
CLIENT_STATE: Final = "fleetctl.client"
"""Filter state with the client, for the rows: the header is gone when rows are written."""
STREAM_STATE: Final = "fleetctl.stream"
"""Filter state with the body's field `stream`."""
VERSION_STATE: Final = "fleetctl.version"
"""Filter state with the version that answers."""
DIGEST_STATE: Final = "fleetctl.digest"
"""Filter state with the digest of that version's bytes, where known."""
VERSION: Final = "x-fleetctl-version"
"""Header with the version that answers; Envoy sets it on requests to servers and on answers."""
NAMESPACE: Final = "fleetctl"
"""Namespace of the metadata that rows and metrics are made of."""


@dataclass(frozen=True, slots=True)
class Credential:
    """A client's API key. Envoy compares keys in clear, so the secret is needed."""

    client: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Routing:
    """A revision of the routing table."""

    revision: int
    digest: str
    """Digest of the routing table, 64 hex digits."""
    servers: Mapping[str, str]
    """Base URL by server."""
    routes: Mapping[str, Route]
    """Route by alias."""
    credentials: tuple[Credential, ...]
    """API keys; empty: every request is refused."""
    digests: Mapping[str, str] = field(default_factory=dict)
    """First 12 hex digits of the digest of a version's bytes, where known, by full adapter name."""

    @property
    def version(self) -> str:
        """Version that Envoy shows as served: revision and digest, `12-9f86…`."""
        return f"{self.revision}-{self.digest}"

    def reachable(self, servers: tuple[str, ...]) -> tuple[str, ...]:
        """Return the servers that have a URL, sorted."""
        return tuple(sorted(server for server in servers if server in self.servers))


@dataclass(frozen=True, slots=True)
class RoutePlace:
    """Address and folder of an Envoy."""

    name: str
    listen: str
    """Address for clients, `host:port`."""
    folder: str
    """Folder of the documents and the rows, as a path on Envoy's host."""
    admin: str
    """Path of the admin socket, as a path on Envoy's host."""


def typed(kind: str, **fields: Any) -> Json:
    """Return a message of a named type."""
    return {"@type": f"{_TYPES}{kind}", **fields}


def extension(name: str, kind: str, **fields: Any) -> Json:
    """Return an extension of a name, configured by a message of the type `kind`."""
    return {"name": name, "typed_config": typed(kind, **fields)}


def state(name: str, value: str) -> Json:
    """Return a filter state that is set to a text; substitutions are put in."""
    text = {"text_format_source": {"inline_string": value}}
    return {"object_key": name, "factory_key": "envoy.string", "format_string": text}


def seconds(amount: float) -> str:
    """Return a duration in the form of protobuf JSON."""
    return f"{amount:g}s"


def header(name: str, value: str) -> Json:
    """Return a header that replaces all of the same name; an empty value sets none."""
    return {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def address(host: str, port: int) -> Json:
    """Return the address of a socket."""
    return {"socket_address": {"address": host, "port_value": port}}


def header_input(name: str) -> Json:
    """Return the input of a matcher that reads a header."""
    return extension("header", _HEADER_INPUT, header_name=name)


def is_like(name: str, value: str = "(?s).*") -> Json:
    """Return the predicate: a header is present, and its whole value matches the expression."""
    match = {"safe_regex": {"google_re2": {}, "regex": value}}
    return {"single_predicate": {"input": header_input(name), "value_match": match}}


def is_other(name: str, value: str) -> Json:
    """Return the predicate: a header is present, and its whole value does not match."""
    return every(is_like(name), no(is_like(name, value)))


def every(*predicates: Json) -> Json:
    """Return the predicate: all of two or more predicates hold."""
    return {"and_matcher": {"predicate": list(predicates)}}


def no(predicate: Json) -> Json:
    """Return the predicate: another predicate does not hold."""
    return {"not_matcher": predicate}


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
