"""Declares the sections of the YAML files as models, and writes their JSON Schema for editors.

The docstrings of the models are the texts of the schema.
"""

import json
from typing import Any

from fleet.config.schema.fleet import Declarations


def json_schema() -> str:
    """Return the JSON Schema that every file must obey, as text.

    Nothing is required at the top level, since a fleet is spread over files; `x-` keys
    are allowed in every map, and so are `${…}` placeholders in every value.
    """
    schema = Declarations.model_json_schema(mode="serialization")
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema.pop("required", None)
    for model in [schema, *schema.get("$defs", {}).values()]:
        if model.get("additionalProperties") is False:
            model["patternProperties"] = {"^x-": {}}
            _allow_placeholders(model["properties"])
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


_PLACEHOLDER = {"type": "string", "pattern": r"\$\{(var\.|env:)[A-Za-z_][A-Za-z0-9_]*\}"}
_SCALARS = {"string", "integer", "number", "boolean"}


def _allow_placeholders(properties: dict[str, Any]) -> None:
    for name, entry in properties.items():
        scalar = entry.get("type") in _SCALARS
        constrained = set(entry) & {"pattern", "enum", "minimum", "maximum", "const"}
        if scalar and (constrained or entry["type"] != "string"):
            kept = {key: entry[key] for key in ("title", "description", "default") if key in entry}
            inner = {key: value for key, value in entry.items() if key not in kept}
            properties[name] = {**kept, "anyOf": [inner, _PLACEHOLDER]}
        elif "anyOf" in entry:
            entry["anyOf"].append(_PLACEHOLDER)
