"""Adds an entry to a YAML file; the rest of the text stays as it is, byte for byte."""

import json
from copy import deepcopy
from typing import Any

from fleet.config.yaml import compose, parse
from fleet.errors import ConfigError

_STEP = "  "


def add_entry(text: str, file: str, path: tuple[str, ...], entry: str) -> str | None:
    """Return the text with an entry added at the end of the map at `path`.

    Args:
        text: The file's text.
        file: Its name, for errors.
        path: Keys that lead to the map; those that are missing, or empty, are added.
        entry: The entry as YAML, one key with its value, not indented; ends with a newline.

    Returns:
        None where the map is written in one line (`{a: …}`), so that an entry of several lines
        has no place in it. What is returned has been read back and means what it should.

    Raises:
        ConfigError: the text cannot be read.
    """
    wanted = deepcopy(parse(text, file).value)
    inner = wanted
    for step in path:
        if inner.get(step) is None:
            inner[step] = {}
        inner = inner[step]
        if not isinstance(inner, dict):
            return None
    inner.update(parse(entry, file).value)
    made = _splice(text, compose(text), path, entry)
    try:
        return made if made is not None and parse(made, file).value == wanted else None
    except ConfigError:
        return None


def _splice(text: str, root: Any, path: tuple[str, ...], entry: str) -> str | None:
    parent, node = None, root
    for depth, step in enumerate(path):
        found = next((pair for pair in node.value if pair[0].value == step), None)
        if found is None:
            entry = _nested(path[depth:], entry)
            break
        parent, node = found
        if _is_empty(node):
            entry = _nested(path[depth + 1 :], entry)
            break
    if parent is not None and _is_empty(node):
        return _fill(text, parent, node, entry)
    if node.id != "mapping" or node.flow_style:
        return None
    column = node.value[0][0].start_mark.column
    lines = text.splitlines(keepends=True)
    at = _end_line(*node.value[-1])
    while at < len(lines) and _is_comment_below(lines[at], column):
        at += 1
    return _join(lines[:at], _indented(entry, column, text), lines[at:], text)


def _fill(text: str, key: Any, node: Any, entry: str) -> str:
    """Replace nothing, or `{}`, by a block below its key."""
    start, end = node.start_mark.index, node.end_mark.index
    if node.id == "mapping":
        text = text[:start].rstrip(" ") + text[end:]
    lines = text.splitlines(keepends=True)
    at = key.end_mark.line + 1
    column = key.start_mark.column + len(_STEP)
    return _join(lines[:at], _indented(entry, column, text), lines[at:], text)


def _is_empty(node: Any) -> bool:
    return not node.value or (node.id == "scalar" and node.value in {"~", "null"})


def _nested(path: tuple[str, ...], entry: str) -> str:
    for step in reversed(path):
        entry = f"{step}:\n" + "".join(f"{_STEP}{line}" for line in entry.splitlines(keepends=True))
    return entry


def _indented(entry: str, column: int, text: str) -> list[str]:
    newline = "\r\n" if "\r\n" in text else "\n"
    return [f"{' ' * column}{line}{newline}" if line else newline for line in entry.splitlines()]


def _join(before: list[str], new: list[str], after: list[str], text: str) -> str:
    if before and not before[-1].endswith("\n"):
        before[-1] += "\r\n" if "\r\n" in text else "\n"
    return "".join([*before, *new, *after])


def _end_line(key: Any, value: Any) -> int:
    """Return the number, from 0, of the first line after an entry."""
    node = value
    while node.id != "scalar" and not node.flow_style and node.value:
        last = node.value[-1]
        key, node = last if isinstance(last, tuple) else (last, last)
    mark = node.end_mark if node.value else key.end_mark
    block_text = node.id == "scalar" and node.style in {"|", ">"}
    return int(mark.line) if block_text and mark.column == 0 else int(mark.line) + 1


def _is_comment_below(line: str, column: int) -> bool:
    """Say whether a line is a comment that belongs to the entry above."""
    stripped = line.lstrip(" ")
    return stripped.startswith("#") and len(line) - len(stripped) > column


def set_value(text: str, file: str, path: tuple[str, ...], value: str) -> str | None:
    """Return the text with the scalar at `path` replaced, every other byte kept.

    Args:
        text: The file's text.
        file: Its name, for errors.
        path: Keys that lead to the scalar.
        value: The new one, a text; it is written in double quotes.

    Returns:
        None where there is no plain or quoted scalar at `path`. What is returned has been read
        back and means what it should.

    Raises:
        ConfigError: the text cannot be read.
    """
    wanted = deepcopy(parse(text, file).value)
    node, inner = compose(text), wanted
    for step in path:
        pairs = node.value if node.id == "mapping" else ()
        node = next((pair for key, pair in pairs if key.value == step), None)
        if node is None:
            return None
    for step in path[:-1]:
        inner = inner[step]
    if node.id != "scalar" or node.style in {"|", ">"}:
        return None
    inner[path[-1]] = value
    start, end = node.start_mark.index, node.end_mark.index
    made = f"{text[:start]}{json.dumps(value, ensure_ascii=False)}{text[end:]}"
    try:
        return made if parse(made, file).value == wanted else None
    except ConfigError:
        return None
