"""The one plain form of a plan: what its id hashes, its file holds and the ledger quotes.

Recall: resources read back from the plain form in which plans and the ledger hold them.

read.
"""

import hashlib
import json
from collections.abc import Callable, Hashable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from types import MappingProxyType
from typing import Any, cast

from fleet.plan import Plan
from fleet.resources import Key, LoadedAdapter, Resource, Route, Server, ServerFlags, Share
from fleet.response_format import FormatKind, ResponseFormat
from fleet.steps import (
    DeleteKey,
    DeleteRoute,
    Drain,
    LoadAdapter,
    SetKey,
    SetRoute,
    SmokeTest,
    StartServer,
    StopServer,
    UnloadAdapter,
)
from fleet.traffic import LimitPolicy, ShadowPolicy, Sticky, TimeoutPolicy, TrafficPolicy

KINDS: Mapping[str, type] = MappingProxyType(
    {"server": Server, "adapter": LoadedAdapter, "route": Route, "key": Key}
)
"""Tag of each kind of resource, in its field `kind`."""

VERBS: Mapping[str, type] = MappingProxyType(
    {
        "start": StartServer,
        "stop": StopServer,
        "load": LoadAdapter,
        "smoke": SmokeTest,
        "set_route": SetRoute,
        "delete_route": DeleteRoute,
        "set_key": SetKey,
        "delete_key": DeleteKey,
        "drain": Drain,
        "unload": UnloadAdapter,
    }
)
"""Tag of each operation, in its field `verb`."""

DECISIONS = ("fleet", "changes", "steps", "capacity", "impacts", "gates", "held", "warnings")
"""Fields of a plan that its id covers."""

MEASURED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "changes": ("origin",),
        "steps": ("estimate_s",),
        "impacts": ("peak_rpm", "back_out_s"),
        "capacity": ("load",),
        "gates": ("detail", "power"),
    }
)
"""Fields inside the decisions that are estimates, measurements or line numbers: the id leaves them
out, so that the same fleet in another order has the same plan."""

SPARSE: Mapping[type, tuple[str, ...]] = MappingProxyType(
    {
        Route: ("policy",),
        TrafficPolicy: tuple(each.name for each in fields(TrafficPolicy)),
        TimeoutPolicy: tuple(each.name for each in fields(TimeoutPolicy)),
        LimitPolicy: tuple(each.name for each in fields(LimitPolicy)),
    }
)
"""Fields that are left out where they have their default."""

_TAGS = {
    **{made: ("kind", tag) for tag, made in KINDS.items()},
    **{made: ("verb", tag) for tag, made in VERBS.items()},
}

_AS_IS = frozenset({type(None), bool, int, float, str})


def plain(value: Any) -> Any:
    """Return `value` as what JSON can hold; resources and operations carry their tag.

    Raises:
        TypeError: a part of it is of no known type.
    """
    if type(value) in _AS_IS:
        return value
    match value:
        case Enum():
            return value.value
        case int() | float() | str():
            return value
        case tuple() | list():
            return [plain(each) for each in value]
        case Mapping():
            return {str(key): plain(each) for key, each in value.items()}
        case _:
            return _encoder(cast("Hashable", type(value)))(value)


@cache
def _encoder(made: Any) -> Callable[[Any], dict[str, Any]]:
    if not is_dataclass(made):
        raise TypeError(f"a plan cannot hold a {made.__name__}")
    left_out = SPARSE.get(cast("type", made), ())
    sparse = tuple((each.name, each.default) for each in fields(made) if each.name in left_out)
    names = tuple(each.name for each in fields(made) if each.name not in left_out)
    tag = _TAGS.get(cast("type", made))

    def encode(value: Any) -> dict[str, Any]:
        document = {name: plain(getattr(value, name)) for name in names}
        for name, default in sparse:
            if (found := getattr(value, name)) != default:
                document[name] = plain(found)
        if tag is not None:
            document[tag[0]] = tag[1]
        return document

    return encode


def canonical_json(document: Any) -> str:
    """Return the shortest JSON with sorted keys: equal values have equal bytes.

    Raises:
        ValueError: a number is not finite.
    """
    return json.dumps(
        document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def decisions(plan: Plan) -> dict[str, Any]:
    """Return the part of a plan that its id covers, in plain form."""
    document: dict[str, Any] = {name: plain(getattr(plan, name)) for name in DECISIONS}
    for section, measured in MEASURED.items():
        for entry in document[section]:
            for name in measured:
                del entry[name]
    return document


def identify(document: Mapping[str, Any]) -> str:
    """Return the id of a plan with these plain decisions: 16 hex digits of their SHA-256."""
    return hashlib.sha256(canonical_json(document).encode()).hexdigest()[:16]


def plan_id(plan: Plan) -> str:
    """Return the id that a plan with these decisions has, whatever its field `id` says."""
    return identify(decisions(plan))


def resource_of_plain(document: Mapping[str, Any]) -> Resource:
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
                policy = traffic_policy_of_plain(document.get("policy"))
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


def operation_result(operation: Mapping[str, Any]) -> tuple[bool, Resource | None]:
    """Return whether a plain operation changes a resource, and what it is afterwards.

    None is a resource that is gone. Draining and smoke tests change nothing.
    """
    match operation.get("verb"):
        case "start":
            return True, resource_of_plain(operation["server"])
        case "load":
            return True, resource_of_plain(operation["adapter"])
        case "set_route":
            return True, resource_of_plain(operation["route"])
        case "set_key":
            return True, resource_of_plain(operation["key"])
        case "stop" | "unload" | "delete_route" | "delete_key":
            return True, None
        case _:
            return False, None


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


def traffic_policy_of_plain(document: Mapping[str, Any] | None) -> TrafficPolicy | None:
    """Return the policy that a plain document holds; unknown fields are ignored.

    Raises:
        KeyError, TypeError, ValueError: it holds no policy.
    """
    if document is None:
        return None
    known = {
        each.name: document[each.name] for each in fields(TrafficPolicy) if each.name in document
    }
    for name in ("limits", "client_limits"):
        if name in known:
            names = {each.name for each in fields(LimitPolicy)}
            known[name] = LimitPolicy(
                **{key: known[name][key] for key in known[name] if key in names}
            )
    if "timeouts" in known:
        names = {each.name for each in fields(TimeoutPolicy)}
        given = known["timeouts"]
        known["timeouts"] = TimeoutPolicy(**{key: given[key] for key in given if key in names})
    if "sticky" in known:
        known["sticky"] = Sticky(known["sticky"])
    if known.get("format"):
        form = known["format"]
        labels = tuple(form.get("labels", ()))
        known["format"] = ResponseFormat(FormatKind(form["kind"]), form.get("text", ""), labels)
    if known.get("shadow"):
        shadow = known["shadow"]
        known["shadow"] = ShadowPolicy(
            shadow["adapter"], tuple(shadow["servers"]), shadow["percent"], shadow["concurrency"]
        )
    return TrafficPolicy(**known)
