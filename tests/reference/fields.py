"""The page of the fields of the YAML files, from the models and the schema that is printed."""

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from fleet.config import Declarations, check_shape, json_schema, parse
from tests.reference.page import table
from tests.reference.types_in_words import in_words, unit

EXAMPLES = (
    Path(__file__).parents[1] / "attacks" / "rich.yaml",
    Path(__file__).with_name("examples.yaml"),
)
"""Declarations that hold every field."""
UNIT = re.compile(r" ?Unit: ([^.;]+)\.")
DEFAULT = re.compile(r"[Dd]efault(?: \(`ssh`\))?: (.+?)(?:\.(?=\s|$)|;|$)", re.DOTALL)
HEAD = """# Fields

Every field of `fleet.yaml`, `clients/*.yaml` and `env/*.yaml`, as `fleetctl schema` prints them for
editors. All files together are one map, the [fleet](#fleet); each section below is a map inside.
Keys that begin with `x-` are left to you, and `${var.NAME}` or `${env:NAME}` may stand for any
single value. `fleetctl config show --origin` prints the values in force, and where each comes from.

A default in words is made from other values. A duration is a number with its unit, such as `90s`,
`30m`, `24h`, `7d`; a name has small letters, digits and single underscores; the currency is
`costs.currency`.
"""


@cache
def schema() -> dict[str, Any]:
    """Return the schema as it is printed."""
    return dict(json.loads(json_schema()))


@cache
def sections() -> dict[type[BaseModel], list[str]]:
    """Return all models with the paths at which they stand, in the order of the models."""
    found: dict[type[BaseModel], list[str]] = {}

    def visit(model: type[BaseModel], path: str) -> None:
        found.setdefault(model, []).append(path)
        for name, field in model.model_fields.items():
            for inner, is_map in _models(field.annotation):
                visit(inner, f"{path}.{name}{'.NAME' if is_map else ''}".lstrip("."))

    visit(Declarations, "")
    return found


def _models(hint: Any, *, is_map: bool = False) -> Iterator[tuple[type[BaseModel], bool]]:
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        yield hint, is_map
    for inner in get_args(hint):
        mapping = str(hint).startswith(("dict", "collections.abc.Mapping"))
        yield from _models(inner, is_map=is_map or mapping)


@cache
def examples() -> dict[type[BaseModel], dict[str, Any]]:
    """Return an example of every field by model, from declarations that have the right form."""
    found: dict[type[BaseModel], dict[str, Any]] = {}

    def visit(model: Any, given: Any) -> None:
        if isinstance(model, BaseModel):
            for name in type(model).model_fields:
                if name in given:
                    found.setdefault(type(model), {}).setdefault(name, given[name])
                    visit(getattr(model, name), given[name])
        elif isinstance(model, dict):
            for name, inner in model.items():
                visit(inner, given[name])

    for path in EXAMPLES:
        document = parse(path.read_text("utf-8"), path.name).value
        declared, problems = check_shape(document)
        assert declared is not None, problems
        visit(declared, document)
    return found


PLAIN = re.compile(r"[A-Za-z/.][\w./-]*( [\w.-]+)*|[0-9]+([.]?[0-9]+)?[A-Za-z%]+")
"""Texts that need no quotes, unless YAML reads another value."""


def flow(value: Any) -> str:
    """Return a value as YAML in a line."""
    match value:
        case bool() | None:
            return json.dumps(value)
        case dict():
            return "{" + ", ".join(f"{key}: {flow(item)}" for key, item in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(flow, value)) + "]"
        case str():
            is_plain = PLAIN.fullmatch(value) and parse(f"a: {value}", "").value == {"a": value}
            return value if is_plain else json.dumps(value)
        case _:
            return str(value)


def default(model: type[BaseModel], name: str, text: str) -> str:
    """Return the default of a field as YAML, or in the words of its description."""
    if model.model_fields[name].is_required():
        return "required"
    value = model.model_construct().model_dump(mode="json", include={name}, warnings=False)[name]
    if said := DEFAULT.search(text):
        return said[1].replace("\n", " ")
    if isinstance(value, dict) and value:
        return "see there"
    return "none" if value in (None, {}, []) else f"`{flow(value)}`"


def rows(model: type[BaseModel]) -> list[tuple[str, ...]]:
    """Return field, type, default, unit, example and meaning of the fields of a model."""
    defs = schema()["$defs"]
    its = schema() if model is Declarations else defs[model.__name__]
    found: list[tuple[str, ...]] = []
    for name, entry in its["properties"].items():
        text = entry.get("description", "")
        said = UNIT.search(text)
        example = examples().get(model, {}).get(name)
        is_section = any(True for _ in _models(model.model_fields[name].annotation))
        shown = "" if is_section else "?" if example is None else f"`{name}: {flow(example)}`"
        found.append(
            (
                f"`{name}`",
                in_words(entry, defs),
                default(model, name, text),
                said[1] if said else unit(entry),
                shown,
                " ".join(UNIT.sub("", text).split()),
            )
        )
    return found


def page() -> str:
    """Return the page."""
    lines = [HEAD]
    for model, paths in sections().items():
        title = "Fleet" if model is Declarations else model.__name__
        its = schema() if model is Declarations else schema()["$defs"][model.__name__]
        lines += [f"## {title}", ""]
        if paths[0]:
            lines += [f"At `{'`, `'.join(paths)}`. {its['description']}", ""]
        else:
            lines += [its["description"], ""]
        lines += [*table("field | type | default | unit | example | meaning", rows(model)), ""]
    return "\n".join(lines).rstrip() + "\n"
