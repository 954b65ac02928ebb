"""Merges files into one tree: directories, overlays and `${…}` placeholders.

Every value keeps the place it comes from, through all three.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from fleet.codes import Sources, diagnostic, nearest, scalar_width
from fleet.config.yaml import Marks, Parsed, unmark
from fleet.errors import ConfigError, Diagnostic, Position

Path = tuple[str | int, ...]

COMPILED_FILE: Final = "config.yaml"
"""Name of the file that `fleetctl compile` may write among the declarations, for LiteLLM."""
COMPILED_LINE: Final = "# Compiled by fleetctl, which declares nothing by a file that begins so.\n"
"""First line of a compiled file. A file that begins with this line holds no declarations."""


@dataclass(frozen=True, slots=True)
class Tree(Mapping[str, str]):
    """The merged declarations; as a mapping, dotted path to `file:line:col`."""

    value: dict[str, Any]
    marks: Marks
    sources: Sources

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

    def __getitem__(self, dotted: str) -> str:
        steps = tuple(int(part) if part.isdecimal() else part for part in dotted.split("."))
        place, exact = self._find(steps)
        if place is None or not exact:
            raise KeyError(dotted)
        return str(place)

    def __iter__(self) -> Iterator[str]:
        return _paths(self.marks, "")

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def diagnostic(self, code: str, path: Path, detail: str, **more: Any) -> Diagnostic:
        """Return a diagnostic at the place of `path`, with the line of the file."""
        place = self.place(path, of_key=more.pop("of_key", False))
        line = self.sources.line(place) if place else ""
        width = scalar_width(line, place.column) if place else 1
        return diagnostic(code, detail, place, source=line, width=width, **more)


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
    twice: list[tuple[Path, Position, Position]] = []
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
                        at = (unmark(place[0], file), unmark(first[0], first[2]))
                        twice.append(((section, name), *at))
            else:
                first = marks[section]
                twice.append(((section,), unmark(entry[0], file), unmark(first[0], first[2])))
    if twice:
        raise ConfigError(*(_twice(*key, sources) for key in twice))
    return Tree(value, marks, sources)


def _own(entry: list[Any]) -> dict[str, Any]:
    """Return the marks of a section's names, with their files."""
    return {name: [*item, entry[2]] for name, item in entry[1].items()}


def _twice(path: Path, second: Position, first: Position, sources: Sources) -> Diagnostic:
    name = ".".join(map(str, path))
    line = sources.line(second)
    return diagnostic(
        "FC1002",
        f"`{name}` is declared in two files; neither of them wins.",
        second,
        source=line,
        width=scalar_width(line, second.column),
        also=(("first given at", first),),
        hint="Delete one, or move both parts into one file.",
    )


def overlay(tree: Tree, parsed: Parsed, file: str) -> Tree:
    """Lay an environment's file over the tree: maps merge, the rest replaces, null deletes.

    Raises:
        ConfigError: a null deletes what is not there.
    """
    layer = _Layer(file)
    value, marks = layer.lay((tree.value, tree.marks), (parsed.value, parsed.marks))
    if layer.lost:
        raise ConfigError(
            *(_lost(tree, unmark(entry[0], file), path) for path, entry in layer.lost)
        )
    return Tree(value, marks, tree.sources)


class _Layer:
    """Lays one file over maps and remembers what it deletes in vain."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.lost: list[tuple[Path, Any]] = []

    def lay(
        self, below: tuple[dict[str, Any], Marks], above: tuple[dict[str, Any], Marks], *path: str
    ) -> tuple[dict[str, Any], Marks]:
        """Merge values and marks of both maps; what changes is copied."""
        value, marks = dict(below[0]), dict(below[1])
        for key, new in above[0].items():
            entry = above[1][key]
            if new is None:
                if key not in value:
                    self.lost.append(((*path, key), entry))
                value.pop(key, None)
                marks.pop(key, None)
            elif isinstance(new, dict) and isinstance(value.get(key), dict):
                old = marks[key]
                lower = (value[key], old[1])
                value[key], child = self.lay(lower, (new, entry[1]), *path, key)
                marks[key] = [old[0], child, *old[2:]]
            else:
                value[key] = _without_nulls(new)
                marks[key] = [entry[0], entry[1], self.file]
        return value, marks


def _lost(tree: Tree, place: Position, path: Path) -> Diagnostic:
    around: Any = tree.value
    for step in path[:-1]:
        around = around.get(step) if isinstance(around, dict) else None
    choices = sorted(around) if isinstance(around, dict) else []
    line = tree.sources.line(place)
    return diagnostic(
        "FC1023",
        f"`{'.'.join(map(str, path))}: null` deletes a key that no file gives.",
        place,
        source=line,
        width=scalar_width(line, place.column),
        hint=nearest(str(path[-1]), tuple(choices)) or "Delete the line.",
    )


def _without_nulls(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {key: _without_nulls(item) for key, item in value.items() if item is not None}


_PLACEHOLDER = re.compile(r"\$\$\{|\$\{([^{}]*)(\}?)")
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

    def fill(text: str, number: int) -> str:
        def one(match: re.Match[str]) -> str:
            if match.group() == "$${":
                return "${"
            name = _NAME.fullmatch(match[1]) if match[2] else None
            values = variables if name and name[1] == "var." else environment
            if name and name[2] in values:
                return values[name[2]]
            problems.append(_unfilled(match, name, unmark(number, file), variables, sources))
            return match.group()

        return _PLACEHOLDER.sub(one, text)

    def walk(value: Any, marks: Marks) -> Any:
        match value:
            case str() if "${" in value:
                return fill(value, marks)
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


def _unfilled(
    match: re.Match[str],
    name: re.Match[str] | None,
    place: Position,
    variables: Mapping[str, str],
    sources: Sources,
) -> Diagnostic:
    line = sources.line(place)
    width = scalar_width(line, place.column)
    if name is None:
        detail = f"`{match.group()[:40]}` is neither `${{var.NAME}}` nor `${{env:NAME}}`."
        hint = "To write `${` itself, double the dollar sign: `$${`."
        return diagnostic("FC1022", detail, place, source=line, width=width, hint=hint)
    if name[1] == "var.":
        near = nearest(name[2], tuple(sorted(variables)))
        detail = f"`{name[2]}` has no value in this run."
        hint = near or f"Give it with `--var {name[2]}=VALUE`."
        return diagnostic("FC1020", detail, place, source=line, width=width, hint=hint)
    detail = f"The environment holds no `{name[2]}`."
    hint = f"Set it: `export {name[2]}=VALUE`."
    return diagnostic("FC1021", detail, place, source=line, width=width, hint=hint)
