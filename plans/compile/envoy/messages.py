"""The few shapes that every part of an Envoy configuration is written in.

Conditions on a request's headers, as Envoy's generic matchers have them.
"""

from typing import Any, Final

Json = dict[str, Any]

_TYPES: Final = "type.googleapis.com/"

CLIENT: Final = "x-fleetctl-client"
"""Header with the client that the key belongs to; set by Envoy, never taken from outside."""
ASKED: Final = "x-fleetctl-asked"
"""Header with what a request asks for, by which its route is found."""
CLIENT_STATE: Final = "fleetctl.client"
"""Filter state with the client, for the rows: its header is gone by then."""
STREAM_STATE: Final = "fleetctl.stream"
"""Filter state with what the body says of streams."""
VERSION_STATE: Final = "fleetctl.version"
"""Filter state with the version that answers."""
VERSION: Final = "x-fleetctl-version"
"""Header with the version that answers; Envoy puts it on what goes to a server and comes back."""
NAMESPACE: Final = "fleetctl"
"""Namespace of the metadata that rows and metrics are made of."""


def typed(kind: str, **fields: Any) -> Json:
    """Return a message of a named type."""
    return {"@type": f"{_TYPES}{kind}", **fields}


def extension(name: str, kind: str, **fields: Any) -> Json:
    """Return an extension with its configuration."""
    return {"name": name, "typed_config": typed(kind, **fields)}


def state(name: str, value: str) -> Json:
    """Return a filter state that is set to a text, which may have substitutions."""
    text = {"text_format_source": {"inline_string": value}}
    return {"object_key": name, "factory_key": "envoy.string", "format_string": text}


def seconds(amount: float) -> str:
    """Return a duration."""
    return f"{amount:g}s"


def header(name: str, value: str) -> Json:
    """Return a header that replaces any of its name; none is set where the value is empty."""
    return {
        "header": {"key": name, "value": value},
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
    }


def address(host: str, port: int) -> Json:
    """Return the address of a socket."""
    return {"socket_address": {"address": host, "port_value": port}}


_INPUT = "envoy.type.matcher.v3.HttpRequestHeaderMatchInput"


def header_input(name: str) -> Json:
    """Return a header as that which is looked at."""
    return extension("header", _INPUT, header_name=name)


def is_like(name: str, value: str = "(?s).*") -> Json:
    """Return whether a header is there and is such a value, a regular expression of all of it."""
    match = {"safe_regex": {"google_re2": {}, "regex": value}}
    return {"single_predicate": {"input": header_input(name), "value_match": match}}


def is_other(name: str, value: str) -> Json:
    """Return whether a header is there and is no such value."""
    return every(is_like(name), no(is_like(name, value)))


def every(*predicates: Json) -> Json:
    """Return whether all of these hold; two or more."""
    return {"and_matcher": {"predicate": list(predicates)}}


def no(predicate: Json) -> Json:
    """Return whether it does not hold."""
    return {"not_matcher": predicate}
