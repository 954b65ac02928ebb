"""Bounds YAML: characters, values, depth; finds the texts that are left to ruamel.yaml.

Reading a value costs 4 microseconds and 400 bytes, in ruamel.yaml ten times that. A text is
refused by counts of characters that begin or end values, before any parser sees the text.
"""

import re
from collections.abc import Mapping
from typing import Final, NoReturn

from fleet.codes import diagnostic
from fleet.errors import ConfigError, Position

MAX_CHARACTERS: Final = 32 << 20
"""Upper bound of a file's characters."""
MAX_VALUES: Final = 150_000
"""Upper bound of a file's keys, values and items, by the estimate of `_values`."""
MAX_DEPTH: Final = 60
"""Upper bound of the nesting of maps and lists."""
PROJECT_CHARACTERS: Final = 64 << 20
PROJECT_VALUES: Final = 500_000
"""Upper bounds of all files of a project together; 10,000 adapters have 310,000 values."""
ODD_CHARACTERS: Final = 64 << 10
PROJECT_ODD_CHARACTERS: Final = 256 << 10
"""Upper bounds of a file, and of all files together, that only ruamel.yaml can read."""
_NO_FAST_DEPTH: Final = 4 * MAX_DEPTH
"""Upper bound of open brackets, those in texts too, of a file for ruamel.yaml."""

_ODD: Final = (
    re.compile(
        "[^\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
    ),
    re.compile(r"[&*](?<![^\s\[{,:?-][&*])[^\s,\]}]"),
    re.compile(r"!(?<![^\s\[{,:?-]!)\S"),
    re.compile(r"\n(?:%|---|\.\.\.| {200}| *\?(?:\s|\Z))"),
    re.compile(r"[-?:](?<![-?:] [-?:]) +(?:[-?:] +){39}"),
    re.compile(r"[\[{](?: *[\[{]){39}"),
    re.compile(r"[|>][-+0-9]*#"),
)
"""Patterns of texts for ruamel.yaml, which begin with a line break here: odd characters, anchors,
aliases and tags, directives and documents, deep nesting, and a comment beside a block's head."""
_START: Final = re.compile(r"(?:[ ]*(?:#.*)?\n){0,1000}---(?=[ ]*\n)")
"""Begin of a text's only document; the C parser and ruamel.yaml agree on the rest."""


def without_start(text: str) -> str:
    """Return the text with spaces in the place of the `---` above its content."""
    if (found := _START.match(text)) is None:
        return text
    return f"{text[: found.end() - 3]}   {text[found.end() :]}"


def odd_place(text: str) -> int | None:
    """Return the position of the first thing that only ruamel.yaml shall judge; None: none."""
    behind = f"\n{text}"
    found = [match.start() for pattern in _ODD if (match := pattern.search(behind))]
    if not found and text.count("[") + text.count("{") > MAX_DEPTH and _depth(text) > MAX_DEPTH:
        return 0
    return max(0, min(found) - 1) if found else None


def check_file(text: str, file: str) -> None:
    """Refuse a text that is too large to read.

    Raises:
        ConfigError: FC1013.
    """
    if len(text) > MAX_CHARACTERS:
        _refuse(f"`{file}` has {len(text)} characters; the limit is {MAX_CHARACTERS}.", file)
    if len(text) > MAX_VALUES and (values := _values(text)) > MAX_VALUES:
        _refuse(f"`{file}` has about {values} values; the limit is {MAX_VALUES}.", file)


def check_odd(text: str, file: str) -> None:
    """Refuse a text that is too large or too deep for ruamel.yaml.

    Raises:
        ConfigError: FC1013 or FC1313.
    """
    if len(text) > ODD_CHARACTERS:
        at = odd_place(text) or 0
        line = text.count("\n", 0, at) + 1
        place = Position(file, line, at - text.rfind("\n", 0, at))
        detail = (
            f"`{file}` has {len(text)} characters. Anchors, aliases, tags, tabs, odd numbers and "
            f"documents are read in files of up to {ODD_CHARACTERS}: they take long to read."
        )
        hint = "Write the values out, or move the part to a file of its own."
        raise ConfigError(diagnostic("FC1313", detail, place, hint=hint))
    if _depth(text) > _NO_FAST_DEPTH:
        refuse_depth(file)


def check_project(texts: Mapping[str, str]) -> None:
    """Refuse files that together are too large to read.

    Raises:
        ConfigError: FC1013 or FC1313.
    """
    total = sum(map(len, texts.values()))
    if total <= PROJECT_ODD_CHARACTERS:
        return
    file = max(texts, key=lambda name: len(texts[name]))
    if total > PROJECT_CHARACTERS:
        _refuse(f"The files have {total} characters; the limit is {PROJECT_CHARACTERS}.", file)
    if (values := sum(map(_values, texts.values()))) > PROJECT_VALUES:
        _refuse(f"The files have about {values} values; the limit is {PROJECT_VALUES}.", file)
    odd = {
        name: len(text)
        for name, text in texts.items()
        if len(text) <= ODD_CHARACTERS and odd_place(without_start(text)) is not None
    }
    if sum(odd.values()) > PROJECT_ODD_CHARACTERS:
        detail = (
            f"{len(odd)} files of {sum(odd.values())} characters hold anchors, aliases, tags, tabs "
            f"or several documents. Such files may have {PROJECT_ODD_CHARACTERS} together: they "
            "take long to read."
        )
        place = Position(max(odd, key=lambda name: odd[name]), 1, 1)
        raise ConfigError(diagnostic("FC1313", detail, place, hint="Write the values out."))


def refuse_depth(file: str) -> NoReturn:
    """Refuse a text of maps and lists nested too deeply.

    Raises:
        ConfigError: FC1013.
    """
    _refuse(f"`{file}` is nested more than {MAX_DEPTH} levels deep.", file)


def _refuse(detail: str, file: str) -> NoReturn:
    hint = "A file per client is usual."
    raise ConfigError(diagnostic("FC1013", detail, Position(file, 1, 1), hint=hint))


def _values(text: str) -> int:
    """Return an upper bound of the keys and values of a text."""
    return sum(map(text.count, ("\n", "\r", ",", ":", "[", "{", "- ", "? "))) + 1


def _depth(text: str) -> int:
    """Return how many brackets are open at most, those in texts and comments too."""
    deepest = depth = 0
    for found in re.finditer(r"[\[\]{}]", text):
        depth = depth + 1 if found[0] in "[{" else max(0, depth - 1)
        deepest = max(deepest, depth)
    return deepest
