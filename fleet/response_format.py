"""Checks whether an answer has the declared form. Pure.

The check is the same in a gateway on live traffic and in an evaluation. Patterns and schemas are
matched in linear time, so that no answer takes long. A schema that refers to another file or host
is refused, so that no check fetches files.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any, NoReturn

import jsonschema_rs

MAX_TEXT = 65_536
"""Upper bound of a checked text, in characters; longer texts are not judged."""
MAX_SCHEMA = 65_536
"""Upper bound of a JSON Schema, in characters: the schema goes into every routing table."""


class FormatKind(StrEnum):
    """The forms that can be declared."""

    JSON = "json"
    """A JSON object or array."""
    SCHEMA = "json_schema"
    """A JSON value that a JSON Schema accepts."""
    REGEX = "regex"
    """A text that a regular expression matches whole."""
    LABELS = "labels"
    """A word of a list, exactly."""


@dataclass(frozen=True, slots=True)
class ResponseFormat:
    """The form that an answer must have; spaces and line ends around the answer never count."""

    kind: FormatKind
    text: str = ""
    """The schema as JSON, or the pattern; empty for the other kinds."""
    labels: tuple[str, ...] = ()  # the words; empty for the other kinds

    @property
    def shown(self) -> str:
        """The text of the format in plans."""
        match self.kind:
            case FormatKind.JSON:
                return "JSON"
            case FormatKind.SCHEMA:
                return f"a JSON Schema of {len(self.text)} characters"
            case FormatKind.REGEX:
                return f"/{self.text}/"
            case FormatKind.LABELS:
                return f"one of {', '.join(self.labels)}"


def check_format(form: ResponseFormat, text: str) -> bool | None:
    """Say whether a whole answer has the declared form, which is without a `flaw`.

    None where the text is longer than `MAX_TEXT`: not judged.
    """
    return None if len(text) > MAX_TEXT else _checker(form)(text.strip())


def flaw(form: ResponseFormat) -> str:
    """Return the fault of a format itself, as a sentence; empty: no fault."""
    if form.kind is FormatKind.LABELS and not form.labels:
        return "There is no label in it."
    if len(form.text) > MAX_SCHEMA:
        return f"It has more than {MAX_SCHEMA} characters."
    try:
        _checker(form)
    except ValueError as error:
        return " ".join(str(error).split("\n\n")[0].split()).removesuffix(".") + "."
    return ""


@lru_cache(maxsize=4096)
def _checker(form: ResponseFormat) -> Callable[[str], bool]:
    match form.kind:
        case FormatKind.JSON:
            return lambda text: isinstance(_value(text), dict | list)
        case FormatKind.SCHEMA:
            schema = _accepts(json.loads(form.text))
            return lambda text: (value := _value(text)) is not _NOTHING and schema(value)
        case FormatKind.REGEX:
            _accepts({"type": "string", "pattern": form.text})  # before it stands in brackets
            return _accepts({"type": "string", "pattern": f"^(?:{form.text})$"})
        case FormatKind.LABELS:
            return frozenset(form.labels).__contains__


def _accepts(schema: Any) -> Callable[[Any], bool]:
    if not isinstance(schema, dict | bool):
        raise ValueError("It is not a JSON Schema: an object is one")  # noqa: TRY004 (one kind)
    validator = jsonschema_rs.validator_for(
        schema, pattern_options=jsonschema_rs.RegexOptions(), retriever=_fetch_nothing
    )

    def accepts(value: Any) -> bool:
        try:
            return bool(validator.is_valid(value))
        except (ValueError, RecursionError):  # half a character, or nested beyond reason
            return False

    return accepts


def _fetch_nothing(_: str) -> NoReturn:
    raise ValueError("a schema cannot refer to another file or host")


_NOTHING = object()


def _value(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return _NOTHING


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
