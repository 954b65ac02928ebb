"""Decode plain JSON into frozen dataclasses, strictly: a wrong field is an error with its path."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import StrEnum
from functools import cache
from types import NoneType, UnionType
from typing import Any, NewType, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from fleet.encoding import KINDS, VERBS

Decoder = Callable[[Any, str, bool], Any]
"""Function from a JSON value, its path in the file, and whether unknown fields are ignored."""

Decoded = TypeVar("Decoded")
_TAGGED = {made: tag for table in (KINDS, VERBS) for tag, made in table.items()}


class MalformedError(ValueError):
    """A field is missing, unknown or of another type; the message begins with the path."""


def decode(wanted: type[Decoded], value: Any, where: str, *, lenient: bool = False) -> Decoded:
    """Return `value` as a value of the type `wanted`.

    Args:
        wanted: A dataclass of the fleet, or any type one of their fields has.
        value: What `json.loads` returned.
        where: Path of the value in its file, for errors.
        lenient: Ignore unknown fields, as a reader of a later minor version must.

    Raises:
        MalformedError: a field is missing, unknown or of another type.
    """
    return cast("Decoded", _decoder(cast("Hashable", wanted))(value, where, lenient))


@cache
def _decoder(hint: Any) -> Decoder:  # noqa: PLR0911 (one line for each form of type)
    if isinstance(hint, NewType):
        return _decoder(hint.__supertype__)
    if get_origin(hint) in (Union, UnionType):
        return _union(get_args(hint))
    if get_origin(hint) is tuple:
        return _tuple(get_args(hint))
    if get_origin(hint) is Mapping:
        return _mapping(_decoder(get_args(hint)[1]))
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return _enumeration(hint)
    if is_dataclass(hint):
        return _record(cast("type", hint))
    return _scalar(hint)


def _scalar(wanted: Any) -> Decoder:
    accepted = (int, float) if wanted is float else wanted

    def read(value: Any, where: str, _lenient: bool) -> Any:  # noqa: FBT001 (a Decoder)
        if isinstance(value, bool) != (wanted is bool) or not isinstance(value, accepted):
            raise MalformedError(f"{where}: expected {_called(wanted)}, found {value!r:.60}")
        return value

    return read


def _called(wanted: Any) -> str:
    return {str: "text", int: "a whole number", float: "a number", bool: "true or false"}.get(
        wanted, "null"
    )


def _enumeration(wanted: type[StrEnum]) -> Decoder:
    def read(value: Any, where: str, _lenient: bool) -> StrEnum:  # noqa: FBT001 (a Decoder)
        try:
            return wanted(value)
        except ValueError:
            raise MalformedError(
                f"{where}: expected one of {', '.join(wanted)}, found {value!r:.60}"
            ) from None

    return read


def _tuple(arguments: tuple[Any, ...]) -> Decoder:
    endless = len(arguments) == 2 and arguments[1] is Ellipsis  # noqa: PLR2004 (X, ...)
    readers = [_decoder(argument) for argument in arguments if argument is not Ellipsis]

    def read(value: Any, where: str, lenient: bool) -> tuple[Any, ...]:  # noqa: FBT001 (a Decoder)
        if not isinstance(value, list):
            raise MalformedError(f"{where}: expected a list, found {value!r:.60}")
        if endless:
            reader = readers[0]
            return tuple(reader(item, f"{where}[{n}]", lenient) for n, item in enumerate(value))
        if len(value) != len(readers):
            raise MalformedError(f"{where}: expected {len(readers)} items, found {len(value)}")
        return tuple(
            reader(item, f"{where}[{n}]", lenient)
            for n, (reader, item) in enumerate(zip(readers, value, strict=True))
        )

    return read


def _mapping(reader: Decoder) -> Decoder:
    def read(value: Any, where: str, lenient: bool) -> dict[str, Any]:  # noqa: FBT001 (a Decoder)
        if not isinstance(value, dict):
            raise MalformedError(f"{where}: expected an object, found {value!r:.60}")
        return {key: reader(value[key], f"{where}.{key}", lenient) for key in sorted(value)}

    return read


def _union(arguments: tuple[Any, ...]) -> Decoder:
    optional = NoneType in arguments
    members = [argument for argument in arguments if argument is not NoneType]
    if len(members) == 1:
        choose: Decoder = _decoder(members[0])
    else:
        choose = _tagged({_TAGGED[member]: _record(member) for member in members})

    def read(value: Any, where: str, lenient: bool) -> Any:  # noqa: FBT001 (a Decoder)
        return None if optional and value is None else choose(value, where, lenient)

    return read


def _tagged(readers: Mapping[str, Decoder]) -> Decoder:
    def read(value: Any, where: str, lenient: bool) -> Any:  # noqa: FBT001 (a Decoder)
        tag = (value.get("kind") or value.get("verb")) if isinstance(value, dict) else None
        if not isinstance(tag, str) or tag not in readers:
            raise MalformedError(
                f"{where}: expected `kind` or `verb` to be one of {', '.join(sorted(readers))}"
            )
        return readers[tag](value, where, lenient)

    return read


@cache
def _record(wanted: type) -> Decoder:
    hints = get_type_hints(wanted)
    known = [(field.name, _decoder(hints[field.name])) for field in fields(wanted)]
    needed = {
        field.name
        for field in fields(wanted)
        if field.default is MISSING and field.default_factory is MISSING
    }
    tag = _TAGGED.get(wanted)
    extra = {"kind"} if wanted in KINDS.values() else {"verb"} if tag else set()
    allowed = {name for name, _ in known} | extra

    def read(value: Any, where: str, lenient: bool) -> Any:  # noqa: FBT001 (a Decoder)
        if not isinstance(value, dict):
            raise MalformedError(f"{where}: expected an object, found {value!r:.60}")
        if missing := sorted(needed - value.keys()):
            raise MalformedError(f"{where}: `{missing[0]}` is missing")
        if not lenient and (unknown := sorted(value.keys() - allowed)):
            raise MalformedError(f"{where}: unknown field `{unknown[0]}`")
        if any(value.get(name, tag) != tag for name in extra):
            raise MalformedError(f"{where}: expected a resource or operation of kind `{tag}`")
        found = {
            name: reader(value[name], f"{where}.{name}", lenient)
            for name, reader in known
            if name in value
        }
        return wanted(**found)

    return read
