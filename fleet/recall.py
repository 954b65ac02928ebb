"""Recall: resources read back from the plain form in which plans and the ledger hold them."""

from collections.abc import Mapping
from typing import Any

from fleet import traffic
from fleet.names import Address
from fleet.resources import Key, LoadedAdapter, Resource, Route, Server, ServerFlags, Share


def resource(document: Mapping[str, Any]) -> Resource:
    """Return the resource that `fleet.canonical.plain` wrote; later additions are ignored.

    Raises:
        ValueError: it is of no known kind, or a field is missing.
    """
    try:
        match document.get("kind"):
            case "server":
                return _server(document)
            case "adapter":
                return LoadedAdapter(
                    document["adapter"], document["server"], document["digest"], document["path"]
                )
            case "route":
                shares = tuple(_share(each) for each in document["shares"])
                policy = traffic.read(document.get("policy"))
                return Route(document["alias"], shares, document["salt"], policy)
            case "key":
                return Key(
                    document["client"],
                    document["name"],
                    document["reference"],
                    document["fingerprint"],
                )
            case other:
                raise ValueError(f"no such kind of resource: {other!r}")
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a resource: {error}") from error


def target(operation: Mapping[str, Any]) -> tuple[bool, Resource | None]:
    """Return whether a plain operation changes a resource, and what it is afterwards.

    None is a resource that is gone. Draining and smoke tests change nothing.
    """
    match operation.get("verb"):
        case "start":
            return True, resource(operation["server"])
        case "load":
            return True, resource(operation["adapter"])
        case "set_route":
            return True, resource(operation["route"])
        case "set_key":
            return True, resource(operation["key"])
        case "stop" | "unload" | "delete_route" | "delete_key":
            return True, None
        case _:
            return False, None


def on_server(address: Address) -> str:
    """Return the server that an adapter's address names; empty for other addresses."""
    kind, _, rest = address.partition("/")
    return rest.rpartition("@")[2] if kind == "adapter" else ""


def _server(document: Mapping[str, Any]) -> Server:
    flags = document["flags"]
    return Server(
        name=document["name"],
        base=document["base"],
        host=document["host"],
        devices=tuple(document["devices"]),
        port=document["port"],
        digest=document["digest"],
        flags=None if flags is None else _flags(flags),
    )


def _flags(document: Mapping[str, Any]) -> ServerFlags:
    known = {name: document[name] for name in ServerFlags.__slots__ if name in document}
    extra = tuple((str(key), str(value)) for key, value in known.pop("extra", ()))
    return ServerFlags(**known, extra=extra)


def _share(document: Mapping[str, Any]) -> Share:
    return Share(document["adapter"], document["percent"], tuple(document["servers"]))
