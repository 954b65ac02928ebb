"""Hold the shared parts of an Envoy configuration: input, names, messages, matchers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
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
