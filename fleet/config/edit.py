"""Changes the text of a YAML file: adds an entry, sets a value, puts fields in order.

A result is read back, and returned only where it means the wanted values.
"""

import json
import re
from collections.abc import Iterator
from copy import deepcopy
from textwrap import indent
from typing import Any

from fleet.config.files.validate import model_at
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


Path = tuple[str, ...]
Replacement = tuple[int, int, str]


def format_text(text: str, file: str) -> str:
    """Return the canonical form of a file's text. Idempotent.

    Raises:
        ConfigError: the text cannot be read.
    """
    value = parse(text, file).value
    clean = text.removeprefix("\ufeff").replace("\r\n", "\n").rstrip() + "\n"
    try:
        done = _reorder(_respace(clean))
        for _ in range(3):  # a moved line may leave blank lines behind
            again = _reorder(_respace(done))
            if again == done:
                break
            done = again
        kept = sorted(comment_lines(done)) == sorted(comment_lines(clean))
        return done if kept and parse(done, file).value == value else text
    except ConfigError:
        return text


def comment_lines(text: str) -> list[str]:
    """Return all comments of a text, in order."""
    return [line[at:].rstrip() for line, at, _ in _lines(text) if at >= 0]


def _scalars(node: Any) -> Iterator[Any]:
    if node.id == "scalar":
        yield node
    for child in node.value if node.id != "scalar" else ():
        for inner in child if isinstance(child, tuple) else (child,):
            yield from _scalars(inner)


def _lines(text: str) -> Iterator[tuple[str, int, bool]]:
    """Yield the lines with the column of their comment, or -1, and whether a scalar spans the end.

    The inside of a scalar is never layout.
    """
    scalars = {(node.start_mark.index, node.end_mark.index) for node in _scalars(compose(text))}
    spans = iter([*sorted(scalars), (len(text) + 1, len(text) + 1)])
    start, end = next(spans)
    offset = 0
    for line in text.split("\n"):
        column = -1
        for match in re.finditer(r"(?:^|(?<=\s))#", line):
            at = offset + match.start()
            while end <= at:
                start, end = next(spans)
            if at < start:
                column = match.start()
                break
        offset += len(line)
        while end <= offset:
            start, end = next(spans)
        yield line, column, start < offset
        offset += 1


def _respace(text: str) -> str:
    """Put quotes, colons, flow collections, comments and line ends into canonical form."""
    for start, end, new in sorted(_replacements(compose(text), text), reverse=True):
        text = text[:start] + new + text[end:]
    lines = []
    for line, at, inside in _lines(text):
        if at > 0 and line[:at].strip():
            line = f"{line[:at].rstrip()}  {line[at:]}"  # noqa: PLW2901 (the line, respaced)
        lines.append(line if inside else line.rstrip())
    return "\n".join(lines)


def _replacements(node: Any, text: str) -> Iterator[Replacement]:
    start, end = node.start_mark.index, node.end_mark.index
    if node.id == "scalar":
        yield from _changed(start, end, _requoted(node, text), text)
    elif node.flow_style:
        if "\n" not in text[start:end] and "#" not in text[start:end]:
            yield from _changed(start, end, _flow(node, text), text)
    elif node.id == "mapping":
        for key, value in node.value:
            gap = key.end_mark.index, value.start_mark.index
            if re.fullmatch(r"[ ]*:[ ]+", text[slice(*gap)]):
                yield from _changed(*gap, ": ", text)
            yield from _replacements(key, text)
            yield from _replacements(value, text)
    else:
        for item in node.value:
            yield from _replacements(item, text)


def _changed(start: int, end: int, new: str | None, text: str) -> Iterator[Replacement]:
    if new is not None and new != text[start:end]:
        yield start, end, new


def _requoted(node: Any, text: str) -> str:
    raw = text[node.start_mark.index : node.end_mark.index]
    if node.style == "'" and not re.search(r"[\\\"\n]", raw) and "'" not in raw[1:-1]:
        return f'"{raw[1:-1]}"'
    return raw


def _flow(node: Any, text: str) -> str | None:
    """Return a flow collection on a single line; None: more than plain nodes."""
    if node.id == "scalar":
        return _requoted(node, text) or None
    entries: list[str] = []
    for child in node.value:
        nodes = child if isinstance(child, tuple) else (child,)
        shown = [line for inner in nodes if (line := _flow(inner, text)) is not None]
        if len(shown) < len(nodes):
            return None
        entries.append(": ".join(shown))
    opened, closed = "{}" if node.id == "mapping" else "[]"
    return f"{opened}{', '.join(entries)}{closed}"


def _reorder(text: str) -> str:
    """Put the keys of every block map with a model into the model's order."""
    lines = text.rstrip("\n").split("\n")
    done = _ordered(compose(text), lines, 0, len(lines), ())
    return "\n".join(done).strip("\n") + "\n"


def _ordered(node: Any, lines: list[str], start: int, end: int, path: Path) -> list[str]:
    """Return the lines from `start` to `end`, which hold exactly the block map `node`."""
    keys = [key.start_mark for key, _ in node.value]
    if any(lines[mark.line][: mark.column].strip() for mark in keys) or not keys:
        return lines[start:end]
    begins = [_lead(lines, mark.line, start, mark.column) for mark in keys]
    footer: list[str] = []
    if not path:
        begins[0] += _header(lines, begins[0], keys[0].line)
        last = _lead(lines, end, keys[-1].line + 1, keys[-1].column)
        footer = [line for line in lines[last:end] if line.strip()]
        end = last
    ordered = lines[start : begins[0]]
    blocks: list[tuple[int, bool, list[str]]] = []
    model = model_at(path)
    order = {name: position for position, name in enumerate(model.model_fields)} if model else {}
    for position, (key, value) in enumerate(node.value):
        stop = begins[position + 1] if position + 1 < len(begins) else end
        first = keys[position].line
        body = lines[first:stop]
        if value.id == "mapping" and not value.flow_style and value.start_mark.line > first:
            inner = _ordered(value, lines, first + 1, stop, (*path, key.value))
            body = [lines[first], *inner]
        while len(body) > 1 and not body[-1].strip():  # the next key brings its own blank lines
            del body[-1]
        block = [*lines[begins[position] : first], *body]
        blocks.append((order.get(key.value, len(order)), len(body) > 1, block))
    if order:
        blocks.sort(key=lambda block: block[0])
    apart = False
    for position, (_, long, block) in enumerate(blocks):
        while not block[0].strip() and (position == 0 or not path):
            del block[0]
        if not path and position and (apart or long or block[0].startswith("#")):
            ordered.append("")
        ordered += block
        apart = long
    return [*ordered, *([""] if footer else []), *footer]


def _lead(lines: list[str], line: int, floor: int, column: int) -> int:
    """Return the first of the comment and blank lines that belong to the key at `line`."""
    first = line
    while first > floor:
        above = lines[first - 1]
        stripped = above.lstrip()
        if stripped and (not stripped.startswith("#") or len(above) - len(stripped) > column):
            break
        first -= 1
    return first


def _header(lines: list[str], first: int, line: int) -> int:
    """Return how many lines above the first key are the file's own: up to a blank line."""
    for position in range(line - 1, first - 1, -1):
        if not lines[position].strip():
            return position + 1 - first
    if line > first and lines[first].startswith(("# yaml-language-server", "#!")):
        return 1
    return 0
