"""Declares the base class of every map of the YAML files, and reads the docstrings of fields.

Fields are described in a JSON Schema and in a hint. Pydantic would parse the source of every model
at each start of a command; here the source is parsed when a text is asked for.
"""

import ast
import inspect
from functools import cache
from itertools import pairwise
from textwrap import dedent

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema


class Section(BaseModel):
    """A map with known keys; keys that begin with `x-` are left to the reader."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler, /
    ) -> JsonSchemaValue:
        schema = handler(core_schema)
        properties = handler.resolve_ref_schema(schema)["properties"]
        for name, text in field_docstrings(cls).items():
            properties[name]["description"] = text
        return schema


@cache
def field_docstrings(model: type[BaseModel]) -> dict[str, str]:
    """Return the docstrings of a model's fields, inherited ones too, by name."""
    found = {}
    for owner in reversed(model.__mro__):
        if not issubclass(owner, Section) or owner is Section:
            continue
        (declared,) = ast.parse(dedent(inspect.getsource(owner))).body
        assert isinstance(declared, ast.ClassDef)
        for field, text in pairwise(declared.body):
            match field, text:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str(docstring))),
                ):
                    found[name] = inspect.cleandoc(docstring)
                case _:
                    pass
    return found
