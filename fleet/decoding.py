"""Decodes plain JSON into the values of the fleet: the only decoder of what `fleet.encoding` wrote.

A value of another type, a missing field and an unknown field are refused, with the path to it in
the file. A lenient reader ignores unknown fields: a later release may have added them.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from datetime import datetime
from enum import StrEnum
from functools import cache
from itertools import cycle
from types import NoneType, UnionType
from typing import (
    Any,
    Literal,
    NewType,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from fleet.encoding import KINDS, SPARSE, TAGS
from fleet.names import is_name
from fleet.plan import PlanNote
from fleet.resources import Key, LoadedAdapter, Resource, Route, Server, Share

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
