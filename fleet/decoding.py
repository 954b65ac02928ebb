"""Decodes plain JSON into the values of the fleet: the only decoder of what `fleet.encoding` wrote.

A value of another type, a missing field and an unknown field are refused, with the path to it in
the file. A lenient reader ignores unknown fields: a later release may have added them.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from datetime import datetime
from enum import StrEnum
from functools import cache
from itertools import cycle
from types import NoneType, UnionType
from typing import Any, NewType, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from fleet.encoding import KINDS, SPARSE, VERBS
from fleet.plan import PlanNote
from fleet.resources import Resource

Reader = Callable[[Any, bool], Any]
"""From a JSON value, and whether unknown fields are ignored, to a value of the fleet."""

Decoded = TypeVar("Decoded")
_TAGGED = {made: tag for table in (KINDS, VERBS) for tag, made in table.items()}
_WRITTEN = {
    kind: {field.name for field in fields(kind)} - {*SPARSE.get(kind, ())}
    for kind in KINDS.values()
}
"""Fields that every release has written of a resource, whether or not they have their default."""


class MalformedError(ValueError):
    """A file that breaks its format; the message begins with the path inside the file."""


class _UnfitError(Exception):
    """A refused part of a value; containers put their steps of the path before the message."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.path: list[str] = []


def decode(wanted: type[Decoded], value: Any, where: str, *, lenient: bool = False) -> Decoded:
    """Decode a value of plain JSON as a `wanted`.

    Args:
        wanted: A dataclass of the fleet, or the type of a field of such a dataclass.
        value: What `json.loads` returned.
        where: Path of the value in its file, for errors.
        lenient: Ignore unknown fields, as a reader of a later minor version must.

    Raises:
        MalformedError: a field is missing, unknown or of another type.
    """
    try:
        return cast("Decoded", _reader(cast("Hashable", wanted))(value, lenient))
    except _UnfitError as error:
        raise MalformedError(f"{where}{''.join(reversed(error.path))}: {error}") from None


@cache
def _reader(hint: Any) -> Reader:  # noqa: PLR0911 (one line for each form of type)
    if hint in (Mapping[str, Any], datetime):
        return _date if hint is datetime else _document
    if isinstance(hint, NewType):
        return _reader(hint.__supertype__)
    if get_origin(hint) in (Union, UnionType):
        return _union(get_args(hint))
    if get_origin(hint) is tuple:
        return _tuple(get_args(hint))
    if get_origin(hint) is Mapping:
        return _mapping(_reader(get_args(hint)[1]))
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return _enumeration(hint)
    if hint is PlanNote:
        return _note
    if is_dataclass(hint):
        return _record(cast("type", hint))
    return _scalar(hint)


def _note(value: Any, lenient: bool) -> PlanNote:  # noqa: FBT001 (a Reader)
    return PlanNote.of(_scalar(str)(value, lenient))


def _scalar(wanted: Any) -> Reader:
    accepted = (int, float) if wanted is float else wanted

    def read(value: Any, _lenient: bool) -> Any:  # noqa: FBT001 (a Reader)
        if type(value) is wanted:
            return value
        if isinstance(value, bool) != (wanted is bool) or not isinstance(value, accepted):
            raise _UnfitError(f"expected {_called(wanted)}, found {value!r:.60}")
        return value

    return read


def _document(value: Any, _lenient: bool) -> Any:  # noqa: FBT001 (a Reader)
    if not isinstance(value, dict):
        raise _UnfitError(f"expected an object, found {value!r:.60}")
    return value


def _date(value: Any, _lenient: bool) -> datetime:  # noqa: FBT001 (a Reader)
    try:
        return datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise _UnfitError(f"expected a time, found {value!r:.60}") from None


def _called(wanted: Any) -> str:
    return {str: "text", int: "a whole number", float: "a number", bool: "true or false"}.get(
        wanted, "null"
    )


def _enumeration(wanted: type[StrEnum]) -> Reader:
    def read(value: Any, _lenient: bool) -> StrEnum:  # noqa: FBT001 (a Reader)
        try:
            return wanted(value)
        except ValueError:
            raise _UnfitError(f"expected one of {', '.join(wanted)}, found {value!r:.60}") from None

    return read


def _tuple(arguments: tuple[Any, ...]) -> Reader:
    endless = len(arguments) == 2 and arguments[1] is Ellipsis  # noqa: PLR2004 (X, ...)
    readers = [_reader(hint) for hint in arguments if hint is not Ellipsis]

    def read(value: Any, lenient: bool) -> tuple[Any, ...]:  # noqa: FBT001 (a Reader)
        if not isinstance(value, list):
            raise _UnfitError(f"expected a list, found {value!r:.60}")
        if not endless and len(value) != len(readers):
            raise _UnfitError(f"expected {len(readers)} items, found {len(value)}")
        found: list[Any] = []
        try:
            for reader, item in zip(cycle(readers), value, strict=False):
                found.append(reader(item, lenient))
        except _UnfitError as error:
            error.path.append(f"[{len(found)}]")
            raise
        return tuple(found)

    return read


def _mapping(reader: Reader) -> Reader:
    def read(value: Any, lenient: bool) -> dict[str, Any]:  # noqa: FBT001 (a Reader)
        if not isinstance(value, dict):
            raise _UnfitError(f"expected an object, found {value!r:.60}")
        return _fields([(key, reader) for key in sorted(value)], value, lenient=lenient)

    return read


def _fields(
    readers: Iterable[tuple[str, Reader]], document: dict[str, Any], *, lenient: bool
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    name = ""
    try:
        for name, reader in readers:
            if name in document:
                found[name] = reader(document[name], lenient)
    except _UnfitError as error:
        error.path.append(f".{name}")
        raise
    return found


def _union(arguments: tuple[Any, ...]) -> Reader:
    optional = NoneType in arguments
    members = [hint for hint in arguments if hint is not NoneType]
    if len(members) == 1:
        choose: Reader = _reader(members[0])
    else:
        choose = _tagged({_TAGGED[member]: _record(member) for member in members})

    def read(value: Any, lenient: bool) -> Any:  # noqa: FBT001 (a Reader)
        return None if optional and value is None else choose(value, lenient)

    return read


def _tagged(readers: Mapping[str, Reader]) -> Reader:
    def read(value: Any, lenient: bool) -> Any:  # noqa: FBT001 (a Reader)
        tag = (value.get("kind") or value.get("verb")) if isinstance(value, dict) else None
        if not isinstance(tag, str) or tag not in readers:
            raise _UnfitError(
                f"expected `kind` or `verb` to be one of {', '.join(sorted(readers))}"
            )
        return readers[tag](value, lenient)

    return read


@cache
def _record(wanted: type) -> Reader:
    hints = get_type_hints(wanted)
    readers = [(field.name, _reader(hints[field.name])) for field in fields(wanted)]
    needed = {
        field.name
        for field in fields(wanted)
        if field.default is MISSING and field.default_factory is MISSING
    }
    tag = _TAGGED.get(wanted)
    label = "kind" if wanted in KINDS.values() else "verb" if tag else ""
    allowed = {name for name, _ in readers} | ({label} - {""})

    def read(value: Any, lenient: bool) -> Any:  # noqa: FBT001 (a Reader)
        if not isinstance(value, dict):
            raise _UnfitError(f"expected an object, found {value!r:.60}")
        if not needed <= value.keys():
            raise _UnfitError(f"`{min(needed - value.keys())}` is missing")
        if not lenient and not value.keys() <= allowed:
            raise _UnfitError(f"unknown field `{min(value.keys() - allowed)}`")
        if label and value.get(label, tag) != tag:
            raise _UnfitError(f"expected a resource or operation of kind `{tag}`")
        return wanted(**_fields(readers, value, lenient=lenient))

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
