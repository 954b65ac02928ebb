"""Validates a tree against the models: keys and types, all problems at once."""

import re
from collections.abc import Mapping
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from fleet.codes import SUMMARIES, nearest
from fleet.config.merge import Path
from fleet.config.problems import Problem
from fleet.config.scalars.quantities import shown
from fleet.config.schema.fleet import Declarations

_KEY = "[key]"
_ROUNDS = 8


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
            details = error.errors(include_url=False)
            if not findings:  # problems of later rounds are caused by leaving out
                findings = [_finding(detail) for detail in details if not _is_extra(detail)]
            for detail in details:
                remaining = _without(remaining, _prune(detail))
            remaining.setdefault("fleet", "unnamed")
    return None, findings


def _is_extra(error: ErrorDetails) -> bool:
    return error["type"] == "extra_forbidden" and str(error["loc"][-1]).startswith("x-")


def _prune(error: ErrorDetails) -> Path:
    """Return the part to leave out: the value, or the whole map where a key is missing."""
    path = _plain(error["loc"])
    if error["type"] == "missing":
        return path[:-1]
    numbers = [position for position, step in enumerate(path) if isinstance(step, int)]
    return path[: numbers[0]] if numbers else path


def _plain(loc: Path) -> Path:
    return loc[:-1] if loc and loc[-1] == _KEY else loc


def _without(value: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return a copy of the maps along `path`, the last key left out."""
    if not path or path[0] not in value:
        return value
    key = str(path[0])
    copy = dict(value)
    if len(path) > 1 and isinstance(copy[key], dict):
        copy[key] = _without(copy[key], path[1:])
    else:
        del copy[key]
    return copy


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
            annotation = next(
                (argument for argument in get_args(annotation) if argument is not type(None)), None
            )
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
        field = model.model_fields.get(name) if model else None
        hint = f"`{name}`: {field.description}" if field and field.description else ""
        return Problem("FC1004", around, f"{where} has no `{name}`.", hint=hint, at="key")
    return _value_finding(error, path)


_EXPECTED = {
    "dict_type": "a map",
    "model_type": "a map",
    "string_type": "text",
    "tuple_type": "a list",
    "bool_type": "`true` or `false`",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "int_type": "a whole number",
    "float_parsing": "a number",
    "float_type": "a number",
    "string_too_short": "text that is not empty",
    "string_too_long": "text of at most 4096 characters",
}


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
    bounds = [
        f"{words} {context[bound]:g}"
        for bound, words in (("ge", "at least"), ("le", "at most"))
        if bound in context
    ]
    if bounds:
        detail = f"{name} is {written}; it must be {' and '.join(bounds)}."
        return Problem("FC1111", path, detail, hint="Correct the number.")
    expected = _EXPECTED.get(kind, "")
    fault = f" must be {expected}, not {written}" if expected else f": {error['msg']}"
    return Problem("FC1101", path, f"{name}{fault}.", hint=_remedy(kind, given))


def _remedy(kind: str, given: Any) -> str:
    if given is None:
        return "Give it a value, or delete the line."
    if kind == "string_type" and isinstance(given, bool | int | float):
        return f'Quote it: `"{shown(given).strip("`")}"`.'
    if kind == "tuple_type":
        return "Write a list: `[first, second]`."
    if kind in {"dict_type", "model_type"}:
        return "Write a map: `{key: value}`, or keys on indented lines below."
    return "Correct the value."


def _written(value: Any) -> str:
    if value is None:
        return "empty"
    return f"`{shown(value)}`" if isinstance(value, bool) else shown(value)
