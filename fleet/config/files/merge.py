"""Merges files into a tree, every value with its place: directories, overlays, placeholders."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from fleet.codes import Sources, diagnostic, hide, nearest, scalar_width
from fleet.config.files.yaml import Marks, Parsed, unmark
from fleet.errors import ConfigError, Diagnostic, Position


class Filled(str):
    """A text in which values of the environment were filled."""

    __slots__ = ("written",)
    written: str
    """The text as in the file, with `${env:NAME}` in the place of the values."""

    @classmethod
    def of(cls, text: str, written: str) -> str:
        """Return a text with its written form, where values of the environment are in the text."""
        if "${env:" not in written:
            return text
        made = cls(text)
        made.written = written
        return made


Path = tuple[str | int, ...]
"""Keys and positions that lead to a value of the declarations."""
COMPILED_FILE: Final = "config.yaml"  # for LiteLLM
COMPILED_FILES: Final = frozenset((COMPILED_FILE, "servers.yaml", "routes.yaml"))
"""Names of files that `fleetctl compile` may write among the declarations."""
COMPILED_LINE: Final = "# Compiled by fleetctl, which declares nothing by a file that begins so.\n"
"""First line of a compiled file. A file that begins with this line holds no declarations."""


def value_at(value: Any, path: Path) -> Any:
    """Return the value at a path of maps; None: there is no value."""
    for step in path:
        value = value.get(step) if isinstance(value, dict) else None
    return value


def quoting(
    sources: Sources, code: str, detail: str, place: Position | None, **more: Any
) -> Diagnostic:
    """Return a diagnostic with the line at its place."""
    line, hidden = sources.quoted(place) if place else ("", ())
    width = scalar_width(line, place.column) if place else 1
    return diagnostic(code, hide(detail, hidden), place, source=line, width=width, **more)


@dataclass(frozen=True, slots=True)
class Tree(Mapping[str, Position]):
    """The merged declarations; as a mapping, dotted path to place."""

    value: dict[str, Any]
    marks: Marks
    sources: Sources
    called: Mapping[str, str] = field(default_factory=dict)
    """Name in the files by dotted path, of resources that are renamed, such as `hosts.rack1`."""

    def place(self, path: Path, *, of_key: bool = False) -> Position | None:
        """Return where `path` is given, or else its nearest parent; None at the root."""
        return self._find(path, of_key=of_key)[0]

    def _find(self, path: Path, *, of_key: bool = False) -> tuple[Position | None, bool]:
        node, file, spot = self.marks, "", None
        for step in path:
            if isinstance(node, dict) and step in node:
                entry = node[step]
                file = entry[2] if len(entry) > 2 else file  # noqa: PLR2004 (see `Marks`)
                node = entry[1]
                spot = entry[0] if of_key or not isinstance(node, int) else node
            elif isinstance(node, list) and isinstance(step, int) and step < len(node):
                node = node[step]
                spot = _first(node) or spot
            else:
                return (unmark(spot, file) if spot else None), False
        return (unmark(spot, file) if spot else None), True

    def __getitem__(self, dotted: str) -> Position:
        steps = tuple(int(part) if part.isdecimal() else part for part in dotted.split("."))
        place, exact = self._find(steps)
        if place is None or not exact:
            raise KeyError(dotted)
        return place

    def __iter__(self) -> Iterator[str]:
        return _paths(self.marks, "")

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def diagnostic(self, code: str, path: Path, detail: str, *, hint: str = "") -> Diagnostic:
        """Return a diagnostic at the place of `path`, with the line of the file."""
        return quoting(self.sources, code, detail, self.place(path), hint=hint)


def _first(node: Marks) -> int | None:
    while isinstance(node, dict | list):
        if not node:
            return None
        node = next(iter(node.values()))[0] if isinstance(node, dict) else node[0]
    return int(node)


def _paths(node: Marks, prefix: str) -> Iterator[str]:
    if isinstance(node, dict):
        for key, entry in node.items():
            yield f"{prefix}{key}"
            yield from _paths(entry[1], f"{prefix}{key}.")


def merge_files(files: Mapping[str, Parsed], sources: Sources) -> Tree:
    """Merge the files of a project; a section may be spread over files, a name may not.

    Raises:
        ConfigError: the same key in two files; each is shown with both places.
    """
    value: dict[str, Any] = {}
    marks: dict[str, Any] = {}
    spread: set[str] = set()  # sections that come from several files
    twice: list[Diagnostic] = []

    for file in sorted(files):
        parsed = files[file]
        for section, content in parsed.value.items():
            entry = parsed.marks[section]
            if content is None:
                continue  # `gates:` with nothing below it
            if section not in value:
                value[section] = content
                marks[section] = [entry[0], entry[1], file]
            elif isinstance(content, dict) and isinstance(value[section], dict):
                if section not in spread:
                    spread.add(section)
                    value[section] = dict(value[section])
                    marks[section][1] = _own(marks[section])
                known = marks[section][1]
                for name, item in content.items():
                    place = [*entry[1][name][:2], file]
                    first = known.setdefault(name, place)
                    if first is place:
                        value[section][name] = item
                    else:
                        twice.append(_twice(f"{section}.{name}", place, first, sources))
            else:
                twice.append(_twice(section, [*entry[:2], file], marks[section], sources))
    if twice:
        raise ConfigError(*twice)
    return Tree(value, marks, sources)


def _twice(name: str, second: list[Any], first: list[Any], sources: Sources) -> Diagnostic:
    detail = f"`{name}` is declared in two files; neither of them wins."
    also = (("first given at", unmark(first[0], first[2])),)
    hint = "Delete one, or move both parts into one file."
    place = unmark(second[0], second[2])
    return quoting(sources, "FC1002", detail, place, also=also, hint=hint)


def _own(entry: list[Any]) -> dict[str, Any]:
    return {name: [*item, entry[2]] for name, item in entry[1].items()}


def overlay(tree: Tree, parsed: Parsed, file: str) -> Tree:
    """Lay an environment's file over the tree: maps merge, the rest replaces, null deletes.

    Raises:
        ConfigError: a null deletes a key that is not there.
    """
    lost: list[Diagnostic] = []
    merged = _lay(Parsed(tree.value, tree.marks), parsed, file, (), lost, tree)
    if lost:
        raise ConfigError(*lost)
    return Tree(merged.value, merged.marks, tree.sources)


def _lay(
    below: Parsed,
    above: Parsed,
    file: str,
    path: tuple[str, ...],
    lost: list[Diagnostic],
    tree: Tree,
) -> Parsed:
    """Merge values and marks of both maps; `lost` takes deletions of keys that are not there."""
    value, marks = dict(below.value), dict(below.marks)
    for key, new in above.value.items():
        entry = above.marks[key]
        if new is None:
            if key not in value:
                around = value_at(tree.value, path)
                choices = tuple(sorted(around)) if isinstance(around, dict) else ()
                dotted, place = ".".join((*path, key)), unmark(entry[0], file)
                detail = f"`{dotted}: null` deletes a key that no file gives."
                hint = nearest(key, choices) or "Delete the line."
                lost.append(quoting(tree.sources, "FC1023", detail, place, hint=hint))
            value.pop(key, None)
            marks.pop(key, None)
        elif isinstance(new, dict) and isinstance(value.get(key), dict):
            old = marks[key]
            lower, upper = Parsed(value[key], old[1]), Parsed(new, entry[1])
            child = _lay(lower, upper, file, (*path, key), lost, tree)
            value[key], marks[key] = child.value, [old[0], child.marks, *old[2:]]
        else:
            value[key] = _without_nulls(new)
            marks[key] = [entry[0], entry[1], file]
    return Parsed(value, marks)


def _without_nulls(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {key: _without_nulls(item) for key, item in value.items() if item is not None}


_PLACEHOLDER = re.compile(r"\$\$\{|\$\{([^{}]*)(\}?)")
_MOST_PUT_IN: Final = 4 << 20
"""Upper bound of characters that placeholders of a file put in."""
_MOST_PROBLEMS: Final = 100
"""Upper bound of placeholders of a file that are told to be wrong."""
_NAME = re.compile(r"(var\.|env:)([A-Za-z_][A-Za-z0-9_]*)")


def substitute(
    parsed: Parsed,
    file: str,
    variables: Mapping[str, str],
    environment: Mapping[str, str],
    sources: Sources,
) -> Parsed:
    """Replace `${var.NAME}` and `${env:NAME}` in the text of values; `$${` means `${`.

    Raises:
        ConfigError: a value is missing or a placeholder is malformed; all are named.
    """
    problems: list[Diagnostic] = []
    room = _MOST_PUT_IN

    def value_of(match: re.Match[str], number: int) -> str:
        nonlocal room
        if match.group() == "$${":
            return "${"
        name = _NAME.fullmatch(match[1]) if match[2] else None
        values = variables if name and name[1] == "var." else environment
        if name and name[2] in values:
            room -= len(values[name[2]])
            _require_room(room, unmark(number, file))
            sources.hold(match.group(), values[name[2]])
            return values[name[2]]
        code, detail, hint = _unfilled(match.group(), name, variables)
        problems.append(quoting(sources, code, detail, unmark(number, file), hint=hint))
        if len(problems) >= _MOST_PROBLEMS:
            raise ConfigError(*problems)
        return match.group()

    def walk(value: Any, marks: Marks) -> Any:
        match value:
            case str() if "${" in value:
                filled = _PLACEHOLDER.sub(lambda found: value_of(found, marks), value)
                return Filled.of(filled, value)
            case dict():
                return {key: walk(item, marks[key][1]) for key, item in value.items()}
            case list():
                return [walk(item, place) for item, place in zip(value, marks, strict=True)]
            case _:
                return value

    filled = walk(parsed.value, parsed.marks)
    if problems:
        raise ConfigError(*problems)
    return Parsed(filled, parsed.marks)


def from_environment(parsed: Parsed, filled: Parsed) -> Iterator[tuple[str, str, int]]:
    """Yield texts with `${env:NAME}`: as written, as `substitute` filled them, and their marks."""

    def walk(before: Any, after: Any, marks: Marks) -> Iterator[tuple[str, str, int]]:
        match before:
            case str() if "${env:" in before:
                yield before, after, marks
            case dict():
                for key, item in before.items():
                    yield from walk(item, after[key], marks[key][1])
            case list():
                for items in zip(before, after, marks, strict=True):
                    yield from walk(*items)
            case _:
                pass

    yield from walk(parsed.value, filled.value, parsed.marks)


def _require_room(room: int, place: Position) -> None:
    if room < 0:
        detail = f"The values of `{place.file}` would have over {_MOST_PUT_IN} characters."
        raise ConfigError(diagnostic("FC1013", detail, place))


def _unfilled(
    text: str, name: re.Match[str] | None, variables: Mapping[str, str]
) -> tuple[str, str, str]:
    if name is None:
        detail = f"`{text[:40]}` is neither `${{var.NAME}}` nor `${{env:NAME}}`."
        return "FC1022", detail, "To write `${` itself, double the dollar sign: `$${`."
    if name[1] == "var.":
        near = nearest(name[2], tuple(sorted(variables)))
        hint = near or f"Give it with `--var {name[2]}=VALUE`."
        return "FC1020", f"`{name[2]}` has no value in this run.", hint
    hint = f"Set it: `export {name[2]}=VALUE`."
    return "FC1021", f"The environment holds no `{name[2]}`.", hint
