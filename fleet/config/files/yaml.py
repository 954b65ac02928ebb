"""Parses YAML text to values with their places. The only home of ruamel.yaml.

YAML 1.2 as ruamel.yaml reads it decides what a text means. Because ruamel is slow, a text goes
through PyYAML's C parser first, with the resolution of plain scalars done here; whatever is
unusual there (anchors, tags, merge keys, tabs, odd numbers, any error) is left to ruamel. A
property test holds the two equal, values and places.
"""

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from yaml.cyaml import CParser  # type: ignore[attr-defined]  # its stubs list it as private
from yaml.error import YAMLError as FastYAMLError

from fleet.codes import diagnostic, hide, scalar_width, without_secrets
from fleet.config.files.yaml_limits import (
    MAX_DEPTH,
    MAX_VALUES,
    ODD_CHARACTERS,
    check_file,
    check_odd,
    odd_place,
    refuse_depth,
    without_start,
)
from fleet.errors import ConfigError, Diagnostic, Position


def quoting(
    text: str, place: Position, code: str, detail: str, *, wide: bool = True, **more: Any
) -> Diagnostic:
    """Return a diagnostic that quotes the line at `place`; `wide` underlines the scalar."""
    source, hidden = without_secrets(_lines(text), place.line, place.column)
    width = scalar_width(source, place.column) if wide else 1
    return diagnostic(code, hide(detail, hidden), place, source=source, width=width, **more)


@lru_cache(maxsize=1)
def _lines(text: str) -> list[str]:
    """Split a text a single time: a file may have many problems."""
    return text.splitlines()


def explain(error: Exception, text: str, file: str) -> Diagnostic:
    """Return the diagnostic of an error of either YAML library."""
    position = getattr(error, "position", None)
    if position is not None:
        before = text[:position]
        place = Position(file, before.count("\n") + 1, len(before) - before.rfind("\n"))
        detail = f"The character U+{ord(text[position]):04X} must not stand in YAML."
        hint = "Delete it; it is invisible in most editors."
        return quoting(text, place, "FC1001", detail, hint=hint)
    spot = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    problem = str(getattr(error, "problem", None) or "this is not YAML")
    context, start = getattr(error, "context", None), getattr(error, "context_mark", None)
    if spot is None:
        return diagnostic("FC1001", f"{problem}.", Position(file, 1, 1))
    place = Position(file, spot.line + 1, spot.column + 1)
    if getattr(error, "note", None) == "unsupported":
        detail = f"The {problem} has no meaning in a declaration."
        return quoting(text, place, "FC1014", detail, hint="Delete the tag.")
    if "'\\t'" in problem:
        detail = "YAML forbids tabs before a key or a list item; editors show them as spaces."
        return quoting(text, place, "FC1007", detail, hint="Use two spaces a level.", wide=False)
    if context == "expected a single document in the stream":
        detail = f"A second document begins with `---`; everything of `{file}` must be in one."
        return quoting(text, place, "FC1012", detail, hint="Delete the `---` line.", wide=False)
    also = (("began at", Position(file, start.line + 1, start.column + 1)),) if start else ()
    detail = f"{problem[:1].upper()}{problem[1:]}{f' {context}' if context else ''}."
    hint = next(remedy for part, remedy in _REMEDIES.items() if part in problem)
    line = _lines(text)[spot.line] if spot.line < len(_lines(text)) else ""
    if line[: spot.column].endswith("$") and line[spot.column : spot.column + 5] == "{env:":
        hint = 'Between braces, quote a variable: `"${env:NAME}"`.'
    return quoting(text, place, "FC1001", detail, hint=hint, also=also, wide=False)


_REMEDIES = {
    "mapping values are not allowed": "Quote a value that holds `: `, or check the indentation of "
    "this line.",
    "cannot start any token": "Quote the value.",
    "undefined alias": "Quote a value that begins with `*`.",
    "end of stream": "Close the quote or bracket that is open.",
    "stream end": "Close the quote or bracket that is open.",
    "": "Check the indentation, and that each quote and bracket is closed.",
}
"""Remedies by a part of the library's text; the first that fits holds."""


Marks = Any
"""Places beside values. A scalar has a number, see `unmark`; a list has a list of marks; a map has
a dict of `[mark of the key, marks of the value]`. A third item is the name of the file, where the
file differs from that of the map around it."""

_COLUMNS = 1 << 20
_MOST_DIGITS = 100
"""Upper bound of a whole number's digits."""
_PROBLEMS = 100
"""Upper bound of bad keys of a file that are told."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """The sections of a file, and the places of all keys and scalars."""

    value: dict[str, Any]
    marks: Marks


def unmark(number: int, file: str) -> Position:
    """Return the place that a mark stands for: line * _COLUMNS + column, both from 1."""
    return Position(file, *divmod(number, _COLUMNS))


def parse(text: str, file: str) -> Parsed:
    """Parse the text of a file.

    A byte order mark at the start of the text is ignored.

    Raises:
        ConfigError: not YAML, a key given twice, no map, or a feature that is not supported.
    """
    text = without_start(text.removeprefix("\ufeff"))
    check_file(text, file)
    try:
        return parse_fast(text, file)
    except _UnusualError:
        pass
    except (ConfigError, FastYAMLError) as error:
        if len(text) > ODD_CHARACTERS:  # ruamel.yaml words some errors better, and takes long
            known = isinstance(error, ConfigError)
            raise error if known else _explained(error, text, file) from None
    return parse_slow(text, file)


class _RefusedError(Exception):
    """YAML that ruamel.yaml reads and a declaration must not hold; has a YAML error's fields."""

    def __init__(self, problem: str, mark: Any, note: str = "") -> None:
        super().__init__(problem)
        self.problem, self.problem_mark, self.note = problem, mark, note


class _UnusualError(Exception):
    """The text holds something that only ruamel.yaml shall judge."""


_WORDS = {"": None, "~": None, "null": None, "Null": None, "NULL": None} | {
    word: value
    for name, value in (("true", True), ("false", False))
    for word in (name, name.title(), name.upper())
}
_INTEGER = re.compile(r"[-+]?[0-9]{1,100}")
_FLOAT = re.compile(r"[-+]?[0-9]{1,100}(?:\.[0-9]*(?:[eE][-+]?[0-9]+)?|[eE][-+]?[0-9]+)")
_ODD_NUMBER = re.compile(
    r"[-+]?(?:[0-9_]*\.?[0-9_]*(?:[eE][-+]?[0-9_]*)?|0[box][0-9a-fA-F_]*"
    r"|\.(?:inf|Inf|INF|nan|NaN|NAN))"
)
"""Texts that ruamel.yaml may read as numbers; `90d`, `1.2.3` and a date are none."""


class _Composer(CParser):
    """The C parser without resolution: a node's tag is None unless the text gives one."""

    def resolve(self, _kind: Any, _value: Any, _implicit: Any) -> None: ...
    def descend_resolver(self, _parent: Any, _index: Any) -> None: ...
    def ascend_resolver(self) -> None: ...


def compose(text: str) -> Any:
    """Return the root node with the spans of all nodes in `text`, for edits that keep the rest.

    Raises:
        ConfigError: `text` is not a map that could be edited this way.
    """
    parse(text, "")
    try:
        return _Composer(text).get_single_node()
    except (FastYAMLError, RecursionError):
        detail = "It holds YAML that is read and cannot be edited."
        raise ConfigError(diagnostic("FC1014", detail)) from None


def parse_fast(text: str, file: str) -> Parsed:
    """Read a file through the C parser; raises `_UnusualError` for a text left to ruamel."""
    if odd_place(text) is not None:
        raise _UnusualError
    return _build(_Composer(text).get_single_node(), _fast_scalar, file, text)


def _fast_scalar(node: Any) -> Any:
    value: str = node.value
    if node.tag is not None:
        raise _UnusualError
    if node.style:
        return value
    if value in _WORDS:
        return _WORDS[value]
    if value[0] in "+-.0123456789":
        if _INTEGER.fullmatch(value):
            return int(value)
        if _FLOAT.fullmatch(value):
            return float(value)
        if _ODD_NUMBER.fullmatch(value):
            raise _UnusualError
    elif value in {"<<", "="}:
        raise _UnusualError
    return value


def _explained(error: Exception, text: str, file: str) -> ConfigError:
    return ConfigError(explain(error, text, file))


def parse_slow(text: str, file: str) -> Parsed:
    """Read a file through ruamel.yaml, whose judgement is final."""
    check_odd(text, file)
    if directive := re.match(r"(?:[ ]*(?:#.*)?\r?\n)*%", text):
        place = Position(file, directive.group().count("\n") + 1, 1)
        detail = "Directives (`%…`) have no use here."
        raise ConfigError(quoting(text, place, "FC1014", detail))
    import ruamel.yaml.error  # noqa: PLC0415 (a rollback works without)

    yaml = ruamel.yaml.YAML(typ="safe", pure=True)
    yaml.version = (1, 2)
    scalar = _slow_scalar(yaml.constructor)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an anchor used again: YAML allows it
            return _build(yaml.compose(text), scalar, file, text)
    except RecursionError:
        refuse_depth(file)
    except (ruamel.yaml.error.YAMLError, _RefusedError) as error:
        raise _explained(error, text, file) from None


_TEXT_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("str", "timestamp", "value", "merge")}
_SCALAR_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float")}
_MERGE = "tag:yaml.org,2002:merge"


def _slow_scalar(constructor: Any) -> Callable[[Any], Any]:
    def scalar(node: Any) -> Any:
        if node.tag in _TEXT_TAGS:  # dates stay text: YAML 1.2's core schema has none
            return node.value
        if node.tag not in _SCALAR_TAGS:
            raise _RefusedError(f"tag {node.tag}", node.start_mark, "unsupported")
        problem = f"`{node.value[:40]}` is not a {node.tag.rpartition(':')[2]}"
        try:
            value = constructor.construct_object(node)
        except (ValueError, TypeError, KeyError, IndexError):
            raise _RefusedError(problem, node.start_mark) from None
        if type(value) is int and abs(value) >= 10**_MOST_DIGITS:
            raise _RefusedError(f"{problem} of at most {_MOST_DIGITS} digits", node.start_mark)
        return value

    return scalar


class _Builder:
    """Turns nodes of either library into values and marks, and collects bad keys."""

    def __init__(self, scalar: Callable[[Any], Any], file: str, text: str) -> None:
        self.scalar, self.file, self.text = scalar, file, text
        self.problems: list[Diagnostic] = []
        self.nodes = 0

    def build(self, node: Any, depth: int = 0) -> tuple[Any, Marks]:
        """Return value and marks of a node."""
        self.nodes += 1
        if depth > MAX_DEPTH or self.nodes > MAX_VALUES:
            refuse_depth(self.file)
        kind = node.id
        if kind == "scalar":
            start = node.start_mark
            return self.scalar(node), (start.line + 1) * _COLUMNS + start.column + 1
        if node.tag is not None and node.tag not in _COLLECTION_TAGS:
            self.scalar(node)  # refuses the tag
        if kind == "sequence":
            built = [self.build(pair, depth + 1) for pair in node.value]
            return [value for value, _ in built], [marks for _, marks in built]
        return self._map(node, depth + 1)

    def _map(self, node: Any, depth: int) -> tuple[dict[str, Any], Marks]:
        value: dict[str, Any] = {}
        marks: dict[str, Any] = {}
        merged: list[Any] = []
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE:
                merged += value_node.value if value_node.id == "sequence" else [value_node]
                continue
            start = key_node.start_mark
            key = self.scalar(key_node) if key_node.id == "scalar" else None
            if type(key) is not str:
                self._bad_key(key_node, [*value.values()][-1:])
                continue
            where = (start.line + 1) * _COLUMNS + start.column + 1
            if key in marks:
                self._twice(key, where, marks[key][0])
            child, child_marks = self.build(value_node, depth)
            if value_node.id == "scalar" and not value_node.value and not value_node.style:
                child_marks = where  # nothing is written; the libraries disagree where
            value[key] = child
            marks[key] = [where, child_marks]
        for pair in merged:
            if pair.id != "mapping":
                raise _RefusedError("`<<` takes a map or a list of maps", pair.start_mark)
            inherited, inherited_marks = self.build(pair, depth)
            for key in inherited:
                if key not in value:
                    value[key], marks[key] = inherited[key], inherited_marks[key]
        return value, marks

    def _bad_key(self, node: Any, before: list[Any]) -> None:
        """Report a key that is no text; `before` is the value that stands before, if any."""
        shown = node.value if isinstance(node.value, str) else "…"
        detail = f"YAML reads the key `{shown}` as something other than text."
        hint = f'Quote it: `"{shown}"`.' if shown != "…" else "A key is a single word."
        if shown.isdigit() and before and type(before[0]) is int:
            hint = f'A number has a point, not a comma: `{before[0]}.{shown}`. A key: `"{shown}"`.'
        place = Position(self.file, node.start_mark.line + 1, node.start_mark.column + 1)
        self._report(quoting(self.text, place, "FC1008", detail, hint=hint))

    def _twice(self, key: str, second: int, first: int) -> None:
        detail = f"`{key}` stands twice in the same map; only one of them could take effect."
        also = (("first given at", unmark(first, self.file)),)
        hint, place = "Delete or rename one of them.", unmark(second, self.file)
        self._report(quoting(self.text, place, "FC1002", detail, hint=hint, also=also))

    def _report(self, found: Diagnostic) -> None:
        self.problems.append(found)
        if len(self.problems) >= _PROBLEMS:
            raise ConfigError(*self.problems)


_COLLECTION_TAGS = {"tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"}


def _build(node: Any, scalar: Callable[[Any], Any], file: str, text: str) -> Parsed:
    if node is None or (node.id == "scalar" and node.value == "" and not node.style):
        detail = f"`{file}` declares nothing."
        hint = "Delete the file, or start it with a section such as `clients:`."
        raise ConfigError(diagnostic("FC1005", detail, Position(file, 1, 1), hint=hint))
    if node.id != "mapping":
        place = Position(file, node.start_mark.line + 1, node.start_mark.column + 1)
        kind = "a list" if node.id == "sequence" else "a single value"
        detail = f"`{file}` holds {kind}; a declaration is a map such as `clients: {{…}}`."
        hint = "Begin with a section: `fleet:`, `clients:`, `bases:`, `hosts:` …"
        raise ConfigError(quoting(text, place, "FC1006", detail, hint=hint))
    builder = _Builder(scalar, file, text)
    value, marks = builder.build(node)
    if builder.problems:
        raise ConfigError(*builder.problems)
    return Parsed(value, marks)
