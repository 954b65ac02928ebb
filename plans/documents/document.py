"""Write and read a JSON document: a version, an entry a line for readable diffs, plain errors."""

import json
import re
from collections.abc import Mapping
from math import isfinite
from typing import Any, NoReturn

from fleet.codec import canonical_json
from fleet.errors import FleetError

EXPANDED = 2
"""Upper bound of nesting that gets lines of their own; deeper values stand on the same line."""

_VERSION = re.compile(r"([0-9]+)\.([0-9]+)")


def write(document: Mapping[str, Any]) -> str:
    """Return a document as JSON with sorted keys, LF, and a line for every entry of a section."""
    return _write(document, "", EXPANDED) + "\n"


def _write(value: Any, indent: str, levels: int) -> str:
    inner = indent + " "
    if levels < 0 or not value or not isinstance(value, dict | list):
        return canonical_json(value)
    if isinstance(value, dict):
        body = [
            f"{inner}{canonical_json(str(key))}: {_write(value[key], inner, levels - 1)}"
            for key in sorted(value)
        ]
        return "{\n" + ",\n".join(body) + f"\n{indent}}}"
    if not any(isinstance(item, dict | list) for item in value) and levels == 0:
        return canonical_json(value)
    return "[\n" + ",\n".join(f"{inner}{canonical_json(item)}" for item in value) + f"\n{indent}]"


def read(
    text: str, name: str, version: tuple[int, int], command: str, file: str = ""
) -> tuple[Any, bool]:
    """Return the document in a text, and whether a later minor version wrote the document.

    Args:
        text: The file's content.
        name: Required value of the field `format`.
        version: Newest version that fleetctl reads; a greater major is refused.
        command: Command that writes such a file, for errors.
        file: Name of the file, for errors; empty: unknown.

    Raises:
        FleetError: FC5001 damaged, FC5002 another kind of file, FC5003 a later major.
    """
    try:
        document = json.loads(text, parse_constant=_no_constant, parse_float=_finite)
        if "\\u" in text:
            canonical_json(document).encode()  # an escape can make half a character
    except (ValueError, RecursionError) as error:
        this = f"`{file}`" if file else "This"
        detail = f"{this} is not whole JSON: {_reason(error)}. It may have been cut off or edited."
        raise FleetError.of(
            "FC5001", "File is damaged", detail, hint="make it again", command=command
        ) from None
    if not isinstance(document, dict) or document.get("format") != name:
        found = document.get("format") if isinstance(document, dict) else None
        whose = f"Field `format` of `{file}`" if file else "Its field `format`"
        detail = f"{whose} should say `{name}` and " + (
            f"says {found!r:.60}." if found else "is missing."
        )
        hint = "give the file that this command writes"
        raise FleetError.of("FC5002", "File is of another kind", detail, hint=hint, command=command)
    match = _VERSION.fullmatch(str(document.get("format_version")))
    if match is None or int(match[1]) != version[0]:
        newer = match is not None and int(match[1]) > version[0]
        upgrade = "upgrade fleetctl here to the release that wrote it"
        raise FleetError.of(
            "FC5003",
            "File has a format version that this fleetctl does not read",
            f"This `{name}` file says {document.get('format_version')!r:.40}; "
            f"this fleetctl reads {version[0]}.x. Acting on half of a file is unsafe.",
            hint=f"{upgrade if newer else 'use the fleetctl that wrote it'}, or make the file "
            "again",
            command=command,
        )
    return document, int(match[2]) > version[1]


def _finite(text: str) -> float:
    number = float(text)
    return number if isfinite(number) else _no_constant(text)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")


def _reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg.lower()} at line {error.lineno}, column {error.colno}"
    if isinstance(error, UnicodeError):
        return "it holds half a character"
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
