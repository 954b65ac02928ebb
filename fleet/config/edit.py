"""Adds an entry or sets a value in a YAML file; every other byte of the text stays.

A result is read back, and returned only where it means the wanted values.
"""

import json
import re
from copy import deepcopy
from textwrap import indent
from typing import Any

from fleet.config.files.yaml import compose, parse
from fleet.errors import ConfigError

_STEP = "  "


def add_entry(text: str, file: str, path: tuple[str, ...], entry: str) -> str | None:
    """Return the text with an entry added at the end of the map at `path`.

    `entry` is YAML, a key with its value, not indented, with a newline at the end. Missing keys of
    `path` are added. None: the map is written in a single line (`{a: …}`), in which an entry of
    several lines has no place.

    Raises:
        ConfigError: the text cannot be read.
    """
    inner = intended = deepcopy(parse(text, file).value)
    for step in path:
        if inner.get(step) is None:
            inner[step] = {}
        inner = inner[step]
        if not isinstance(inner, dict):
            return None
    inner.update(parse(entry, file).value)
    return _meaning(intended, _with_entry(text, path, entry), file)


def _meaning(intended: Any, edited: str | None, file: str) -> str | None:
    """Return an edited text that means the intended values, else None."""
    try:
        return edited if edited is not None and parse(edited, file).value == intended else None
    except ConfigError:
        return None


def _with_entry(text: str, path: tuple[str, ...], entry: str) -> str | None:
    parent, node = None, compose(text)
    for depth, step in enumerate(path):
        pair = next((pair for pair in node.value if pair[0].value == step), None)
        if pair is None:
            entry = _nested(path[depth:], entry)
            break
        parent, node = pair
        if _is_empty(node):
            entry = _nested(path[depth + 1 :], entry)
            break
    if parent is not None and _is_empty(node):  # nothing, or `{}`: a block below its key
        if node.id == "mapping":
            text = text[: node.start_mark.index].rstrip(" ") + text[node.end_mark.index :]
        return _insert(text, parent.end_mark.line + 1, parent.start_mark.column + len(_STEP), entry)
    if node.id != "mapping" or node.flow_style:
        return None
    column = node.value[0][0].start_mark.column
    lines = text.splitlines(keepends=True)
    line = _end_line(*node.value[-1])
    belongs = re.compile(rf" {{{column + 1},}}#")  # a comment that is indented below the entry
    while line < len(lines) and belongs.match(lines[line]):
        line += 1
    return _insert(text, line, column, entry)


def _insert(text: str, line: int, column: int, entry: str) -> str:
    """Return the text with an entry before a line, counted from 0, indented to a column."""
    newline = "\r\n" if "\r\n" in text else "\n"
    lines = text.splitlines(keepends=True)
    before, after = lines[:line], lines[line:]
    if before and not before[-1].endswith("\n"):
        before[-1] += newline
    new = [f"{' ' * column}{own}{newline}" if own else newline for own in entry.splitlines()]
    return "".join([*before, *new, *after])


def _is_empty(node: Any) -> bool:
    return not node.value or (node.id == "scalar" and node.value in {"~", "null"})


def _nested(path: tuple[str, ...], entry: str) -> str:
    for step in reversed(path):
        entry = f"{step}:\n{indent(entry, _STEP)}"
    return entry


def _end_line(key: Any, value: Any) -> int:
    """Return the number, from 0, of the first line after an entry."""
    node = value
    while node.id != "scalar" and not node.flow_style and node.value:
        last = node.value[-1]
        key, node = last if isinstance(last, tuple) else (last, last)
    mark = node.end_mark if node.value else key.end_mark
    block_text = node.id == "scalar" and node.style in {"|", ">"}
    return int(mark.line) if block_text and mark.column == 0 else int(mark.line) + 1


def set_value(text: str, file: str, path: tuple[str, ...], value: str) -> str | None:
    """Return the text with the scalar at `path` replaced by a value in double quotes.

    None: there is no plain or quoted scalar at `path`.

    Raises:
        ConfigError: the text cannot be read.
    """
    intended = deepcopy(parse(text, file).value)
    node, inner = compose(text), intended
    for step in path:
        pairs = node.value if node.id == "mapping" else ()
        node = next((pair for key, pair in pairs if key.value == step), None)
        if node is None:
            return None
    if node.id != "scalar" or node.style in {"|", ">"}:
        return None
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    start, end = node.start_mark.index, node.end_mark.index
    quoted = json.dumps(value, ensure_ascii=False)
    return _meaning(intended, f"{text[:start]}{quoted}{text[end:]}", file)
