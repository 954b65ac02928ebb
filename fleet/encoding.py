"""Encodes values of the fleet as plain JSON, and hashes the decisions of a plan to its id.

The plan's id, the plan file and the ledger hold the same plain form; `fleet.decoding` reads the
plain form back.
"""

import hashlib
import json
from collections.abc import Callable, Hashable, Mapping
from dataclasses import field, fields, is_dataclass
from datetime import datetime
from enum import Enum
from functools import cache
from typing import Any, cast

from fleet import steps
from fleet.plan import Impact, Plan, PlanNote
from fleet.resources import Key, LoadedAdapter, Route, Server, ServerFlags
from fleet.traffic import LimitPolicy, TimeoutPolicy, TrafficPolicy

KINDS: Mapping[str, type] = {
    "server": Server,
    "adapter": LoadedAdapter,
    "route": Route,
    "key": Key,
}
"""Kinds of resources by tag; a plain resource has the tag in its field `kind`."""

VERBS: Mapping[str, type] = {
    "start": steps.StartServer,
    "stop": steps.StopServer,
    "load": steps.LoadAdapter,
    "smoke": steps.SmokeTest,
    "set_route": steps.SetRoute,
    "delete_route": steps.DeleteRoute,
    "set_key": steps.SetKey,
    "delete_key": steps.DeleteKey,
    "drain": steps.Drain,
    "unload": steps.UnloadAdapter,
}
"""Operations by tag; a plain operation has the tag in its field `verb`."""

DECISIONS = ("fleet", "changes", "steps", "capacity", "impacts", "gates", "held", "warnings")
"""Fields of a plan that its id covers."""

ADDED = ("settings", "upgrades", "set_aside")
"""Further fields that the id covers, left out where they are empty: earlier releases had none."""

MEASURED: Mapping[str, tuple[str, ...]] = {
    "changes": ("origin",),
    "steps": ("estimate_s",),
    "impacts": ("peak_rpm", "back_out_s", "outage_s", "lost_requests", "demand_basis"),
    "capacity": ("load",),
    "gates": ("detail", "power"),
}
"""Fields inside the decisions that are estimates, measurements or line numbers: the id leaves them
out, so that the same fleet in another order has the same plan."""

SPARSE: Mapping[type, tuple[str, ...]] = {
    Impact: ("waits", "outage_s", "lost_requests", "demand_basis"),
    Plan: ("prospects", "set_aside"),
    LoadedAdapter: ("unsure",),
    ServerFlags: ("image",),
    Route: ("policy",),
    Server: ("supervisor",),
    steps.StopServer: ("again",),
    steps.UnloadAdapter: ("again",),
    TrafficPolicy: tuple(field.name for field in fields(TrafficPolicy)),
    TimeoutPolicy: tuple(field.name for field in fields(TimeoutPolicy)),
    LimitPolicy: tuple(field.name for field in fields(LimitPolicy)),
}
"""Fields of these types that are left out where they have their default; see `optional`."""

TAGS = {
    kind: (label, tag)
    for label, table in (("kind", KINDS), ("verb", VERBS))
    for tag, kind in table.items()
}
"""By type of a resource or an operation: the field of its tag in the plain form, and the tag."""

MOST_VALUES = 4_000_000
"""Upper bound of the values of a JSON document; a value takes about 100 bytes."""
_OPTIONAL = "optional"
_AS_IS = frozenset({type(None), bool, int, float, str})


def optional(default: Any = None) -> Any:
    """Return a dataclass field that the plain form leaves out where the value is the default."""
    return field(default=default, metadata={_OPTIONAL: True})


def plain(value: Any) -> Any:
    """Encode a value as plain JSON; resources and operations carry their tag.

    Raises:
        TypeError: a part of the value is of no known type.
    """
    if type(value) in _AS_IS:
        return value
    match value:
        case Enum():
            return value.value
        case int() | float() | str():
            return value
        case tuple() | list() | frozenset():
            return [
                plain(item) for item in (sorted(value) if isinstance(value, frozenset) else value)
            ]
        case Mapping():
            return {str(key): plain(item) for key, item in value.items()}
        case _:
            return _encoder(cast("Hashable", type(value)))(value)


@cache
def _encoder(kind: Any) -> Callable[[Any], str | dict[str, Any]]:
    if kind is PlanNote:
        return str
    if kind is datetime:
        return datetime.isoformat
    if not is_dataclass(kind):
        raise TypeError(f"a plan cannot hold a {kind.__name__}")
    left_out = SPARSE.get(cast("type", kind), ())
    sparse = tuple(
        (field.name, field.default)
        for field in fields(kind)
        if field.name in left_out or _OPTIONAL in field.metadata
    )
    names = tuple(field.name for field in fields(kind) if (field.name, field.default) not in sparse)
    tag = TAGS.get(cast("type", kind))

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
    """Write the shortest JSON with sorted keys: equal values have equal bytes.

    Raises:
        ValueError: a number is not finite.
    """
    return json.dumps(
        document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def decode_json(text: str | bytes) -> Any:
    """Read JSON from outside; nesting and the number of values are bounded.

    Raises:
        ValueError: not JSON, or more of it than is read.
    """
    marks: tuple[Any, ...] = (",", "[", "{") if isinstance(text, str) else (b",", b"[", b"{")
    if len(text) > MOST_VALUES and sum(map(text.count, marks)) > MOST_VALUES:
        raise ValueError(f"it has more than {MOST_VALUES} values")
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def decisions(plan: Plan) -> dict[str, Any]:
    """Return the part of a plan that its id covers, in plain form."""
    document: dict[str, Any] = {name: plain(getattr(plan, name)) for name in DECISIONS}
    document |= {name: plain(found) for name in ADDED if (found := getattr(plan, name))}
    for section, measured in MEASURED.items():
        for entry in document[section]:
            for name in measured:
                entry.pop(name, None)
    keys = [key for entry in (*document["changes"], *document["steps"]) if (key := new_key(entry))]
    if keys and identify(document) != plan.id:  # the id of an earlier release covers them
        for key in keys:
            del key["fingerprint"]
    return document


def new_key(entry: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the plain key that a plain change or step issues for the first time; None: no key.

    Its fingerprint is no part of the id: who plans a pull request does not have the secret.
    """
    match entry:
        case {"before": None, "after": dict() as key} if key.get("kind") == "key":
            return key
        case {"before": None, "operation": {"verb": "set_key", "key": dict() as key}}:
            return key
        case _:
            return None


def identify(document: Mapping[str, Any]) -> str:
    """Return the id of a plan with these plain decisions: 16 hex digits of their SHA-256."""
    return hashlib.sha256(canonical_json(document).encode()).hexdigest()[:16]


def plan_id(plan: Plan) -> str:
    """Return the id that a plan with these decisions has, whatever its field `id` says."""
    return identify(decisions(plan))


def plan_digest(plan: Plan) -> str:
    """Return the SHA-256, 64 hex digits, of all that a plan says: decisions and observations."""
    return hashlib.sha256(canonical_json(plain(plan)).encode()).hexdigest()
