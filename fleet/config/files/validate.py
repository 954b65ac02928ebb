"""Defines `Problem`, a mistake in a declaration; validates a tree against the models.

All problems of keys and types are found at once.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice, takewhile
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from fleet.codes import SUMMARIES, nearest
from fleet.config.files.merge import Path, Tree, quoting
from fleet.config.scalars.quantities import shown
from fleet.config.scalars.texts import version_hint
from fleet.config.schema.fleet import Declarations
from fleet.config.schema.section import field_docstrings
from fleet.errors import Diagnostic, Position


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem at a path of the declarations, before its place is looked up."""

    code: str
    path: Path
    detail: str
    hint: str = ""
    command: str = ""
    at: Literal["key", "value"] = "value"
    """The target of the place: the value, or the key itself."""
    also: tuple[tuple[str, Path], ...] = ()
    severity: Literal["error", "warning"] = "error"


def diagnostics(findings: Iterable[Problem], tree: Tree) -> tuple[Diagnostic, ...]:
    """Give findings their places and source lines, sorted by place.

    A line that holds a secret is never quoted.
    """
    problems = list(findings)
    secret = {
        (place.file, place.line)
        for problem in problems
        if problem.code == "FC1110" and (place := tree.place(problem.path))
    }
    shown = [_diagnostic(problem, tree, secret) for problem in problems]
    nowhere = Position("", 0, 0)
    return tuple(sorted(shown, key=lambda made: (made.place or nowhere, made.code, made.detail)))


def _diagnostic(problem: Problem, tree: Tree, secret: set[tuple[str, int]]) -> Diagnostic:
    detail, hint = problem.detail, problem.hint
    place = tree.place(problem.path, of_key=problem.at == "key")
    if problem.code == "FC1103":  # the number as written can only be read from the source
        line = tree.sources.line(place) if place else ""
        written = line[place.column - 1 :].split(" #")[0].rstrip(" ,}") if place else detail
        reads = detail if "." in detail else int(float(detail))
        detail = f"You wrote {written}, YAML reads it as the number {reads}; quote it."
        hint = version_hint(written)
    detail, hint = map(tree.sources.unfilled, (detail, hint))
    also = tuple(
        (label, spot) for label, path in problem.also if (spot := tree.place(path, of_key=True))
    )
    result = quoting(
        tree.sources, problem.code, detail, place,
        hint=hint, command=problem.command, also=also, severity=problem.severity,
    )  # fmt: skip
    if place and (place.file, place.line) in secret:
        result = replace(result, source="")
    paths = (problem.path, *(path for _, path in problem.also))
    if problem.path[:1] == ("clients",):
        subjects = (path[1:] for path in paths if path[:1] == ("clients",) and path[1:])
        return replace(result, subjects=tuple(".".join(map(str, path)) for path in subjects))
    return result


_KEY = "[key]"
_ROUNDS = 8
_MOST_PROBLEMS = 1000
"""Upper bound of wrong keys and values that are told; beyond, nothing is checked further."""
_PART = 1000
"""Entries of a section that are validated at a time where a tree has more errors than are told."""


def check_shape(value: Mapping[str, Any]) -> tuple[Declarations | None, list[Problem]]:
    """Validate the merged values.

    Wrong values are reported and left out, so that the rest can be checked further.

    Returns:
        The declarations without wrong values (None when too little is left), and the problems.
    """
    findings: list[Problem] = []
    remaining = dict(value)
    for _ in range(_ROUNDS):
        try:
            return Declarations.model_validate(remaining), findings
        except ValidationError as error:
            few = error.error_count() <= _MOST_PROBLEMS
            details = error.errors(include_url=False) if few else []
        if not few:
            details = _by_parts(remaining)
        wrong = [detail for detail in details if not _is_free(detail)]
        if len(wrong) >= _MOST_PROBLEMS:
            return None, [_finding(detail) for detail in wrong[:_MOST_PROBLEMS]]
        if not findings:  # problems of later rounds are caused by leaving out
            findings = [_finding(detail) for detail in wrong]
        remaining = _without(remaining, map(_prune, details))
        remaining.setdefault("fleet", "unnamed")
    return None, findings


def _is_free(detail: ErrorDetails) -> bool:
    """Say whether an error is about a key that is left to the reader."""
    return detail["type"] == "extra_forbidden" and str(detail["loc"][-1]).startswith("x-")


def _by_parts(value: Mapping[str, Any]) -> list[ErrorDetails]:
    """Return errors until enough are wrong: the errors of all would take much memory."""
    details: list[ErrorDetails] = []
    wrong = 0
    for part in _parts(value):
        try:
            Declarations.model_validate(part)
        except ValidationError as error:
            found = error.errors(include_url=False)
            wrong += len(found) - sum(map(_is_free, found))
            details += found
        if wrong >= _MOST_PROBLEMS:
            break
    return details


def _parts(value: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the name of the fleet, and everything else in parts of at most `_PART` entries."""
    yield {key: item for key, item in value.items() if key == "fleet"}
    single = {key: item for key, item in value.items() if not isinstance(item, dict)}
    single.pop("fleet", None)
    for part in _slices(single):
        yield {"fleet": "unnamed", **part}
    for key, item in value.items():
        if isinstance(item, dict) and key != "fleet":
            for part in _slices(item):
                yield {"fleet": "unnamed", key: part}


def _slices(entries: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    rest = iter(entries.items())
    while part := dict(islice(rest, _PART)):
        yield part


def _prune(error: ErrorDetails) -> Path:
    """Return the part to leave out: the value, or the whole map where a key is missing."""
    path = _plain(error["loc"])
    if error["type"] == "missing":
        return path[:-1]
    return tuple(takewhile(lambda step: not isinstance(step, int), path))


def _plain(loc: Path) -> Path:
    return loc[:-1] if loc and loc[-1] == _KEY else loc


def _without(value: Mapping[str, Any], paths: Iterable[Path]) -> dict[str, Any]:
    """Return a tree without the values at the paths."""
    left_out: dict[str, list[Path]] = {}
    for path in paths:
        if path:
            left_out.setdefault(str(path[0]), []).append(path[1:])
    rest = dict(value)
    for key, inner in left_out.items():
        item = value.get(key)
        if all(inner) and isinstance(item, dict):
            rest[key] = _without(item, inner)
        else:
            rest.pop(key, None)
    return rest


def model_at(path: Path) -> type[BaseModel] | None:
    """Return the model of the map at `path`; None where names are free or there is no map."""
    annotation: Any = Declarations
    for step in path:
        if model := _model(annotation):
            field = model.model_fields.get(str(step))
            annotation = field.annotation if field else None
        elif get_origin(annotation) in {dict, tuple}:
            annotation = get_args(annotation)[-1 if get_origin(annotation) is dict else 0]
        if get_origin(annotation) in {Union, UnionType}:
            annotation = next((arg for arg in get_args(annotation) if arg is not NoneType), None)
    return _model(annotation)


def _model(annotation: Any) -> type[BaseModel] | None:
    fits = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return annotation if fits else None


def _finding(error: ErrorDetails) -> Problem:
    kind, loc = error["type"], error["loc"]
    path = _plain(loc)
    context = error.get("ctx", {})
    if kind in SUMMARIES:
        detail, hint = str(context["detail"]), str(context["hint"])
        return Problem(kind, path, detail, hint=hint, at="key" if path != loc else "value")
    name, around = str(path[-1]) if path else "", path[:-1]
    where = f"`{'.'.join(map(str, around))}`" if around else "the fleet"
    model = model_at(around)
    if kind == "extra_forbidden":
        choices = sorted(model.model_fields) if model else []
        hint = nearest(name, tuple(choices)) or f"Known here: {', '.join(choices)}."
        more = " A key of your own begins with `x-`."
        return Problem("FC1003", path, f"{where} takes no `{name}`.{more}", hint=hint, at="key")
    if kind == "missing":
        text = field_docstrings(model).get(name) if model else None
        hint = f"`{name}`: {text}" if text else ""
        return Problem("FC1004", around, f"{where} has no `{name}`.", hint=hint, at="key")
    return _value_finding(error, path)


_MAP = ("a map", "Write a map: `{key: value}`, or keys on indented lines below.")
_NUMBER = ("a whole number", "")
_EXPECTED = {
    "dict_type": _MAP,
    "model_type": _MAP,
    "string_type": ("text", ""),
    "tuple_type": ("a list", "Write a list: `[first, second]`."),
    "bool_type": ("`true` or `false`", ""),
    "int_parsing": _NUMBER,
    "int_from_float": _NUMBER,
    "int_type": _NUMBER,
    "float_parsing": ("a number", ""),
    "float_type": ("a number", ""),
    "string_too_short": ("text that is not empty", ""),
    "string_too_long": ("text of at most 4096 characters", ""),
}
"""Wording of the right kind of value, and the remedy, by the type of pydantic's error."""


def _value_finding(error: ErrorDetails, path: Path) -> Problem:
    kind, given = error["type"], error["input"]
    context = error.get("ctx", {})
    written = _written(given)
    name = f"`{'.'.join(map(str, path))}`"
    if kind == "literal_error":
        choices = [choice.strip("' ") for choice in re.split(" or |,", str(context["expected"]))]
        near = nearest(str(given), tuple(choices))
        hint = near or f"Write one of: {', '.join(choices)}."
        return Problem("FC1112", path, f"{name} cannot be {written}.", hint=hint)
    limits = {"ge": "at least", "le": "at most"}
    if bounds := [f"{limits[bound]} {context[bound]:g}" for bound in limits if bound in context]:
        detail = f"{name} is {written}; it must be {' and '.join(bounds)}."
        return Problem("FC1111", path, detail, hint="Correct the number.")
    expected, remedy = _EXPECTED.get(kind, ("", ""))
    fault = f" must be {expected}, not {written}" if expected else f": {error['msg']}"
    if given is None:
        remedy = "Give it a value, or delete the line."
    elif kind == "dict_type" and isinstance(given, list) and given:
        remedy = f"Write every name as a key, with its settings: `{path[-1]}: {{NAME: {{…}}}}`."
    elif kind == "string_type" and isinstance(given, bool | int | float):
        remedy = f'Quote it: `"{shown(given).strip("`")}"`.'
    return Problem("FC1101", path, f"{name}{fault}.", hint=remedy or "Correct the value.")


def _written(value: Any) -> str:
    if value is None:
        return "empty"
    return f"`{shown(value)}`" if isinstance(value, bool) else shown(value)
