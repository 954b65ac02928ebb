"""The few shapes that every part of an Envoy configuration is written in."""

from typing import Any, Final

Json = dict[str, Any]

_TYPES: Final = "type.googleapis.com/"

COMPLETIONS: Final = "/v1/(chat/)?completions"
"""The paths at which versions answer, as a regular expression."""
CLIENT: Final = "x-fleetctl-client"
"""Header with the client that the key belongs to; set by Envoy, never taken from outside."""
ASKED: Final = "x-fleetctl-asked"
"""Header with what a request asks for, by which its route is found."""
CLIENT_STATE: Final = "fleetctl.client"
"""Filter state with the client, for the rows: its header is gone by then."""
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
