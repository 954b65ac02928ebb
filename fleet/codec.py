"""Writes values of the fleet as plain JSON, reads them back, and hashes decisions to a plan's id.

The plan's id, the plan file and the ledger hold the same plain form; it is read back here, too.
"""

import hashlib
import json
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import MISSING, field, fields, is_dataclass
from datetime import datetime
from enum import Enum, StrEnum
from functools import cache
from itertools import cycle
from types import NoneType, UnionType
from typing import Any, Literal, NewType, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from fleet import steps
from fleet.names import is_name
from fleet.plan import Impact, Plan, PlanNote
from fleet.resources import Key, LoadedAdapter, Resource, Route, Server, ServerFlags, Share
from fleet.traffic import LimitPolicy, TimeoutPolicy, TrafficPolicy

KINDS: Mapping[str, type] = {"server": Server, "adapter": LoadedAdapter, "route": Route, "key": Key}
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


Reader = Callable[[Any], Any]
"""Function from a JSON value to a value of the fleet."""

Decoded = TypeVar("Decoded")
_WRITTEN = {
    kind: {field.name for field in fields(kind)} - {*SPARSE.get(kind, ())}
    for kind in KINDS.values()
}
"""Fields that every release has written of a resource, whether or not they have their default."""
_WRITES = {"start": "server", "load": "adapter", "set_route": "route", "set_key": "key"}
"""Field of an operation with the resource that the operation writes, by verb."""
NAMES: Mapping[type, tuple[str, ...]] = {
    Server: ("name", "base", "host"),
    LoadedAdapter: ("server",),
    Route: ("alias",),
    Share: ("servers",),
    Key: ("client", "name"),
}
"""Fields that hold names, which become paths: a name has no slash. Adapters of others have any."""
_SCALARS = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
"""Names of the scalar types in errors."""


class MalformedError(ValueError):
    """A file that breaks its format; the message begins with the path inside the file."""


class _UnfitError(Exception):
    """A refused part of a value; containers put their steps of the path before the message."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.path: list[str] = []


def decode(target: type[Decoded], value: Any, where: str, *, lenient: bool = False) -> Decoded:
    """Decode a value of plain JSON as a dataclass of the fleet, or as the type of its field.

    `where` is the path of the value in its file, for errors. A `lenient` reader ignores unknown
    fields, as a reader of a later minor version must.

    Raises:
        MalformedError: a field is missing, unknown or of another type.
    """
    try:
        return cast("Decoded", _reader(cast("Hashable", target), lenient=lenient)(value))
    except _UnfitError as error:
        raise MalformedError(f"{where}{''.join(reversed(error.path))}: {error}") from None


@cache
def _reader(hint: Any, *, lenient: bool) -> Reader:  # noqa: PLR0911 (a line per form of type)
    arguments = get_args(hint)
    if hint in (Mapping[str, Any], datetime):
        return _date if hint is datetime else _document
    if isinstance(hint, NewType):
        return _reader(hint.__supertype__, lenient=lenient)
    if get_origin(hint) in (Union, UnionType):
        return _union(arguments, lenient=lenient)
    if get_origin(hint) in (frozenset, Sequence):
        items = _tuple((*arguments, ...), lenient=lenient)
        return items if get_origin(hint) is Sequence else lambda value: frozenset(items(value))
    if get_origin(hint) is Literal:
        return _scalar(str)
    if get_origin(hint) is tuple:
        return _tuple(arguments, lenient=lenient)
    if get_origin(hint) is Mapping:
        reader = _reader(arguments[1], lenient=lenient)
        return lambda value: _fields([(key, reader) for key in _document(value)], value)
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return _enumeration(hint)
    if hint is PlanNote:
        return lambda value: PlanNote.of(_scalar(str)(value))
    return _record(hint, lenient=lenient) if is_dataclass(hint) else _scalar(hint)


def _scalar(target: Any) -> Reader:
    accepted = (int, float) if target is float else target

    def read(value: Any) -> Any:
        if type(value) is target:
            return value
        if isinstance(value, bool) != (target is bool) or not isinstance(value, accepted):
            raise _UnfitError(f"expected {_SCALARS.get(target, 'null')}, found {value!r:.60}")
        return value

    return read


def _document(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _UnfitError(f"expected an object, found {value!r:.60}")
    return value


def _date(value: Any) -> datetime:
    try:
        return datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise _UnfitError(f"expected a time, found {value!r:.60}") from None


def _enumeration(target: type[StrEnum]) -> Reader:
    def read(value: Any) -> StrEnum:
        try:
            return target(value)
        except ValueError:
            raise _UnfitError(f"expected one of {', '.join(target)}, found {value!r:.60}") from None

    return read


def _tuple(arguments: tuple[Any, ...], *, lenient: bool) -> Reader:
    endless = len(arguments) == 2 and arguments[1] is Ellipsis  # noqa: PLR2004 (X, ...)
    readers = [_reader(hint, lenient=lenient) for hint in arguments if hint is not Ellipsis]

    def read(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise _UnfitError(f"expected a list, found {value!r:.60}")
        if not endless and len(value) != len(readers):
            raise _UnfitError(f"expected {len(readers)} items, found {len(value)}")
        items: list[Any] = []
        try:
            for reader, item in zip(cycle(readers), value, strict=False):
                items.append(reader(item))
        except _UnfitError as error:
            error.path.append(f"[{len(items)}]")
            raise
        return tuple(items)

    return read


def _fields(readers: Iterable[tuple[str, Reader]], document: dict[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    name = ""
    try:
        for name, reader in readers:
            if name in document:
                values[name] = reader(document[name])
    except _UnfitError as error:
        error.path.append(f".{name}")
        raise
    return values


def _union(arguments: tuple[Any, ...], *, lenient: bool) -> Reader:
    members = [hint for hint in arguments if hint is not NoneType]
    only = _reader(members[0], lenient=lenient) if len(members) == 1 else None
    if get_origin(members[-1]) is Sequence:  # a number, or several
        one, several = (_reader(hint, lenient=lenient) for hint in members)
        return lambda value: (several if isinstance(value, list) else one)(value)
    readers = {} if only else {TAGS[kind][1]: _reader(kind, lenient=lenient) for kind in members}

    def read(value: Any) -> Any:
        if value is None and NoneType in arguments:
            return None
        if only is not None:
            return only(value)
        tag = (value.get("kind") or value.get("verb")) if isinstance(value, dict) else None
        if not isinstance(tag, str) or tag not in readers:
            tags = ", ".join(sorted(readers))
            raise _UnfitError(f"expected `kind` or `verb` to be one of {tags}")
        return readers[tag](value)

    return read


def _record(target: Any, *, lenient: bool) -> Reader:
    hints = get_type_hints(target)
    readers = [
        (field.name, _reader(hints[field.name], lenient=lenient)) for field in fields(target)
    ]
    needed = {
        field.name
        for field in fields(target)
        if field.default is MISSING and field.default_factory is MISSING
    }
    label, tag = TAGS.get(target, ("", ""))
    names = NAMES.get(target, ())
    allowed = {name for name, _ in readers} | ({label} - {""})

    def read(value: Any) -> Any:
        if not needed <= _document(value).keys():
            raise _UnfitError(f"`{min(needed - value.keys())}` is missing")
        if not lenient and not value.keys() <= allowed:
            raise _UnfitError(f"unknown field `{min(value.keys() - allowed)}`")
        if label and value.get(label, tag) != tag:
            raise _UnfitError(f"expected a resource or operation of kind `{tag}`")
        values = _fields(readers, value)
        for name in names:
            for text in (values[name],) if isinstance(values[name], str) else values[name]:
                if not is_name(text):
                    raise _UnfitError(
                        f"`{name}` must be a name as in declarations, not {text!r:.60}"
                    )
        made = target(**values)
        return made.as_known() if isinstance(made, LoadedAdapter) else made

    return read


def resource_of_plain(document: Mapping[str, Any]) -> Resource:
    """Decode a resource of the ledger or of a plan; unknown fields are ignored.

    Raises:
        ValueError: the resource is of no known kind, or a field is missing or of another type.
    """
    kind = KINDS.get(document.get("kind", ""))
    if kind is None:
        raise ValueError(f"no such kind of resource: {document.get('kind')!r}")
    if not _WRITTEN[kind] <= document.keys():
        missing = min(_WRITTEN[kind] - document.keys())
        raise ValueError(f"not a resource: `{missing}` is missing")
    return cast("Resource", decode(kind, document, "resource", lenient=True))


def operation_result(operation: Mapping[str, Any]) -> tuple[bool, Resource | None]:
    """Return whether a plain operation changes a resource, and the resource afterwards.

    None is a resource that is gone. Draining and smoke tests change nothing, and neither does a
    stop or an unload that makes way for the same resource: where the run ends between the two, the
    resource is missing, and still to be there.
    """
    verb = operation.get("verb", "")
    if field := _WRITES.get(verb):
        return True, resource_of_plain(operation[field])
    is_gone = verb in {"stop", "unload", "delete_route", "delete_key"}
    return is_gone and not operation.get("again"), None
